//! Local addresses and links as a routing socket and two queries tell them, sans-IO.
//! Invariant: an IPv6 address is told only with the flags that the kernel answered for it, and only when something changed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use watari_kernel::{AddressEvent, AddressFlags, Channel, KernelEvent, LinkEvent};

use super::message::{self, Content, Layout};

/// No message says that duplicate address detection ended: a tentative address is asked after this often, and so is a list that failed.
const TENTATIVE_INTERVAL: Duration = Duration::from_millis(500);
/// Nor does one say that an address became deprecated.
const SETTLED_INTERVAL: Duration = Duration::from_secs(30);
const LOGGED_OCTETS: usize = 512;

type Key = (u32, IpAddr);

/// What the runner shall ask the kernel; it answers at once by the method named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Every interface with its addresses (sysctl NET_RT_IFLIST): [`RtsockMonitor::interfaces`].
    Interfaces,
    /// The flags of an address (SIOCGIFAFLAG_IN6): [`RtsockMonitor::flags`].
    Flags {
        /// Interface index.
        interface: u32,
        /// The address.
        address: Ipv6Addr,
    },
}

/// What the monitor wants of its runner.
#[derive(Clone, Debug, PartialEq)]
pub enum RtsockOutput {
    /// Ask the kernel.
    Ask(Query),
    /// An address, a link or a default route changed, or a message could not be read.
    Event(KernelEvent),
    /// Nothing more until an input or, if given, this boot time.
    Wait(Option<Duration>),
}

#[derive(Clone, Copy, Debug)]
struct Row {
    prefix_len: u8,
    /// As told; `None` while the kernel has not answered yet, and for an anycast address for good.
    told: Option<AddressFlags>,
}

/// Follows addresses and links over one PF_ROUTE socket.
#[derive(Debug)]
pub struct RtsockMonitor {
    layout: Layout,
    addresses: BTreeMap<Key, Row>,
    links: BTreeMap<u32, bool>,
    outputs: VecDeque<RtsockOutput>,
    deadline: Option<Duration>,
    /// The kernel did not give its list: it is asked for at the deadline.
    list_again: bool,
}

impl RtsockMonitor {
    /// A monitor that knows nothing yet; the first thing it wants is the list of interfaces.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let outputs = VecDeque::from([RtsockOutput::Ask(Query::Interfaces)]);
        Self { layout, addresses: BTreeMap::new(), links: BTreeMap::new(), outputs, deadline: None, list_again: false }
    }

    /// Takes what the routing socket gave.
    pub fn received(&mut self, now: Duration, octets: &[u8]) {
        self.read(octets, &mut |monitor, content| monitor.take(content));
        self.schedule(now);
    }

    /// The socket lost messages: everything is asked for again, and what vanished unseen is told.
    pub fn overrun(&mut self) {
        let ask = RtsockOutput::Ask(Query::Interfaces);
        if !self.outputs.contains(&ask) {
            self.outputs.push_back(ask);
        }
    }

    /// Takes the answer to [`Query::Interfaces`]; `None` where the kernel gave none, which is asked for once more a little later.
    pub fn interfaces(&mut self, now: Duration, octets: Option<&[u8]>) {
        self.list_again = octets.is_none();
        if let Some(octets) = octets {
            self.list(octets);
        }
        self.schedule(now);
    }

    fn list(&mut self, octets: &[u8]) {
        let (mut addresses, mut links) = (BTreeSet::new(), BTreeSet::new());
        let whole = self.read(octets, &mut |monitor, content| {
            match content {
                Content::Address { interface, address, .. } => drop(addresses.insert((interface, address))),
                Content::Link(link) => drop(links.insert(link.interface)),
                _ => {}
            }
            monitor.take(content);
        });
        // A list that could not be read to its end proves nothing about what it does not hold.
        if whole {
            let gone: Vec<Key> = self.addresses.keys().filter(|key| !addresses.contains(key)).copied().collect();
            gone.into_iter().for_each(|key| self.forget(key));
            let gone: Vec<u32> = self.links.keys().filter(|link| !links.contains(link)).copied().collect();
            gone.into_iter().for_each(|interface| self.link(LinkEvent { interface, present: false, up: false }));
        }
    }

    /// Takes the answer to [`Query::Flags`]; `None` where the kernel has no such address.
    pub fn flags(&mut self, now: Duration, interface: u32, address: Ipv6Addr, bits: Option<u32>) {
        let key = (interface, IpAddr::V6(address));
        match bits {
            None => self.forget(key),
            Some(bits) => match self.layout.address_flags(bits) {
                Some(flags) => self.settle(key, flags),
                None => self.withdraw(key),
            },
        }
        self.schedule(now);
    }

    /// The time given by `Wait` has come.
    pub fn timeout(&mut self, now: Duration) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        if std::mem::take(&mut self.list_again) {
            self.overrun();
        }
        let any_tentative = self.any_tentative();
        let keys: Vec<Key> = self.addresses.iter().filter(|(_, row)| !any_tentative || is_tentative(row)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.ask_flags(key));
        self.deadline = None;
        self.schedule(now);
    }

    /// The next thing wanted; call until `Wait`.
    pub fn poll(&mut self) -> RtsockOutput {
        self.outputs.pop_front().unwrap_or(RtsockOutput::Wait(self.deadline))
    }

    /// Reads message by message; whether every one could be read.
    fn read(&mut self, octets: &[u8], take: &mut dyn FnMut(&mut Self, Content)) -> bool {
        let (mut rest, mut whole) = (octets, true);
        while !rest.is_empty() {
            match message::first(rest, self.layout) {
                Ok((Ok(content), behind)) => {
                    take(self, content);
                    rest = behind;
                }
                Ok((Err(why), behind)) => {
                    self.malformed(why, rest);
                    (rest, whole) = (behind, false);
                }
                Err(why) => {
                    self.malformed(why, rest);
                    return false;
                }
            }
        }
        whole
    }

    fn take(&mut self, content: Content) {
        match content {
            Content::Address { interface, address, prefix_len, present: true } => {
                let row = self.addresses.entry((interface, address)).or_insert(Row { prefix_len, told: None });
                if row.prefix_len != prefix_len {
                    *row = Row { prefix_len, told: None };
                }
                match address {
                    IpAddr::V4(_) => self.settle((interface, address), AddressFlags::default()),
                    IpAddr::V6(_) => self.ask_flags((interface, address)),
                }
            }
            Content::Address { interface, address, .. } => self.forget((interface, address)),
            Content::Link(link) => self.link(link),
            Content::Route(route) if route.is_default() => self.tell(KernelEvent::Route(route)),
            Content::Route(_) | Content::Other => {}
        }
    }

    fn link(&mut self, link: LinkEvent) {
        let before = if link.present { self.links.insert(link.interface, link.up) } else { self.links.remove(&link.interface) };
        if before != link.present.then_some(link.up) {
            self.tell(KernelEvent::Link(link));
        }
    }

    fn ask_flags(&mut self, (interface, address): Key) {
        let IpAddr::V6(address) = address else { return };
        let ask = RtsockOutput::Ask(Query::Flags { interface, address });
        if !self.outputs.contains(&ask) {
            self.outputs.push_back(ask);
        }
    }

    fn settle(&mut self, key: Key, flags: AddressFlags) {
        let Some(row) = self.addresses.get_mut(&key).filter(|row| row.told != Some(flags)) else { return };
        row.told = Some(flags);
        let (interface, address) = key;
        let prefix_len = row.prefix_len;
        self.tell(KernelEvent::Address(AddressEvent { interface, address, prefix_len, present: true, flags }));
    }

    fn forget(&mut self, key: Key) {
        self.withdraw(key);
        self.addresses.remove(&key);
    }

    /// Tells that an address which was told is no more.
    fn withdraw(&mut self, (interface, address): Key) {
        let Some(row) = self.addresses.get_mut(&(interface, address)) else { return };
        let prefix_len = row.prefix_len;
        if row.told.take().is_some() {
            let flags = AddressFlags::default();
            self.tell(KernelEvent::Address(AddressEvent { interface, address, prefix_len, present: false, flags }));
        }
    }

    fn any_tentative(&self) -> bool {
        self.addresses.values().any(is_tentative)
    }

    /// Keeps the earlier of the time set and the time now needed.
    fn schedule(&mut self, now: Duration) {
        let interval = if self.list_again || self.any_tentative() { TENTATIVE_INTERVAL } else { SETTLED_INTERVAL };
        let next = now.saturating_add(interval);
        let wanted = self.list_again || self.addresses.keys().any(|(_, address)| address.is_ipv6());
        self.deadline = wanted.then(|| self.deadline.map_or(next, |deadline| deadline.min(next)));
    }

    fn tell(&mut self, event: KernelEvent) {
        self.outputs.push_back(RtsockOutput::Event(event));
    }

    fn malformed(&mut self, why: String, octets: &[u8]) {
        let octets = octets.get(..LOGGED_OCTETS).unwrap_or(octets).to_vec();
        self.tell(KernelEvent::Malformed { channel: Channel::Route, why, octets });
    }
}

fn is_tentative(row: &Row) -> bool {
    row.told.is_some_and(|flags| flags.tentative && !flags.dad_failed)
}
