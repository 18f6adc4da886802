//! Everything that goes into an agent and comes out of it.

use watari_kernel::{KernelError, KernelEvent, KernelReply, KernelRequest, RequestId};
use watari_policies::Config;
use watari_sa::{Datagram, Deadline, Transmit, TransmitId, Undeliverable, Work, WorkDone, WorkId};

use crate::key_mobility::{Listen, MobilityInput};

/// What reaches an agent; the time it arrived goes beside it.
#[derive(Debug)]
pub enum Input {
    /// A UDP payload, with its non-ESP marker if it came to the port for UDP encapsulation.
    Datagram(Datagram),
    /// A transmission failed.
    Undeliverable(TransmitId, Undeliverable),
    /// The kernel reported something.
    Kernel(KernelEvent),
    /// The kernel answered a request.
    Done(RequestId, Result<KernelReply, KernelError>),
    /// Somebody on the control socket asks.
    Command(CommandId, Command),
    /// A piece of work was done.
    WorkDone(WorkId, WorkDone),
    /// A protected Mobility Header socket was opened or closed, or brought a message.
    Mobility(MobilityInput),
    /// The deadline came.
    Timeout,
}

/// Names a command so that its replies find their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What can be asked of a running agent.
#[derive(Debug)]
pub enum Command {
    /// A VICI command by name with its arguments (list-sas, initiate, terminate, rekey, stats, ...).
    Vici {
        /// Command name.
        name: String,
        /// Arguments.
        arguments: crate::vici::Section,
    },
    /// Take a new configuration, already read and checked by the runner: what did not change is left alone.
    Reload(Box<Config>),
    /// The whole status as JSON text.
    Status,
    /// Close every IKE SA politely and stop.
    Shutdown,
}

/// What an agent wants of its runner.
#[derive(Debug)]
pub enum Output {
    /// Send a UDP payload as it is.
    Transmit(Transmit),
    /// Ask the kernel.
    Kernel(RequestId, KernelRequest),
    /// Do a piece of work, in any order and on any thread.
    Work(WorkId, Work),
    /// Something happened, for log and timeline.
    Event(crate::event::Event),
    /// Listen to exactly these protected Mobility Header sockets from now on, and say of each whether it is open. Their messages are taken
    /// before the kernel's events, so that a binding update is known when the MIGRATE that it caused arrives.
    Listen(Vec<Listen>),
    /// A part of the answer to a command.
    Reply(CommandId, crate::event::Reply),
    /// Nothing more until an input or this deadline.
    Wait(Option<Deadline>),
}
