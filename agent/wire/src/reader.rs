//! A bounds-checked cursor over received bytes that knows where in the message it stands.
//! Invariant: no read past the end, no panic; every failure carries its offset in the message.

use crate::error::{Malformed, Why};

/// Cursor over the bytes of one structure; `payload` names the structure in errors.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
    payload: &'static str,
}

impl<'a> Reader<'a> {
    /// A cursor over `bytes` whose first octet stands at `offset` in the message.
    pub(crate) const fn new(bytes: &'a [u8], offset: usize, payload: &'static str) -> Self {
        Self { rest: bytes, offset, payload }
    }

    /// Octets from the start of the message to the next octet to be read.
    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    /// Octets not read yet.
    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything was read.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` octets.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.fail(Why::Truncated { needed: count, left: self.rest.len() }));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(count);
        Ok(taken)
    }

    /// The next `N` octets as an array.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.fail(Why::Truncated { needed: N, left: self.rest.len() }));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(N);
        Ok(*taken)
    }

    /// Everything that is left.
    pub(crate) const fn rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.offset = self.offset.saturating_add(rest.len());
        self.rest = &[];
        rest
    }

    /// A cursor over the next `count` octets, named `payload` in errors.
    pub(crate) fn inner(&mut self, count: usize, payload: &'static str) -> Result<Reader<'a>, Malformed> {
        let offset = self.offset;
        let bytes = self.take(count).map_err(|error| Malformed { payload, ..error })?;
        Ok(Reader::new(bytes, offset, payload))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Fails unless everything was read.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.fail(Why::Trailing(self.rest.len()))) }
    }

    /// A failure at the next octet to be read.
    pub(crate) const fn fail(&self, why: Why) -> Malformed {
        self.fail_at(self.offset, why)
    }

    /// A failure at a field that was read already.
    pub(crate) const fn fail_at(&self, offset: usize, why: Why) -> Malformed {
        Malformed { offset, payload: self.payload, why }
    }
}
