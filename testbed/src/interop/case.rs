//! What a case is: two ends, what they agreed on, the steps, and what must be true at the end. The left end is Watari except
//! in control cases, where strongSwan talks to itself: what fails there is the harness, not the agent.

use std::time::Duration;

/// One of the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The left host: Watari, or the first strongSwan of a control case.
    Us,
    /// The right host: the peer.
    Peer,
}

impl Who {
    /// Name of the host's network namespace.
    pub(super) const fn host(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Peer => "peer",
        }
    }

    /// The other one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Us => Self::Peer,
            Self::Peer => Self::Us,
        }
    }
}

/// The program at the left end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// The agent under test, steered with `watari`.
    Watari,
    /// The agent under test, steered with strongSwan's own client.
    WatariBySwanctl,
    /// strongSwan, as a control of the harness.
    Strongswan,
}

/// Encapsulation mode and, with it, whose traffic is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Between the two hosts' own addresses.
    Transport,
    /// Between an address behind each host.
    Tunnel,
}

/// IP version of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv6.
    V6,
    /// IPv4.
    V4,
}

/// The traffic selectors that both ends are configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Every protocol.
    Any,
    /// The Mobility Header, every type.
    MobilityHeader,
    /// ICMPv6, every type.
    Icmpv6,
}

/// Algorithms in strongSwan's notation and in Watari's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    /// What strongSwan proposes for the IKE SA.
    pub(super) peer_ike: &'static str,
    /// What strongSwan proposes for ESP.
    pub(super) peer_esp: &'static str,
    /// What Watari proposes for the IKE SA.
    pub(super) our_ike: &'static str,
    /// What Watari proposes for ESP.
    pub(super) our_esp: &'static str,
    /// Whether tshark 4.0 can decrypt the IKE SA.
    pub(super) readable: bool,
}

impl Suite {
    /// The same words for both.
    pub(super) const fn same(ike: &'static str, esp: &'static str) -> Self {
        Self { peer_ike: ike, peer_esp: esp, our_ike: ike, our_esp: esp, readable: true }
    }
}

/// How the two ends prove who they are, Watari's first. With an ECDSA certificate goes an address as identity, as of a mobile node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// A shared key.
    SharedKey,
    /// Certificates: ECDSA and RSA.
    EcdsaAndRsa,
    /// Certificates: RSA and ECDSA.
    RsaAndEcdsa,
    /// A certificate at Watari's end, a shared key at the other.
    EcdsaAndKey,
}

/// Everything the two ends agree on, and what the peer does beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// IP version.
    pub(super) family: Family,
    /// Mode of the child SA.
    pub(super) mode: Mode,
    /// Its traffic.
    pub(super) traffic: Traffic,
    /// Algorithms.
    pub(super) suite: Suite,
    /// How both prove themselves.
    pub(super) proof: Proof,
    /// MOBIKE at the peer.
    pub(super) mobike: bool,
    /// Who checks the other's life after two idle seconds.
    pub(super) liveness: Option<Who>,
    /// The peer holds a trap policy and negotiates at the first packet.
    pub(super) peer_traps: bool,
    /// Who accepts and proposes the whole network where the other one speaks of one address: the negotiation narrows it.
    pub(super) wide: Option<Who>,
    /// Each end knows two addresses of the other, and either may redirect.
    pub(super) redirects: bool,
    /// Lifetimes of seconds at both ends, so that each rekeys by itself, often both at once.
    pub(super) short_lived: bool,
    /// Whether Watari is left to find out which address it calls from.
    pub(super) unaddressed: bool,
    /// Who is assigned its address inside the tunnel by the other one.
    pub(super) assigned: Option<Who>,
    /// The peer has another secret.
    pub(super) wrong_secret: bool,
    /// Who asks initiators for a cookie: Watari always, strongSwan as soon as one IKE SA is half-open.
    pub(super) cookies: Option<Who>,
}

/// What an end is made to do. Except for `Acquire` the steps wait until both ends show the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Bring the child SA up.
    Initiate(Who),
    /// Try to bring the child SA up: this end must be told that it cannot be, and no more than so many IKE SAs remain.
    Refused(Who, usize),
    /// Send protected traffic until the kernel's request made SAs and it passes.
    Acquire(Who),
    /// Echo requests both ways: all answered, all in ESP.
    Ping,
    /// Mobility Header messages of this type from one end: received, and in ESP.
    Mobility(Who, u8),
    /// Replace the child SA under traffic; no echo may be lost, both SPIs change.
    RekeyChild(Who),
    /// Replace the IKE SA under traffic; no echo may be lost, the children stay.
    RekeyIke(Who),
    /// Both ends replace the child SA at once; one remains.
    CollideChild,
    /// Both ends replace the IKE SA at once; one remains.
    CollideIke,
    /// Wait for a liveness check by this end, and its answer.
    Liveness(Who),
    /// This end sends the other on to its own second address: everything is made anew there, under traffic where Watari is sent.
    Redirect(Who),
    /// Delete the child SA; the IKE SA stays.
    DeleteChild(Who),
    /// Delete the IKE SA; everything goes.
    DeleteIke(Who),
    /// End this program without a word. strongSwan takes its host with it, because it would not clear the kernel when it
    /// starts again; Watari leaves its SAs in the kernel.
    Crash(Who),
    /// Start a program that crashed.
    Restart(Who),
    /// Wait until one IKE SA and one child SA stand again, by nobody's command.
    Recovered,
    /// Wait until this end has noticed that the other is gone and holds no SA any more.
    NoticeDeath(Who),
    /// A stranger's IKE_SA_INIT that stays half-open at the peer, so that the next one has to bring a cookie.
    HalfOpen,
    /// Let time pass.
    Wait(Duration),
    /// Echo requests for so long while lifetimes run out; none may be lost, and both SAs are new at the end.
    Outlive(Duration),
    /// The link loses so many per cent from now on, both ways; what is lost of echo requests does not count then.
    Lossy(u32),
}

/// One thing to prove.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// Its name: what `--only` selects by.
    pub(super) name: String,
    /// One sentence.
    pub(super) says: &'static str,
    /// The left end.
    pub(super) left: Program,
    /// What was agreed.
    pub(super) terms: Terms,
    /// What happens.
    pub(super) steps: Vec<Step>,
    /// IKE_SA_INIT exchanges that must have crossed the link, repeats and retries with a cookie or group included.
    pub(super) ike_sa_init: usize,
    /// Words in a log that are no error here, beside what both programs say anyway.
    pub(super) excused: &'static [&'static str],
}
