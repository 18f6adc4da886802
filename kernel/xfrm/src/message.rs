//! NETLINK_XFRM message and attribute numbers, and messages as a whole: written by neli, taken apart with our own length checks because
//! neli's reading of headers and errors subtracts lengths that it has not checked.
//! Invariant: no octets from a descriptor reach neli before their length is known to hold.

use std::io::Cursor;

use neli::consts::nl::{NlType, NlmF};
use neli::consts::rtnl::RtaType;
use neli::err::SerError;
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::types::{Buffer, RtBuffer};
use neli::{FromBytesWithInput, Size, ToBytes, neli_enum};
use watari_policies::Secret;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `XFRM_MSG_*`, and the two control messages that answer a request.
#[neli_enum(serialized_type = "u16")]
pub(crate) enum XfrmMsg {
    Error = 2,
    Done = 3,
    NewSa = 0x10,
    DelSa = 0x11,
    GetSa = 0x12,
    NewPolicy = 0x13,
    DelPolicy = 0x14,
    GetPolicy = 0x15,
    AllocSpi = 0x16,
    Acquire = 0x17,
    Expire = 0x18,
    UpdPolicy = 0x19,
    UpdSa = 0x1a,
    PolExpire = 0x1b,
    FlushSa = 0x1c,
    FlushPolicy = 0x1d,
    Migrate = 0x21,
}

impl NlType for XfrmMsg {}

/// `XFRMA_*`.
#[neli_enum(serialized_type = "u16")]
pub(crate) enum Xfrma {
    AlgAuth = 1,
    AlgCrypt = 2,
    Encap = 4,
    Tmpl = 5,
    Policy = 7,
    Coaddr = 14,
    LastUsed = 15,
    PolicyType = 16,
    Migrate = 17,
    AlgAead = 18,
    KmAddress = 19,
    AlgAuthTrunc = 20,
    ReplayEsnVal = 23,
}

impl RtaType for Xfrma {}

const HEADER: usize = 16;
/// NLMSGERR_ATTR_MSG.
const ACK_TEXT: u16 = 1;

/// An attribute to be sent: plain octets, then key material that stays a `Secret` until the message is written.
#[derive(Debug)]
pub(crate) struct Attribute {
    kind: Xfrma,
    plain: Vec<u8>,
    key: Option<Secret>,
}

impl Attribute {
    /// An attribute of plain octets.
    pub(crate) fn new(kind: Xfrma, payload: &(impl IntoBytes + Immutable + ?Sized)) -> Self {
        Self { kind, plain: payload.as_bytes().to_vec(), key: None }
    }

    /// An attribute that ends in a key.
    pub(crate) fn keyed(kind: Xfrma, plain: Vec<u8>, key: &Secret) -> Self {
        Self { kind, plain, key: Some(key.clone()) }
    }

    fn key_octets(&self) -> &[u8] {
        self.key.as_ref().map_or(&[], Secret::expose)
    }
}

impl Size for Attribute {
    fn unpadded_size(&self) -> usize {
        4_usize.saturating_add(self.plain.len()).saturating_add(self.key_octets().len())
    }
}

impl ToBytes for Attribute {
    fn to_bytes(&self, buffer: &mut Cursor<Vec<u8>>) -> Result<(), SerError> {
        u16::try_from(self.unpadded_size()).map_err(|_| SerError::new("attribute longer than 65535 octets"))?.to_bytes(buffer)?;
        self.kind.to_bytes(buffer)?;
        self.plain.as_slice().to_bytes(buffer)?;
        self.key_octets().to_bytes(buffer)?;
        self.pad(buffer)
    }
}

/// What follows the header of a request: the fixed part and its attributes.
#[derive(Debug)]
pub(crate) struct Body {
    fixed: Vec<u8>,
    attributes: Vec<Attribute>,
}

impl Body {
    /// No body, as in a dump request.
    pub(crate) const EMPTY: Self = Self { fixed: Vec::new(), attributes: Vec::new() };

    /// A fixed part (its length a multiple of 4) and attributes.
    pub(crate) fn new(fixed: &(impl IntoBytes + Immutable), attributes: Vec<Attribute>) -> Self {
        Self { fixed: fixed.as_bytes().to_vec(), attributes }
    }
}

impl Size for Body {
    fn unpadded_size(&self) -> usize {
        self.attributes.iter().map(Size::padded_size).fold(self.fixed.len(), usize::saturating_add)
    }
}

impl ToBytes for Body {
    fn to_bytes(&self, buffer: &mut Cursor<Vec<u8>>) -> Result<(), SerError> {
        self.fixed.as_slice().to_bytes(buffer)?;
        self.attributes.iter().try_for_each(|attribute| attribute.to_bytes(buffer))
    }
}

/// A request ready to be given a sequence number.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Message type.
    pub(crate) kind: XfrmMsg,
    /// Flags beyond NLM_F_REQUEST.
    pub(crate) flags: NlmF,
    /// Fixed part and attributes.
    pub(crate) body: Body,
}

impl Outgoing {
    /// The octets of the request. They hold its keys, if it has any, and are written into one allocation of the right size.
    pub(crate) fn into_octets(self, seq: u32, port: u32) -> Result<Vec<u8>, String> {
        let size = self.body.padded_size().saturating_add(HEADER);
        let message = NlmsghdrBuilder::default()
            .nl_type(self.kind)
            .nl_flags(NlmF::REQUEST | self.flags)
            .nl_seq(seq)
            .nl_pid(port)
            .nl_payload(NlPayload::Payload(self.body))
            .build()
            .map_err(|error| error.to_string())?;
        let mut cursor = Cursor::new(Vec::with_capacity(size));
        message.to_bytes(&mut cursor).map_err(|error| error.to_string())?;
        Ok(cursor.into_inner())
    }
}

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable)]
#[repr(C)]
struct RawHeader {
    len: u32,
    kind: u16,
    flags: u16,
    seq: u32,
    pid: u32,
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    /// Message type.
    pub(crate) kind: XfrmMsg,
    /// NLM_F_*.
    pub(crate) flags: u16,
    /// Sequence number of the request it answers; in events of the request that caused it.
    pub(crate) seq: u32,
    /// Port that the requester wrote into its request.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) body: &'a [u8],
    /// The whole message.
    pub(crate) octets: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// Takes the first message off a datagram; the rest is what follows it.
    pub(crate) fn first(octets: &'a [u8]) -> Result<(Self, &'a [u8]), String> {
        let (header, _) = RawHeader::read_from_prefix(octets).map_err(|_| format!("{} octets are no netlink header", octets.len()))?;
        let len = header.len as usize;
        let (Some(message), Some(body)) = (octets.get(..len), octets.get(HEADER..len)) else {
            return Err(format!("netlink length {len} in a datagram of {} octets", octets.len()));
        };
        let rest = octets.get(len.next_multiple_of(4)..).unwrap_or_default();
        let kind = XfrmMsg::from(header.kind);
        Ok((Self { kind, flags: header.flags, seq: header.seq, port: header.pid, body, octets: message }, rest))
    }

    /// Whether a flag is set.
    pub(crate) fn has(&self, flag: NlmF) -> bool {
        self.flags & u16::from(flag) != 0
    }

    /// The fixed part and the attributes behind it.
    pub(crate) fn fixed<T: FromBytes>(&self) -> Result<(T, Attributes), String> {
        let (fixed, rest) =
            T::read_from_prefix(self.body).map_err(|_| format!("body of {} octets, {} needed", self.body.len(), size_of::<T>()))?;
        Ok((fixed, Attributes::read(rest)?))
    }

    /// The result in an NLMSG_ERROR or NLMSG_DONE message: errno, positive or 0, and the kernel's explanation.
    pub(crate) fn result(&self) -> Result<(i32, String), String> {
        let (code, rest) = i32::read_from_prefix(self.body).map_err(|_| "no result code".to_owned())?;
        let rest = if self.kind == XfrmMsg::Done {
            rest
        } else {
            let (request, _) = RawHeader::read_from_prefix(rest).map_err(|_| "no request header behind the result code".to_owned())?;
            let quoted = if self.has(NlmF::CAPPED) { HEADER } else { (request.len as usize).next_multiple_of(4) };
            rest.get(quoted..).unwrap_or_default()
        };
        let text = if self.has(NlmF::ACK_TLVS) { explanation(rest) } else { None };
        Ok((code.saturating_neg(), text.unwrap_or_default()))
    }

    /// The octets for a log: cut to `limit`, and before anything that may be a key.
    pub(crate) fn loggable(octets: &[u8], limit: usize) -> Vec<u8> {
        let kind = RawHeader::read_from_prefix(octets).map_or(0, |(header, _)| header.kind);
        let public = match XfrmMsg::from(kind) {
            XfrmMsg::NewSa | XfrmMsg::UpdSa => HEADER + size_of::<crate::layout::UserSaInfo>(),
            XfrmMsg::DelSa => HEADER + size_of::<crate::layout::UserSaId>(),
            // An error quotes the request, which may have been an SA with its keys.
            XfrmMsg::Error => HEADER + 4 + HEADER,
            _ => limit,
        };
        octets.get(..public.min(limit)).unwrap_or(octets).to_vec()
    }
}

/// The kernel's words in an extended acknowledgement. A damaged one only costs the words.
fn explanation(octets: &[u8]) -> Option<String> {
    let attributes = RtBuffer::<u16, Buffer>::from_bytes_with_input(&mut Cursor::new(octets), octets.len()).ok()?;
    let text = attributes.iter().find(|attribute| *attribute.rta_type() == ACK_TEXT)?;
    Some(String::from_utf8_lossy(text.rta_payload().as_ref()).trim_end_matches('\0').to_owned())
}

/// The attributes of a received message, unknown ones among them.
#[derive(Debug)]
pub(crate) struct Attributes(RtBuffer<Xfrma, Buffer>);

impl Attributes {
    fn read(octets: &[u8]) -> Result<Self, String> {
        RtBuffer::from_bytes_with_input(&mut Cursor::new(octets), octets.len()).map(Self).map_err(|error| format!("attributes: {error}"))
    }

    /// Every attribute of a kind, in order.
    pub(crate) fn all(&self, kind: Xfrma) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |attribute| *attribute.rta_type() == kind).map(|attribute| attribute.rta_payload().as_ref())
    }

    /// The first attribute of a kind, as a structure; an attribute that is too short is an error.
    pub(crate) fn one<T: FromBytes>(&self, kind: Xfrma) -> Result<Option<T>, String> {
        self.all(kind).next().map(|octets| read(kind, octets)).transpose()
    }

    /// Whether an attribute of a kind is there.
    pub(crate) fn has(&self, kind: Xfrma) -> bool {
        self.all(kind).next().is_some()
    }

    /// Every structure of an array attribute, be it one attribute for all or one for each.
    pub(crate) fn array<T: FromBytes>(&self, kind: Xfrma) -> Result<Vec<T>, String> {
        self.all(kind).flat_map(|octets| octets.chunks(size_of::<T>().max(1))).map(|octets| read(kind, octets)).collect()
    }
}

fn read<T: FromBytes>(kind: Xfrma, octets: &[u8]) -> Result<T, String> {
    T::read_from_prefix(octets)
        .map(|(value, _)| value)
        .map_err(|_| format!("attribute {kind:?} of {} octets, {} needed", octets.len(), size_of::<T>()))
}
