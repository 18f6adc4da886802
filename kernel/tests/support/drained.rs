//! Shared by the back ends' tests: time, and what a back end wants until it waits.
#![allow(clippy::panic, reason = "a test may fail")]

use std::time::Duration;

use watari_kernel::{Backend, BackendOutput, Channel, KernelError, KernelEvent, KernelReply, Now, RequestId};

pub(crate) fn at(seconds: u64) -> Now {
    Now { boot: Duration::from_secs(seconds), wall: Duration::from_secs(1_800_000_000 + seconds) }
}

/// Everything a back end wants until it waits, sorted by kind.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) events: Vec<KernelEvent>,
    pub(crate) done: Vec<(u64, Result<KernelReply, KernelError>)>,
    pub(crate) wait: Option<Duration>,
}

impl Drained {
    /// Takes everything; whatever is sent has to go over `requests`.
    pub(crate) fn of(backend: &mut impl Backend, requests: Channel) -> Self {
        let mut drained = Self::default();
        loop {
            match backend.poll() {
                BackendOutput::Send(channel, octets) => {
                    assert_eq!(channel, requests);
                    drained.sent.push(octets);
                }
                BackendOutput::Event(event) => drained.events.push(event),
                BackendOutput::Done(RequestId(id), result) => drained.done.push((id, result)),
                BackendOutput::Wait(until) => {
                    drained.wait = until;
                    return drained;
                }
            }
        }
    }
}
