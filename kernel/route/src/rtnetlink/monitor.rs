//! The table of local addresses and its changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use watari_kernel::{AddressEvent, AddressFlags, BackendOutput, Channel, KernelEvent};

use crate::message::{self, Content, Incoming};

/// A refused dump is asked for again this many times.
const TRIES: u32 = 16;
const LOGGED_OCTETS: usize = 512;

type Key = (u32, IpAddr);

#[derive(Debug)]
struct Dump {
    seq: u32,
    tries: u32,
    interrupted: bool,
    /// Addresses that are there for certain: seen in the dump, or come since it began.
    seen: BTreeSet<Key>,
}

/// Follows the local addresses of a network namespace over one NETLINK_ROUTE socket that has joined [`crate::GROUPS`].
#[derive(Debug)]
pub struct RouteMonitor {
    next_seq: u32,
    known: BTreeMap<Key, (u8, AddressFlags)>,
    dump: Option<Dump>,
    outputs: VecDeque<BackendOutput>,
}

impl Default for RouteMonitor {
    fn default() -> Self {
        Self::new()
    }
}

impl RouteMonitor {
    /// A monitor that knows nothing yet; the first output is its request for every address.
    #[must_use]
    pub fn new() -> Self {
        let mut monitor = Self { next_seq: 1, known: BTreeMap::new(), dump: None, outputs: VecDeque::new() };
        monitor.start_dump(0);
        monitor
    }

    /// Takes one datagram from the socket.
    pub fn received(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            match message::first(rest) {
                Ok((message, behind)) => {
                    self.take(message, rest);
                    rest = behind;
                }
                Err(why) => return self.malformed(why, rest),
            }
        }
    }

    /// The socket lost messages: everything is read again, and what vanished unseen is told.
    pub fn overrun(&mut self) {
        match self.dump.as_mut() {
            // The kernel answers EBUSY to a second dump beside the first, and never loses parts of one: let it end, then read again.
            Some(dump) => (dump.interrupted, dump.tries) = (true, 0),
            None => self.start_dump(0),
        }
    }

    /// The next thing wanted: `Send(Channel::Route, ..)`, `Event(KernelEvent::Address(..))`, `Event(KernelEvent::Malformed { .. })`; at last `Wait(None)`.
    pub fn poll(&mut self) -> BackendOutput {
        self.outputs.pop_front().unwrap_or(BackendOutput::Wait(None))
    }

    fn start_dump(&mut self, tries: u32) {
        let seq = self.next_seq;
        self.next_seq = seq.checked_add(1).unwrap_or(1);
        self.dump = Some(Dump { seq, tries, interrupted: false, seen: BTreeSet::new() });
        self.outputs.extend(message::dump_request(seq).map(|octets| BackendOutput::Send(Channel::Route, octets)));
    }

    fn take(&mut self, message: Incoming, octets: &[u8]) {
        let of_dump = message.multi && self.dump.as_ref().is_some_and(|dump| dump.seq == message.seq);
        if let (true, Some(dump)) = (of_dump, self.dump.as_mut()) {
            dump.interrupted |= message.interrupted;
        }
        match message.content {
            // A part of a dump that was given up tells what was, not what is.
            Ok(Content::Address(_)) if message.multi && !of_dump => {}
            Ok(Content::Address(event)) => self.address(event),
            Ok(Content::End(errno)) if self.dump.as_ref().is_some_and(|dump| dump.seq == message.seq) => self.end_dump(errno),
            Ok(Content::End(_) | Content::Other) => {}
            Err(why) => self.malformed(why, octets),
        }
    }

    fn address(&mut self, event: AddressEvent) {
        let key = (event.interface, event.address);
        if event.present {
            if let Some(dump) = self.dump.as_mut() {
                dump.seen.insert(key);
            }
            let row = (event.prefix_len, event.flags);
            if self.known.insert(key, row) != Some(row) {
                self.tell(event);
            }
        } else {
            if let Some(dump) = self.dump.as_mut() {
                dump.seen.remove(&key);
            }
            if self.known.remove(&key).is_some() {
                self.tell(event);
            }
        }
    }

    fn end_dump(&mut self, errno: i32) {
        let Some(dump) = self.dump.take() else { return };
        if errno > 0 || dump.interrupted {
            if dump.tries < TRIES {
                self.start_dump(dump.tries.saturating_add(1));
            } else {
                self.malformed(format!("the kernel does not list its addresses: error {errno}"), &[]);
            }
            return;
        }
        let gone: Vec<Key> = self.known.keys().filter(|key| !dump.seen.contains(key)).copied().collect();
        for key in gone {
            let (interface, address) = key;
            let prefix_len = self.known.remove(&key).map_or(0, |(length, _)| length);
            self.tell(AddressEvent { interface, address, prefix_len, present: false, flags: AddressFlags::default() });
        }
    }

    fn tell(&mut self, event: AddressEvent) {
        self.outputs.push_back(BackendOutput::Event(KernelEvent::Address(event)));
    }

    fn malformed(&mut self, why: String, octets: &[u8]) {
        let octets = octets.get(..LOGGED_OCTETS).unwrap_or(octets).to_vec();
        self.outputs.push_back(BackendOutput::Event(KernelEvent::Malformed { channel: Channel::Route, why, octets }));
    }
}
