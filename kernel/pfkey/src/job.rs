//! What is under way: a caller's request, a step of the probe, the search for an ACQUIRE's policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use watari_kernel::{KernelError, KernelRequest, PolicyIndex, RequestId, SaId};

use crate::dialect::Dialect;
use crate::message::{Kind, Outgoing};
use crate::probe::Step;
use crate::{policy, sa};

/// What an answer is for.
#[derive(Debug)]
pub(crate) enum Job {
    /// A caller's request.
    Request { id: RequestId, request: KernelRequest },
    /// A step of the probe.
    Probe { id: RequestId, step: Step, failure: Option<KernelError> },
    /// The policy that asked for an SA.
    Resolve(PolicyIndex),
}

/// A job whose message was sent.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) job: Job,
    pub(crate) kind: Kind,
    pub(crate) deadline: Duration,
    /// Whether it had to be sent twice: it may have been done already.
    pub(crate) again: bool,
}

impl Job {
    /// The caller's number, if a caller waits.
    pub(crate) const fn id(&self) -> Option<RequestId> {
        match self {
            Self::Request { id, .. } | Self::Probe { id, .. } => Some(*id),
            Self::Resolve(_) => None,
        }
    }

    /// What is asked, in words.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Probe { .. } => "probe what it can do",
            Self::Resolve(_) => "read a policy",
            Self::Request { request, .. } => request.in_words(),
        }
    }

    /// The message. `source` knows the source addresses of SAs, which KAME wants and Linux ignores.
    pub(crate) fn outgoing(&self, dialect: Dialect, source: &dyn Fn(&SaId) -> Option<IpAddr>) -> Result<Outgoing, String> {
        let by_id = |kind: Kind, id: &SaId| sa::by_id(dialect, kind, id, source(id).unwrap_or_else(|| unspecified(id.dst)));
        let request = match self {
            Self::Request { request, .. } => request,
            Self::Probe { step, .. } => return step.request(dialect),
            Self::Resolve(index) => return policy::get(*index),
        };
        match request {
            KernelRequest::AllocateSpi { endpoints, protocol, mode, reqid } => {
                sa::allocate_spi(dialect, *endpoints, *protocol, *mode, *reqid)
            }
            KernelRequest::AddSa { parameters, allocated, .. } => sa::add(dialect, parameters, *allocated),
            KernelRequest::DeleteSa(id) => by_id(Kind::Delete, id),
            KernelRequest::QuerySa(id) => by_id(Kind::Get, id),
            KernelRequest::SetPolicy(entry) => policy::set(dialect, entry),
            KernelRequest::DeletePolicy { selector, direction, kind } => policy::delete(dialect, selector, *direction, *kind),
            KernelRequest::RefuseAcquire { .. } => Ok(sa::refuse_acquire(dialect)),
            KernelRequest::DumpSas => Ok(sa::dump()),
            KernelRequest::DumpPolicies => Ok(policy::dump()),
        }
    }
}

const fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
}
