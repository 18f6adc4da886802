//! IKEv2 (RFC 7296), both roles, sans-IO: datagrams, kernel answers, finished work and time go in; datagrams, kernel requests,
//! work and events come out. Start at `endpoint.rs`; an IKE SA is in `state.rs`, what it does once it stands is in `task/`.

mod auth;
mod auth_answer;
mod backoff;
mod certificates;
mod child;
mod configuration;
mod cookie;
mod directory;
mod endpoint;
mod exchange;
mod forget;
mod hints;
mod home;
mod identity;
mod init;
mod init_answer;
mod install;
mod keys;
mod moving;
mod nat;
mod onward;
mod outbox;
mod payloads;
mod proof;
mod proposals;
mod redirect;
mod refusal;
mod selectors;
mod session;
mod sk;
mod state;
mod status;
mod task;
mod timers;

#[cfg(test)]
extern crate self as watari_ikev2;
#[cfg(test)]
#[path = "../tests/pair/mod.rs"]
mod pair;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use endpoint::Ikev2;

/// How long a half-open IKE SA is kept.
const HALF_OPEN_LIFE: Duration = Duration::from_secs(30);
/// How long an IKE SA that has ended answers repeats of the request that ended it.
const LINGER: Duration = Duration::from_secs(30);
