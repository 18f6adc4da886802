//! What a kernel can be asked, and its answers.

use std::fmt;

use watari_policies::{Direction, Mode, Reqid, Selector};

use crate::errno::in_words;
use crate::table::Table;
use crate::{Endpoints, PolicyEntry, PolicyKind, SaId, SaInfo, SaParameters, Spi};
use watari_policies::Protocol;

/// What a kernel can be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum KernelRequest {
    /// Reserve an inbound SPI; answered by `KernelReply::Spi`.
    AllocateSpi {
        /// Addresses of the inbound SA.
        endpoints: Endpoints,
        /// IPsec protocol.
        protocol: Protocol,
        /// Mode.
        mode: Mode,
        /// Reqid of the inbound SA.
        reqid: Reqid,
    },
    /// Install an SA. An inbound SA whose SPI was allocated takes that larval state's place.
    AddSa {
        /// The SA.
        parameters: Box<SaParameters>,
        /// Whether the SPI was allocated before (inbound): the back end then updates instead of adding.
        allocated: bool,
        /// Sequence number of the ACQUIRE it answers, so that the larval state goes away; 0 for none.
        sequence: u32,
    },
    /// Remove an SA; removing one that is absent is no error.
    DeleteSa(SaId),
    /// Say that the SA which an ACQUIRE asked for could not be negotiated (RFC 2367 3.1.6). KAME takes it; netlink XFRM has no such
    /// request, and Linux does the wrong thing with PF_KEY's, so that nothing is sent there. Always answered by `Done`.
    RefuseAcquire {
        /// The ACQUIRE's sequence number.
        sequence: u32,
    },
    /// Read one SA; answered by `KernelReply::Sa`.
    QuerySa(SaId),
    /// Read every SA and Mobile IPv6 state; answered by `KernelReply::Sas`.
    DumpSas,
    /// Add a policy or replace the one with the same selector, direction and kind.
    SetPolicy(PolicyEntry),
    /// Remove a policy; removing one that is absent is no error.
    DeletePolicy {
        /// Selector.
        selector: Selector,
        /// Direction.
        direction: Direction,
        /// Policy set.
        kind: PolicyKind,
    },
    /// Read every policy; answered by `KernelReply::Policies`.
    DumpPolicies,
}

impl KernelRequest {
    /// What is asked, in words.
    #[must_use]
    pub const fn in_words(&self) -> &'static str {
        match self {
            Self::AllocateSpi { .. } => "reserve an SPI",
            Self::AddSa { .. } => "install an SA",
            Self::DeleteSa(_) => "remove an SA",
            Self::QuerySa(_) => "read an SA",
            Self::RefuseAcquire { .. } => "refuse an ACQUIRE",
            Self::DumpSas => Table::Sas.request(),
            Self::SetPolicy(_) => "install a policy",
            Self::DeletePolicy { .. } => "remove a policy",
            Self::DumpPolicies => Table::Policies.request(),
        }
    }
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelReply {
    /// Done.
    Done,
    /// The SPI reserved.
    Spi(Spi),
    /// The SA asked for; `None` if the kernel has none.
    Sa(Option<SaInfo>),
    /// Every SA and state.
    Sas(Vec<SaInfo>),
    /// Every policy.
    Policies(Vec<PolicyEntry>),
}

/// A refusal, with the kernel's own words where it has any (extended acknowledgement).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct KernelError {
    /// Positive errno value; 0 when the back end itself refused.
    pub errno: i32,
    /// Kernel's or back end's explanation; may be empty.
    pub text: String,
    /// What was asked, in words.
    pub request: &'static str,
}

impl KernelError {
    /// What the kernel answered to `request`: Linux's number in words, and behind them the kernel's own if it has any.
    #[must_use]
    pub fn refused(errno: i32, text: &str, request: &'static str) -> Self {
        let words = in_words(errno);
        let text = if text.is_empty() { words.to_owned() } else { format!("{words}: {text}") };
        Self { errno, text, request }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel refused to {}: error {}", self.request, self.errno)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " ({})", self.text) }
    }
}
