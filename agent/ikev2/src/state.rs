//! An IKE SA. Its state is coarse and owns its data; what happens inside an established one is a task.
//! Invariant: keys exist exactly in the states that can read and write protected messages.

use std::collections::VecDeque;
use std::time::Duration;

use watari_crypto::KePrivate;
use watari_policies::algorithm::{Group, IkeSuite};
use watari_policies::{Identity, RemoteId};
use watari_sa::{Cause, ChildId, IkeId, IkeState, NatSeen, Path, TransmitId, Want};
use watari_wire::ikev2::{AuthMethod, ExchangeType, Payload};

use crate::onward::Onward;
use crate::sk::Crypt;
use crate::task::{Queued, RekeyAnswer, Task};

/// An IKE SA, also one that is being made or has just ended.
#[derive(Debug)]
pub(crate) struct IkeSa {
    /// Its name.
    pub(crate) id: IkeId,
    /// Name of its remote in deadlines.
    pub(crate) name: String,
    /// The peer, once known.
    pub(crate) remote: Option<RemoteId>,
    /// Whether this host is its original initiator.
    pub(crate) initiator: bool,
    /// SPI of the initiator.
    pub(crate) spi_i: u64,
    /// SPI of the responder, 0 before it is known.
    pub(crate) spi_r: u64,
    /// Where our requests go.
    pub(crate) path: Path,
    /// Boot time of creation.
    pub(crate) created: Duration,
    /// Message ids, what is unanswered, what was answered.
    pub(crate) window: Window,
    /// Where it stands.
    pub(crate) state: State,
    /// Wishes to be served once it stands.
    pub(crate) wants: VecDeque<Want>,
    /// What is to be done next.
    pub(crate) tasks: VecDeque<Queued>,
    /// What is being done.
    pub(crate) current: Option<Task>,
    /// The first child SA, from IKE_AUTH, while it is being installed.
    pub(crate) first_child: Option<ChildId>,
    /// What a request of the peer waits for.
    pub(crate) answer: Option<Answer>,
    /// When it was moved, until the peer answers on the new path.
    pub(crate) moved: Option<Duration>,
    /// Where the peer may be instead, until an answer shows it.
    pub(crate) candidate: Option<crate::proof::Candidate>,
    /// IKE SAs that go once this one is authenticated: closed politely, or dropped because the peer has lost them.
    pub(crate) supersedes: Vec<(IkeId, bool)>,
    /// Whether INITIAL_CONTACT was said or heard in it, so that both sides drop every other IKE SA with this peer.
    pub(crate) only_one: bool,
    /// Message id of our request that was answered with an unprotected INVALID_IKE_SPI, and how often it had been sent then.
    pub(crate) hint: Option<(u32, u32)>,
    /// When an unprotected hint last made us start another IKE SA beside it.
    pub(crate) hinted: Option<Duration>,
    /// NATs seen.
    pub(crate) nat: NatSeen,
    /// Since when the peer answers with TEMPORARY_FAILURE only.
    pub(crate) refused_since: Option<Duration>,
    /// Redirects, and other addresses of the peer.
    pub(crate) onward: Onward,
}

impl IkeSa {
    /// One that has just begun, on a path, with nothing to do yet.
    pub(crate) fn new(id: IkeId, initiator: bool, (spi_i, spi_r): (u64, u64), path: Path, created: Duration, state: State) -> Self {
        Self {
            id,
            name: path.remote.ip().to_string(),
            remote: None,
            initiator,
            spi_i,
            spi_r,
            path,
            created,
            window: Window::default(),
            state,
            wants: VecDeque::new(),
            tasks: VecDeque::new(),
            current: None,
            first_child: None,
            answer: None,
            moved: None,
            candidate: None,
            supersedes: Vec::new(),
            only_one: false,
            hint: None,
            hinted: None,
            nat: NatSeen::default(),
            refused_since: None,
            onward: Onward::default(),
        }
    }

    /// This host's SPI.
    pub(crate) const fn local_spi(&self) -> u64 {
        if self.initiator { self.spi_i } else { self.spi_r }
    }

    /// The session of an IKE SA that is in use or was replaced.
    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Established(session) | State::Replaced(session) => Some(session),
            _ => None,
        }
    }

    /// The session of an IKE SA in use, to change it.
    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Established(session) | State::Replaced(session) => Some(session),
            _ => None,
        }
    }

    /// Whether it is in use.
    pub(crate) const fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// Whether it is being made by us.
    pub(crate) const fn is_attempt(&self) -> bool {
        self.initiator && matches!(self.state, State::AwaitInit(_) | State::AwaitAuth(_))
    }

    /// Whether the request being worked on waits for this child SA.
    pub(crate) fn answers_child(&self, child: ChildId) -> bool {
        matches!(self.answer, Some(Answer::Child(waiting)) if waiting == child)
    }

    /// Its state as others see it; `None` for one that has ended and only answers repeats.
    pub(crate) fn visible_state(&self) -> Option<IkeState> {
        match self.state {
            State::AwaitInit(_) | State::Answering(_) => Some(IkeState::AwaitInit),
            State::AwaitAuth(_) => Some(IkeState::AwaitAuth),
            State::Established(_) if matches!(self.current, Some(Task::DeleteIke { .. })) => Some(IkeState::Closing),
            State::Established(_) => Some(IkeState::Established),
            State::Replaced(_) => Some(IkeState::Replaced),
            State::Closing(_) => Some(IkeState::Closing),
            State::Gone(_) => None,
        }
    }
}

/// Where an IKE SA stands.
#[derive(Debug)]
pub(crate) enum State {
    /// As initiator: IKE_SA_INIT is under way.
    AwaitInit(Box<InitAttempt>),
    /// As responder: the key exchange of IKE_SA_INIT is being computed.
    Answering(Box<InitAnswer>),
    /// There are keys, but nobody has proved anything yet.
    AwaitAuth(Box<AuthAttempt>),
    /// In use.
    Established(Box<Session>),
    /// A successor has taken over; it lives until it is deleted.
    Replaced(Box<Session>),
    /// It is being deleted by us.
    Closing(Box<Crypt>),
    /// It has ended and answers repeats of the last request for a while.
    Gone(Box<Crypt>),
}

impl State {
    /// Turns one in use into one that was replaced.
    pub(crate) fn replace(&mut self) {
        if let Self::Established(session) = self {
            *self = Self::Replaced(Box::new((**session).clone()));
        }
    }

    /// Keys, where there are any.
    pub(crate) fn crypt(&self) -> Option<&Crypt> {
        match self {
            Self::AwaitInit(_) | Self::Answering(_) => None,
            Self::AwaitAuth(attempt) => Some(&attempt.crypt),
            Self::Established(session) | Self::Replaced(session) => Some(&session.crypt),
            Self::Closing(crypt) | Self::Gone(crypt) => Some(crypt),
        }
    }

    /// Keys, where there are any, to seal a message.
    pub(crate) fn crypt_mut(&mut self) -> Option<&mut Crypt> {
        match self {
            Self::AwaitInit(_) | Self::Answering(_) => None,
            Self::AwaitAuth(attempt) => Some(&mut attempt.crypt),
            Self::Established(session) | Self::Replaced(session) => Some(&mut session.crypt),
            Self::Closing(crypt) | Self::Gone(crypt) => Some(crypt),
        }
    }
}

/// As initiator: what belongs to IKE_SA_INIT.
#[derive(Debug)]
pub(crate) struct InitAttempt {
    /// Our nonce.
    pub(crate) ni: Vec<u8>,
    /// Group of our public value.
    pub(crate) group: Group,
    /// Our key pair, once it is made.
    pub(crate) key: Option<(KePrivate, Vec<u8>)>,
    /// The peer's cookie, kept through every retry.
    pub(crate) cookie: Option<Vec<u8>>,
    /// How often a cookie or another group was asked for.
    pub(crate) restarts: u8,
    /// The last request sent.
    pub(crate) request: Vec<u8>,
    /// Whether a request was sent before and told as an event.
    pub(crate) announced: bool,
    /// What was last said against the request, unprotected.
    pub(crate) refusal: Option<InitRefusal>,
    /// The peer's answer, while the shared secret is being computed.
    pub(crate) answered: Option<InitAnswered>,
}

/// An unprotected refusal of IKE_SA_INIT, or an answer that is of no use.
#[derive(Debug)]
pub(crate) struct InitRefusal {
    /// What it means.
    pub(crate) cause: Cause,
    /// Its words and ours.
    pub(crate) detail: String,
    /// How often the request had been sent when the first one came.
    pub(crate) first: u32,
    /// Whether it ends the attempt: nothing that the peer could change, and said again about a repeat.
    pub(crate) last_word: bool,
}

/// An acceptable IKE_SA_INIT response.
#[derive(Debug)]
pub(crate) struct InitAnswered {
    /// Algorithms chosen.
    pub(crate) suite: IkeSuite,
    /// The responder's SPI.
    pub(crate) spi_r: u64,
    /// The responder's nonce.
    pub(crate) nr: Vec<u8>,
    /// The whole response.
    pub(crate) response: Vec<u8>,
    /// NATs seen.
    pub(crate) nat: NatSeen,
    /// The address of ours that it came to.
    pub(crate) here: std::net::IpAddr,
}

/// As responder: an acceptable IKE_SA_INIT request.
#[derive(Debug)]
pub(crate) struct InitAnswer {
    /// The whole request.
    pub(crate) request: Vec<u8>,
    /// The initiator's nonce.
    pub(crate) ni: Vec<u8>,
    /// Number of the proposal chosen.
    pub(crate) number: u8,
    /// Algorithms chosen.
    pub(crate) suite: IkeSuite,
}

/// What belongs to IKE_AUTH, in both roles.
#[derive(Debug)]
pub(crate) struct AuthAttempt {
    /// Keys.
    pub(crate) crypt: Crypt,
    /// Our IKE_SA_INIT message.
    pub(crate) own_init: Vec<u8>,
    /// The peer's IKE_SA_INIT message.
    pub(crate) peer_init: Vec<u8>,
    /// The initiator's nonce.
    pub(crate) ni: Vec<u8>,
    /// The responder's nonce.
    pub(crate) nr: Vec<u8>,
    /// The peer's IKE_AUTH message, while proofs are being computed.
    pub(crate) received: Option<Vec<Payload>>,
    /// Who the peer says it is.
    pub(crate) identity: Option<Identity>,
    /// Our proof: AUTH method and data.
    pub(crate) proof: Option<(AuthMethod, Vec<u8>)>,
    /// Whether the peer's proof is right.
    pub(crate) verified: bool,
    /// The first child SA.
    pub(crate) child: Option<ChildId>,
}

/// An authenticated IKE SA.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Keys.
    pub(crate) crypt: Crypt,
    /// The peer.
    pub(crate) remote: RemoteId,
    /// Who the peer proved to be.
    pub(crate) identity: Identity,
    /// The lower of the two nonces of the exchange that made it: decides collisions.
    pub(crate) lowest_nonce: Vec<u8>,
    /// Whether it was made by IKE_AUTH, not by a rekey.
    pub(crate) authenticated_here: bool,
    /// Boot time at which it stood.
    pub(crate) established: Duration,
    /// Boot time at which it is replaced.
    pub(crate) rekey_at: Option<Duration>,
    /// Boot time of the last authenticated message.
    pub(crate) heard: Duration,
    /// Whether the peer is known to have it: the initiator of a rekey may not have got our response yet.
    pub(crate) confirmed: bool,
    /// The IKE SA it replaces, while it is not certain which of two successors survives.
    pub(crate) predecessor: Option<IkeId>,
}

/// What a request of the peer waits for before it can be answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A child SA being made.
    Child(ChildId),
    /// A successor of the IKE SA being made.
    RekeyIke(Box<RekeyAnswer>),
}

/// Message ids of both directions (RFC 7296 2.2); window size 1.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Id of our next request.
    pub(crate) next_request: u32,
    /// Our request that is not answered yet.
    pub(crate) outstanding: Option<Outstanding>,
    /// Id of the peer's next request.
    pub(crate) expected: u32,
    /// The peer's request being worked on.
    pub(crate) answering: Option<Answering>,
    /// The response to the peer's last request.
    pub(crate) answered: Option<Vec<u8>>,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(crate) struct Outstanding {
    /// Message id.
    pub(crate) id: u32,
    /// Exchange type.
    pub(crate) exchange: ExchangeType,
    /// The octets, the same at every repeat.
    pub(crate) octets: Vec<u8>,
    /// How often it was sent.
    pub(crate) sends: u32,
    /// How often it could not leave because the source address was not usable.
    pub(crate) failures: u32,
    /// Value of `sends` when a copy last went elsewhere than the IKE SA's path.
    pub(crate) copied: u32,
    /// Repeats that count towards giving up.
    pub(crate) repeats: u32,
    /// The last transmission.
    pub(crate) transmit: TransmitId,
    /// Whether the last transmission failed because the source address was not usable.
    pub(crate) unsent: bool,
    /// Whether it is repeated no more until there is a reason to: it asked where the peer is, and nobody answered.
    pub(crate) rests: bool,
}

/// A request of the peer that is being worked on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answering {
    /// Message id.
    pub(crate) id: u32,
    /// Exchange type.
    pub(crate) exchange: ExchangeType,
    /// Where it came from and where the response goes.
    pub(crate) path: Path,
}
