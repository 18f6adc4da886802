//! Why a request is refused: one place that turns a reason into a notify, a cause code and words.

use std::net::IpAddr;

use ipnet::IpNet;
use watari_kernel::KernelError;
use watari_policies::algorithm::{Group, IkeSuite};
use watari_policies::{Identity, Traffic};
use watari_sa::{Cause, Mismatch};
use watari_wire::ikev2::{Notify, NotifyType, Payload, ProtocolId};

use crate::payloads::{notify, notify_with};
use crate::selectors::describe;

/// A reason to refuse a request.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// The message is not well-formed or lacks a payload.
    Syntax(String),
    /// No IKE proposal in common.
    Suites(Box<Mismatch>),
    /// No child proposal in common.
    ChildSuites(Box<Mismatch>),
    /// The public value belongs to another group than the one chosen.
    Group(Group),
    /// No policy covers the traffic.
    Traffic {
        /// Who asks, once proved.
        who: Option<Identity>,
        /// The peer's proposal from our point of view.
        proposed: Traffic,
        /// Names of the policies looked at.
        policies: Vec<String>,
    },
    /// The policy wants another mode.
    Mode,
    /// The identity may not hold SAs for these addresses.
    NotAuthorised {
        /// Who it is.
        who: Identity,
        /// What it asks for, from our point of view.
        traffic: Traffic,
        /// What it may hold.
        held: Vec<IpNet>,
    },
    /// The peer has no home address and asks for none.
    NoHomeAddress,
    /// The IKE SA holds as many child SAs as a peer may have.
    NoMore(usize),
    /// Something else is under way; the peer may try later.
    Temporary(&'static str),
    /// The child SA to be replaced does not exist.
    ChildNotFound(ProtocolId, u32),
    /// The kernel refused.
    Kernel(KernelError),
    /// A key operation failed.
    Crypto(String),
    /// The peer could not prove who it is.
    Proof(String),
    /// No remote has the identity.
    Identity(Identity),
    /// The identity is known, but may not call from this address.
    NotFrom(Identity, IpAddr),
    /// The remote that the identity names does not allow the algorithms that were agreed on before it was known.
    SuiteOfRemote {
        /// Who calls.
        who: Identity,
        /// What was agreed on.
        suite: IkeSuite,
        /// Name of the remote, and what it allows.
        remote: (String, String),
    },
    /// No remote may call from there.
    NoRemote,
}

impl Refusal {
    /// The notify that tells the peer.
    pub(crate) fn notify(&self) -> Payload {
        match self {
            Self::Syntax(_) | Self::Crypto(_) => notify(NotifyType::INVALID_SYNTAX),
            Self::Suites(_) | Self::ChildSuites(_) | Self::Mode | Self::Kernel(_) | Self::NoRemote => {
                notify(NotifyType::NO_PROPOSAL_CHOSEN)
            }
            //= rfc7296#1.3
            //# INVALID_KE_PAYLOAD names the group that is wanted in two octets
            Self::Group(group) => notify_with(NotifyType::INVALID_KE_PAYLOAD, group.transform_id().to_be_bytes().to_vec()),
            Self::Traffic { .. } | Self::NotAuthorised { .. } => notify(NotifyType::TS_UNACCEPTABLE),
            Self::NoHomeAddress => notify(NotifyType::FAILED_CP_REQUIRED),
            Self::NoMore(_) => notify(NotifyType::NO_ADDITIONAL_SAS),
            Self::Temporary(_) => notify(NotifyType::TEMPORARY_FAILURE),
            //= rfc7296#2.25
            //# CHILD_SA_NOT_FOUND copies the SPI of REKEY_SA
            Self::ChildNotFound(protocol, spi) => Payload::Notify(Notify::about_child(NotifyType::CHILD_SA_NOT_FOUND, *protocol, *spi)),
            //= rfc7296#2.21.2
            //# every failure of IKE_AUTH looks alike to a peer that has proved nothing
            Self::Proof(_) | Self::Identity(_) | Self::NotFrom(..) | Self::SuiteOfRemote { .. } => {
                notify(NotifyType::AUTHENTICATION_FAILED)
            }
        }
    }

    /// The cause for log and events.
    pub(crate) const fn cause(&self) -> Cause {
        match self {
            Self::Syntax(_) => Cause::MALFORMED,
            Self::Suites(_) => Cause::SUITES_DIFFER,
            Self::ChildSuites(_) => Cause::CHILD_SUITES_DIFFER,
            Self::Group(_) | Self::Temporary(_) | Self::ChildNotFound(..) | Self::NoMore(_) => Cause::UNEXPECTED,
            Self::Traffic { .. } => Cause::TRAFFIC_UNACCEPTABLE,
            Self::Mode => Cause::TRANSPORT_REFUSED,
            Self::NotAuthorised { .. } => Cause::NOT_AUTHORISED,
            Self::NoHomeAddress => Cause::HOME_ADDRESS,
            Self::Kernel(_) => Cause::KERNEL_REFUSED,
            Self::Crypto(_) => Cause::MALFORMED,
            Self::Proof(_) => Cause::AUTHENTICATION_FAILED,
            Self::Identity(_) => Cause::IDENTITY_UNKNOWN,
            Self::SuiteOfRemote { .. } => Cause::SUITES_DIFFER,
            Self::NotFrom(..) | Self::NoRemote => Cause::NO_REMOTE,
        }
    }

    /// Whether a person should hear of it; ordinary collisions are none of their business.
    pub(crate) const fn worth_telling(&self) -> bool {
        !matches!(self, Self::Group(_) | Self::Temporary(_) | Self::ChildNotFound(..))
    }

    /// Details, both sides' view.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Syntax(why) | Self::Crypto(why) | Self::Proof(why) => why.clone(),
            Self::Suites(mismatch) | Self::ChildSuites(mismatch) => mismatch.to_string(),
            Self::Group(group) => format!("the public value belongs to another group; {} is wanted", group.name()),
            Self::Traffic { who, proposed, policies } => format!(
                "{} asks for ours {{{}}}, its own {{{}}}; policies of this remote: {}",
                who.as_ref().map_or_else(|| "the peer".to_owned(), ToString::to_string),
                describe(&proposed.local),
                describe(&proposed.remote),
                if policies.is_empty() { "none".to_owned() } else { policies.join(", ") }
            ),
            Self::Mode => "the policy wants transport mode, the peer did not ask for it".to_owned(),
            Self::NotAuthorised { who, traffic, held } => {
                let held = held.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let asked = describe(&traffic.remote);
                format!("{who} asks for {{{asked}}} and may hold {}", if held.is_empty() { "nothing" } else { held.as_str() })
            }
            Self::NoHomeAddress => "the peer has no home address and asks for none".to_owned(),
            Self::NoMore(most) => format!("the peer has {most} child SAs in this IKE SA already"),
            Self::Temporary(why) => (*why).to_owned(),
            Self::ChildNotFound(_, spi) => format!("no child SA with SPI {spi:08x}"),
            Self::Kernel(error) => error.to_string(),
            Self::Identity(identity) => format!("the peer calls itself {identity}"),
            Self::NotFrom(identity, from) => format!("{identity} calls from {from}, which `allowed_from` of its remote does not cover"),
            Self::SuiteOfRemote { who, suite, remote: (name, allowed) } => {
                format!("{suite} was agreed on before {who} was known to call, but its remote {name} allows only {allowed}")
            }
            Self::NoRemote => "no remote may call from this address".to_owned(),
        }
    }
}

/// What an error notify of the peer means to us.
pub(crate) fn cause_of(error: &Notify) -> Cause {
    match error.notify_type {
        NotifyType::NO_PROPOSAL_CHOSEN => Cause::CHILD_SUITES_DIFFER,
        NotifyType::AUTHENTICATION_FAILED => Cause::AUTHENTICATION_FAILED,
        NotifyType::TS_UNACCEPTABLE | NotifyType::SINGLE_PAIR_REQUIRED => Cause::TRAFFIC_UNACCEPTABLE,
        _ => Cause::PEER_REFUSED,
    }
}
