//! IKEv2 messages (RFC 7296): one file per payload family, each with decode and encode side by side.
//! Nothing here knows keys, policy or state. Invariant: `encode(decode(m)) == m` for every canonical message,
//! that is one with zero in its reserved fields.

mod auth;
mod cert;
mod cp;
mod delete;
mod describe;
mod eap;
mod header;
mod id;
mod ke;
mod message;
mod nonce;
mod notify;
mod numbers;
mod payload;
mod redirect;
mod sa;
mod sk;
#[cfg(test)]
mod tests;
mod ts;
mod vendor;

pub use cp::{CfgAttribute, Configuration, MAX_CFG_ATTRIBUTES};
pub use delete::{Delete, MAX_DELETED};
pub use describe::{describe, describe_payloads};
pub use eap::EapMessage;
pub use header::{Flags, HEADER_LENGTH, Header, VERSION_2_0};
pub use id::Identification;
pub use message::{MAX_PAYLOADS, Message, decode_chain, encode_chain};
pub use nonce::{MAX_NONCE, MIN_NONCE};
pub use notify::{MAX_COOKIE, Notify};
pub use numbers::{
    AttributeType, AuthMethod, CertEncoding, CfgAttributeType, CfgType, EapCode, EncryptionId, ExchangeType, IdType, IntegrityId,
    KeyExchangeId, NotifyType, PayloadType, PrfId, ProtocolId, SequenceNumbersId, TransformType, TsType,
};
pub use payload::Payload;
pub use redirect::{GatewayIdentity, Redirect};
pub use sa::{Attribute, AttributeValue, MAX_ATTRIBUTES, MAX_PROPOSALS, Proposal, Transform};
pub use sk::{EncryptedFragment, EncryptedPayload, encrypted_prefix, fragment_prefix};
pub use ts::{AddressSelector, MAX_SELECTORS, TrafficSelector};
