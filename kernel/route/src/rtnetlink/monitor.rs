//! The tables of local addresses and links and their changes; default routes as they are heard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use watari_kernel::{AddressEvent, AddressFlags, BackendOutput, Channel, KernelEvent, LinkEvent};

use super::message::{self, Content, Incoming};

/// A refused dump is asked for again this many times.
const TRIES: u32 = 16;
const LOGGED_OCTETS: usize = 512;

type Key = (u32, IpAddr);

/// The two lists that are read at the start and after a loss, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Addresses,
    Links,
}

#[derive(Debug)]
struct Dump {
    list: List,
    seq: u32,
    tries: u32,
    interrupted: bool,
    /// Messages were lost while it ran: both lists are read again after it.
    lost: bool,
    /// What is there for certain: seen in the dump, or come since it began.
    addresses: BTreeSet<Key>,
    links: BTreeSet<u32>,
}

/// Follows addresses, links and default routes of a network namespace over one NETLINK_ROUTE socket that has joined [`crate::GROUPS`].
#[derive(Debug)]
pub struct RouteMonitor {
    next_seq: u32,
    known: BTreeMap<Key, (u8, AddressFlags)>,
    links: BTreeMap<u32, bool>,
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
        let mut monitor = Self { next_seq: 1, known: BTreeMap::new(), links: BTreeMap::new(), dump: None, outputs: VecDeque::new() };
        monitor.start_dump(List::Addresses, 0);
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
            Some(dump) => dump.lost = true,
            None => self.start_dump(List::Addresses, 0),
        }
    }

    /// The next thing wanted: `Send(Channel::Route, ..)`, `Event(..)` of an address, a link, a default route or a malformed message; at last `Wait(None)`.
    pub fn poll(&mut self) -> BackendOutput {
        self.outputs.pop_front().unwrap_or(BackendOutput::Wait(None))
    }

    fn start_dump(&mut self, list: List, tries: u32) {
        let seq = self.next_seq;
        self.next_seq = seq.checked_add(1).unwrap_or(1);
        let (addresses, links) = (BTreeSet::new(), BTreeSet::new());
        self.dump = Some(Dump { list, seq, tries, interrupted: false, lost: false, addresses, links });
        let request = match list {
            List::Addresses => message::address_request(seq),
            List::Links => message::link_request(seq),
        };
        self.outputs.extend(request.map(|octets| BackendOutput::Send(Channel::Route, octets)));
    }

    fn take(&mut self, message: Incoming, octets: &[u8]) {
        let of_dump = message.multi && self.dump.as_ref().is_some_and(|dump| dump.seq == message.seq);
        if let (true, Some(dump)) = (of_dump, self.dump.as_mut()) {
            dump.interrupted |= message.interrupted;
        }
        match message.content {
            // A part of a dump that was given up tells what was, not what is.
            Ok(Content::Address(_) | Content::Link(_)) if message.multi && !of_dump => {}
            Ok(Content::Address(event)) => self.address(event),
            Ok(Content::Link(event)) => self.link(event),
            Ok(Content::Route(event)) => self.tell(KernelEvent::Route(event)),
            Ok(Content::End(errno)) if self.dump.as_ref().is_some_and(|dump| dump.seq == message.seq) => self.end_dump(errno),
            Ok(Content::End(_) | Content::Other) => {}
            Err(why) => self.malformed(why, octets),
        }
    }

    fn address(&mut self, event: AddressEvent) {
        let key = (event.interface, event.address);
        let seen = self.dump.as_mut().map(|dump| &mut dump.addresses);
        let news = if event.present {
            seen.map(|seen| seen.insert(key));
            let row = (event.prefix_len, event.flags);
            self.known.insert(key, row) != Some(row)
        } else {
            seen.map(|seen| seen.remove(&key));
            self.known.remove(&key).is_some()
        };
        if news {
            self.tell(KernelEvent::Address(event));
        }
    }

    fn link(&mut self, event: LinkEvent) {
        let seen = self.dump.as_mut().map(|dump| &mut dump.links);
        let before = if event.present {
            seen.map(|seen| seen.insert(event.interface));
            self.links.insert(event.interface, event.up)
        } else {
            seen.map(|seen| seen.remove(&event.interface));
            self.links.remove(&event.interface)
        };
        if before != event.present.then_some(event.up) {
            self.tell(KernelEvent::Link(event));
        }
    }

    fn end_dump(&mut self, errno: i32) {
        let Some(dump) = self.dump.take() else { return };
        if dump.lost {
            return self.start_dump(List::Addresses, 0);
        }
        if errno > 0 || dump.interrupted {
            if dump.tries < TRIES {
                return self.start_dump(dump.list, dump.tries.saturating_add(1));
            }
            self.malformed(format!("the kernel does not list its {}: error {errno}", dump.list.name()), &[]);
        } else {
            self.drop_unseen(&dump);
        }
        if dump.list == List::Addresses {
            self.start_dump(List::Links, 0);
        }
    }

    fn drop_unseen(&mut self, dump: &Dump) {
        match dump.list {
            List::Addresses => {
                let gone: Vec<Key> = self.known.keys().filter(|key| !dump.addresses.contains(key)).copied().collect();
                for (interface, address) in gone {
                    let prefix_len = self.known.get(&(interface, address)).map_or(0, |(length, _)| *length);
                    self.address(AddressEvent { interface, address, prefix_len, present: false, flags: AddressFlags::default() });
                }
            }
            List::Links => {
                let gone: Vec<u32> = self.links.keys().filter(|link| !dump.links.contains(link)).copied().collect();
                gone.into_iter().for_each(|interface| self.link(LinkEvent { interface, present: false, up: false }));
            }
        }
    }

    fn tell(&mut self, event: KernelEvent) {
        self.outputs.push_back(BackendOutput::Event(event));
    }

    fn malformed(&mut self, why: String, octets: &[u8]) {
        let octets = octets.get(..LOGGED_OCTETS).unwrap_or(octets).to_vec();
        self.tell(KernelEvent::Malformed { channel: Channel::Route, why, octets });
    }
}

impl List {
    const fn name(self) -> &'static str {
        match self {
            Self::Addresses => "addresses",
            Self::Links => "links",
        }
    }
}
