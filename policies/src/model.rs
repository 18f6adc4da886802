//! The records of a configuration: remote, policy, ipsec, and the daemon's own settings, as plain structs with typed ids.
//! Invariant: every id in a `Config` names a record of the same `Config`.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::algorithm::{ChildProposal, ChildSuite, IkeProposal};
use crate::certificate::{Credential, OwnProof, PeerProof, Proofs};
use crate::{Assigned, Block, Gateways, Identity, Movements, Pad, SecretId, Traffic};

/// Index of a remote in `Config::remotes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteId(pub u32);

/// Index of a policy in `Config::policies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(pub u32);

/// Index of an ipsec record in `Config::ipsecs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpsecId(pub u32);

/// The number that ties kernel policies and SAs together, per direction; 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reqid(pub u32);

/// IPsec protocol of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Encapsulating Security Payload, IP protocol 50.
    Esp,
    /// Authentication Header, IP protocol 51.
    Ah,
}

/// Encapsulation mode of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Transport mode: no addresses of its own.
    Transport,
    /// Tunnel mode: an outer header between two end points.
    Tunnel,
}

/// What a policy does with its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Protect by IPsec.
    Protect,
    /// Let pass.
    Bypass,
    /// Drop.
    Discard,
}

/// Who puts a policy into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Installer {
    /// This agent installs and removes it.
    Us,
    /// Another daemon (mip6d, SHISA) owns it; it is adopted by reqid and selector.
    Other,
}

/// What the mobility of a remote means for this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MobilityRole {
    /// No Mobile IPv6 towards this remote: address changes are ordinary.
    None,
    /// This host is the mobile node; the remote is its home agent.
    MobileNode {
        /// Our home address: never a source of IKE while away. Unspecified until it is assigned.
        home_address: IpAddr,
    },
    /// This host is the home agent; the remote is a mobile node.
    HomeAgent {
        /// The mobile node's home address. Unspecified until it is assigned.
        home_address: IpAddr,
    },
    /// No Mobile IPv6: this host has a tunnel to a gateway, wherever it is itself.
    RoadWarrior {
        /// Our address inside the tunnel: never a source of IKE. Unspecified until it is assigned.
        inner_address: IpAddr,
    },
    /// No Mobile IPv6: this host is the gateway; the remote may call from anywhere.
    Gateway {
        /// The client's address inside the tunnel. Unspecified until it is assigned.
        inner_address: IpAddr,
    },
}

impl MobilityRole {
    /// Stands for a home address that has yet to be assigned.
    pub const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    /// The home address at stake, if Mobile IPv6 governs the remote and the address is known.
    pub const fn home_address(self) -> Option<IpAddr> {
        match self {
            Self::MobileNode { home_address } | Self::HomeAgent { home_address } if !home_address.is_unspecified() => Some(home_address),
            _ => None,
        }
    }

    /// The address that stays with the moving end, if it is known: home address under Mobile IPv6, else the one inside the tunnel.
    pub const fn lasting_address(self) -> Option<IpAddr> {
        match self {
            Self::RoadWarrior { inner_address: address } | Self::Gateway { inner_address: address } if !address.is_unspecified() => {
                Some(address)
            }
            _ => self.home_address(),
        }
    }

    /// Whether Mobile IPv6 governs where the peer is: never learnt from the peer itself.
    pub const fn is_mobile_ipv6(self) -> bool {
        matches!(self, Self::MobileNode { .. } | Self::HomeAgent { .. })
    }

    /// Whether this end gives lasting addresses to the other.
    pub const fn assigns(self) -> bool {
        matches!(self, Self::HomeAgent { .. } | Self::Gateway { .. })
    }

    /// Whether this end is the one that moves, and may be given a lasting address.
    pub const fn moves(self) -> bool {
        matches!(self, Self::MobileNode { .. } | Self::RoadWarrior { .. })
    }

    /// The same role with another lasting address.
    #[must_use]
    pub const fn with_address(self, address: IpAddr) -> Self {
        match self {
            Self::None => Self::None,
            Self::MobileNode { .. } => Self::MobileNode { home_address: address },
            Self::HomeAgent { .. } => Self::HomeAgent { home_address: address },
            Self::RoadWarrior { .. } => Self::RoadWarrior { inner_address: address },
            Self::Gateway { .. } => Self::Gateway { inner_address: address },
        }
    }
}

/// How long an SA lives. Limits of 0 mean none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Age at which the SA ends.
    pub hard: Duration,
    /// Age at which its replacement starts, before jitter.
    pub soft: Duration,
    /// Largest random time taken off `soft`, so that two ends do not rekey at once.
    pub jitter: Duration,
    /// Octets after which the SA ends (child SAs only).
    pub bytes: u64,
    /// Packets after which the SA ends (child SAs only).
    pub packets: u64,
}

impl Lifetime {
    /// A lifetime without limits of octets and packets, renewed after nine tenths of it less up to a twentieth.
    pub const fn of(hard: Duration) -> Self {
        let millis = hard.as_millis() as u64;
        let soft = Duration::from_millis(millis.saturating_sub(millis / 10));
        Self { hard, soft, jitter: Duration::from_millis(millis / 20), bytes: 0, packets: 0 }
    }
}

/// Retransmission of IKE requests (RFC 7296 2.1): `initial * base^n`, given up after `tries` repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retransmit {
    /// Wait before the first repeat.
    pub initial: Duration,
    /// Growth per repeat, in tenths (18 = 1.8).
    pub base_tenths: u32,
    /// Longest wait between two repeats.
    pub cap: Duration,
    /// Repeats before the exchange is given up.
    pub tries: u32,
}

impl Default for Retransmit {
    //= rfc7296#2.4
    //# Repeat at least a dozen times over several minutes before giving up on an SA.
    /// Half a second, growing by 1.8 up to 30 s, twelve repeats: given up after some four minutes.
    fn default() -> Self {
        Self { initial: Duration::from_millis(500), base_tenths: 18, cap: Duration::from_secs(30), tries: 12 }
    }
}

/// How both ends prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Shared key message integrity code (RFC 7296 2.15), one secret for both directions.
    Psk(SecretId),
    /// No key management: the SAs of this remote are configured by hand.
    Manual,
    /// Each side in its own way, at least one of them by a certificate.
    Each(Arc<Proofs>),
}

impl Authentication {
    /// How we prove who we are; `None` without key management.
    pub fn ours(&self) -> Option<OwnProof> {
        match self {
            Self::Psk(secret) => Some(OwnProof::Psk(*secret)),
            Self::Manual => None,
            Self::Each(proofs) => Some(proofs.ours.clone()),
        }
    }

    /// How the peer must prove who it is; `None` without key management.
    pub fn theirs(&self) -> Option<PeerProof> {
        match self {
            Self::Psk(secret) => Some(PeerProof::Psk(*secret)),
            Self::Manual => None,
            Self::Each(proofs) => Some(proofs.theirs.clone()),
        }
    }

    /// The same proofs, whatever numbers their secrets have.
    #[must_use]
    pub fn without_numbers(&self) -> Self {
        self.renumbered(|_| SecretId(0))
    }

    /// The same proofs with other numbers for their secrets.
    #[must_use]
    pub fn renumbered(&self, number: impl Fn(SecretId) -> SecretId) -> Self {
        match self {
            Self::Psk(secret) => Self::Psk(number(*secret)),
            Self::Manual => Self::Manual,
            Self::Each(proofs) => {
                let ours = match &proofs.ours {
                    OwnProof::Psk(secret) => OwnProof::Psk(number(*secret)),
                    OwnProof::Certificate(own) => OwnProof::Certificate(Arc::new(Credential { key: number(own.key), ..(**own).clone() })),
                };
                let theirs = match &proofs.theirs {
                    PeerProof::Psk(secret) => PeerProof::Psk(number(*secret)),
                    trust @ PeerProof::Certificate(_) => trust.clone(),
                };
                Self::Each(Arc::new(Proofs { ours, theirs }))
            }
        }
    }
}

/// A peer: how to reach it, who it is, how it is authenticated, what is offered to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    /// Name in logs and commands.
    pub name: String,
    /// Fixed local address, if the operator names one.
    pub local_address: Option<IpAddr>,
    /// Address used to reach the peer as initiator, the one in force of several; `None` for a peer that only calls us.
    pub remote_address: Option<IpAddr>,
    /// All its addresses where it has several, and redirects to others.
    pub gateways: Gateways,
    /// Addresses the peer may call from; empty means any.
    pub allowed_from: Vec<IpNet>,
    /// Our identity.
    pub local_identity: Identity,
    /// The identity the peer must prove.
    pub remote_identity: Identity,
    /// Proof used in both directions.
    pub authentication: Authentication,
    /// Mobile IPv6 role.
    pub role: MobilityRole,
    /// How the home address comes at run time, unless the configuration names it.
    pub assigned: Option<Assigned>,
    /// IKE proposals in order of preference. Never empty.
    pub proposals: Vec<IkeProposal>,
    /// Lifetime of the IKE SA.
    pub lifetime: Lifetime,
    /// Retransmission of requests.
    pub retransmit: Retransmit,
    /// Idle time after which the peer's liveness is checked; `None` for never.
    pub liveness: Option<Duration>,
    /// Whether the first IKE_AUTH after a start says INITIAL_CONTACT.
    pub initial_contact: bool,
    /// Start the IKE SA and its children at start-up rather than at the first packet.
    pub start: bool,
    /// What is believed about its movements, and whether IKE SAs follow them.
    pub movements: Movements,
    /// Line of the configuration that defines this record, from 1; 0 when made by a program.
    pub line: u32,
}

impl Remote {
    /// Whether its lasting address is assigned at run time and not known yet.
    pub const fn awaits_home_address(&self) -> bool {
        self.assigned.is_some() && self.role.lasting_address().is_none()
    }
}

/// Where the outer addresses of a policy's SAs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// Transport mode under Mobile IPv6 (proxy mode): the SA is between the selector's own addresses.
    Selector,
    /// The addresses of the IKE SA at the time of installation.
    Ike,
    /// Fixed addresses.
    Fixed {
        /// This host's end.
        local: IpAddr,
        /// The other end.
        remote: IpAddr,
    },
    /// Read from the kernel policy's template or, after MIGRATE, from the address it named (tunnels of Mobile IPv6).
    Template,
}

/// A policy: traffic, what to do with it and by which SAs.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name in logs and commands, unique within its remote.
    pub name: String,
    /// The traffic, from this host's point of view.
    pub traffic: Traffic,
    /// What happens to the traffic.
    pub action: Action,
    /// Encapsulation mode.
    pub mode: Mode,
    /// Reqid of the outbound kernel policy and SA.
    pub reqid_out: Reqid,
    /// Reqid of the inbound kernel policy and SA; often another number than `reqid_out`.
    pub reqid_in: Reqid,
    /// Kernel priority, lower first (used when we install it).
    pub priority: u32,
    /// Where SA addresses come from.
    pub endpoints: Endpoints,
    /// Who installs the kernel policy.
    pub installer: Installer,
    /// Lifetimes and proposals of its SAs.
    pub ipsec: IpsecId,
    /// The peer at the other end.
    pub remote: RemoteId,
    /// Line of the configuration that defines this record, from 1; 0 when made by a program.
    pub line: u32,
}

/// What the SAs of a policy are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Ipsec {
    /// Name in logs.
    pub name: String,
    /// IPsec protocol.
    pub protocol: Protocol,
    /// Proposals in order of preference. Never empty.
    pub proposals: Vec<ChildProposal>,
    /// Lifetime of each child SA.
    pub lifetime: Lifetime,
    /// Anti-replay window in packets.
    pub replay_window: u32,
    /// How long the SAs of a policy that left the kernel are kept (RFC 4877 4.2: tunnels at home); `None` for as long as they live.
    pub dormant: Option<Duration>,
    /// SPIs and keys, if the SAs are configured by hand; then there is one proposal with one suite.
    pub manual: Option<ManualSa>,
}

/// A pair of SAs configured by hand (RFC 3776 5.2). They are never rekeyed and have no anti-replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManualSa {
    /// Algorithms of both directions.
    pub suite: ChildSuite,
    /// What leaves this host.
    pub outbound: ManualHalf,
    /// What arrives.
    pub inbound: ManualHalf,
}

/// One direction of a manual SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManualHalf {
    /// Security parameter index, 256 or more.
    pub spi: u32,
    /// The key: that of the cipher, then that of the integrity algorithm.
    pub key: SecretId,
}

/// The interface through which the kernel's IPsec is asked and heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelInterface {
    /// Linux netlink XFRM, with PF_KEY only listened to for MIGRATE.
    #[default]
    Xfrm,
    /// PF_KEY version 2 (RFC 2367) for everything.
    PfKey,
}

/// Settings of the agent as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How the kernel is talked to; read at the start only.
    pub backend: KernelInterface,
    /// IKE port, 500 unless a test needs another.
    pub port: u16,
    /// Port for IKE behind the non-ESP marker, 4500.
    pub natt_port: u16,
    /// Half-open IKE SAs above which a cookie is demanded (RFC 7296 2.6).
    pub cookie_threshold: u32,
    /// Most half-open IKE SAs kept at all.
    pub half_open_limit: u32,
    /// Path of the control socket, if the configuration names one.
    pub control: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { backend: KernelInterface::Xfrm, port: 500, natt_port: 4500, cookie_threshold: 32, half_open_limit: 4096, control: None }
    }
}

/// A whole, consistent configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Peers.
    pub remotes: Vec<Remote>,
    /// Policies.
    pub policies: Vec<Policy>,
    /// SA contents.
    pub ipsecs: Vec<Ipsec>,
    /// What remotes share whose home address is assigned at run time.
    pub blocks: Vec<Block>,
    /// Which identity may hold which addresses.
    pub pad: Pad,
    /// The agent's own settings.
    pub settings: Settings,
}

impl Config {
    /// The same configuration as a program would have made it, without line numbers, so that two sources can be compared.
    #[must_use]
    pub fn without_lines(mut self) -> Self {
        self.remotes.iter_mut().for_each(|remote| remote.line = 0);
        self.policies.iter_mut().for_each(|policy| policy.line = 0);
        self.blocks.iter_mut().for_each(|block| block.line = 0);
        self
    }

    /// The remote with this id; `None` only for an id of another configuration.
    pub fn remote(&self, id: RemoteId) -> Option<&Remote> {
        self.remotes.get(id.0 as usize)
    }

    /// The policy with this id; `None` only for an id of another configuration.
    pub fn policy(&self, id: PolicyId) -> Option<&Policy> {
        self.policies.get(id.0 as usize)
    }

    /// The ipsec record with this id; `None` only for an id of another configuration.
    pub fn ipsec(&self, id: IpsecId) -> Option<&Ipsec> {
        self.ipsecs.get(id.0 as usize)
    }

    /// The SAs of a policy that are configured by hand; `None` if they are negotiated.
    pub fn manual(&self, policy: &Policy) -> Option<&ManualSa> {
        self.ipsec(policy.ipsec)?.manual.as_ref().filter(|_| policy.action == Action::Protect)
    }

    /// Policies of one remote, in configuration order.
    pub fn policies_of(&self, remote: RemoteId) -> impl Iterator<Item = (PolicyId, &Policy)> {
        self.policies.iter().zip(0u32..).filter(move |(policy, _)| policy.remote == remote).map(|(policy, id)| (PolicyId(id), policy))
    }
}
