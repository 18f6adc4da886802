//! Appends fields in network order and fills length fields in afterwards.
//! Invariant: a length that does not fit its field saturates; the peer then refuses the message, nobody panics.

/// Bytes of a message under construction.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

/// Where a length field of two octets stands, and where what it counts begins.
#[derive(Debug)]
#[must_use]
pub(crate) struct LengthField {
    field: usize,
    from: usize,
}

impl Writer {
    /// Octets written so far.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// A count or size in one octet.
    pub(crate) fn count8(&mut self, count: usize) {
        self.u8(u8::try_from(count).unwrap_or(u8::MAX));
    }

    /// A count or size in two octets.
    pub(crate) fn count16(&mut self, count: usize) {
        self.u16(u16::try_from(count).unwrap_or(u16::MAX));
    }

    /// Leaves room for a two-octet length that counts from position `from`.
    pub(crate) fn length16(&mut self, from: usize) -> LengthField {
        let field = self.len();
        self.u16(0);
        LengthField { field, from }
    }

    /// Fills in a length; everything written since `from` counts.
    pub(crate) fn close(&mut self, length: &LengthField) {
        let counted = self.len().saturating_sub(length.from);
        let value = u16::try_from(counted).unwrap_or(u16::MAX);
        self.patch(length.field, &value.to_be_bytes());
    }

    /// Overwrites octets written before.
    pub(crate) fn patch(&mut self, at: usize, value: &[u8]) {
        let end = at.saturating_add(value.len());
        if let Some(field) = self.bytes.get_mut(at..end) {
            field.copy_from_slice(value);
        }
    }

    /// The finished bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
