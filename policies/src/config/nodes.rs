//! The file that `mobile_nodes_file` or `clients_file` names: one peer per line, `identity  address-or-assign  key`.
//! Invariant: nothing of the file is ever printed but the numbers of its lines, since any word of a broken line may be a key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::diagnostics::Report;
use super::document::{Read, Section, Span};
use super::values::{self, ASSIGN};
use super::{SecretOrigin, Secrets};
use crate::profile::{Protected, Reqids, ServedNode, Terms};
use crate::{Identity, Installer, MobilityRole, Reqid, Secret};

/// Most complaints about one file.
const MOST_COMPLAINTS: usize = 20;

/// What the peers of a file are called.
pub(super) struct Words {
    /// The key that names the file.
    key: &'static str,
    peer: &'static str,
    address: &'static str,
    /// The table of a peer that does not stand in the file.
    table: &'static str,
    /// Who serves them.
    server: &'static str,
    /// Where addresses come from that are assigned.
    source: &'static str,
}

/// Mobile nodes of a home agent.
pub(super) const MOBILE_NODES: &Words = &Words {
    key: "mobile_nodes_file",
    peer: "mobile node",
    address: "home address",
    table: "[[home_agent.mobile_node]]",
    server: "home agent",
    source: "home_prefix",
};

/// Clients of a gateway.
pub(super) const CLIENTS: &Words =
    &Words { key: "clients_file", peer: "client", address: "address", table: "[[gateway.client]]", server: "gateway", source: "pool" };

/// What the lines of the file must fit.
pub(super) struct Surroundings<'a> {
    pub(super) words: &'static Words,
    pub(super) home_agent: Option<IpAddr>,
    pub(super) home_prefix: Option<IpNet>,
    pub(super) terms: Option<&'a Terms>,
    /// Nodes that have a table of their own.
    pub(super) tables: &'a [ServedNode],
    /// Reqids that stand elsewhere in the configuration.
    pub(super) reqids: BTreeSet<u32>,
}

/// Reads `mobile_nodes_file`; the nodes and the place of the key.
pub(super) fn read(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &mut Secrets<'_>,
    around: &Surroundings<'_>,
) -> Option<Read<Vec<ServedNode>>> {
    let words = around.words;
    let entry = section.entry(words.key)?;
    let span = entry.value.span();
    let help =
        format!("the file has a line \"identity {} key\" for each {}, and must be readable for the agent", words.address, words.peer);
    let (path, content) = secrets.open(report, entry.value, &help)?;
    let mut reader = Reader::new(around, report.line(span.start));
    for (line, number) in content.expose().split(|octet| *octet == b'\n').zip(1u32..) {
        match reader.line(line, number) {
            Ok(None) => {}
            Ok(Some((mut node, key))) => {
                let origin = SecretOrigin::Line { path: path.clone(), line: number };
                node.secret = secrets.keep_for(node.identity.fingerprint(), Secret::from(key), origin);
                reader.nodes.push(node);
            }
            Err(why) => reader.complain(report, &span, &path, number, &why),
        }
    }
    reader.finish(report, &span, &path);
    Some(Read { value: reader.nodes, span })
}

struct Reader<'a> {
    around: &'a Surroundings<'a>,
    line_of_key: u32,
    nodes: Vec<ServedNode>,
    /// Where each identity and each address stands; line 0 is a table of the configuration.
    identities: BTreeMap<Identity, u32>,
    addresses: BTreeMap<IpAddr, u32>,
    reqids: Option<Numbers>,
    complaints: usize,
}

impl<'a> Reader<'a> {
    fn new(around: &'a Surroundings<'a>, line_of_key: u32) -> Self {
        let known = around.tables.iter().filter(|node| !node.home_address.is_unspecified());
        let ours = around.terms.filter(|terms| terms.installer == Installer::Us);
        Self {
            around,
            line_of_key,
            nodes: Vec::new(),
            identities: around.tables.iter().map(|node| (node.identity.clone(), 0)).collect(),
            addresses: known.map(|node| (node.home_address, 0)).collect(),
            reqids: ours.map(|terms| Numbers::new(terms, around)),
            complaints: 0,
        }
    }

    /// The node of a line with its key; `None` for an empty line or a comment.
    fn line<'l>(&mut self, line: &'l [u8], number: u32) -> Result<Option<(ServedNode, &'l [u8])>, String> {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(None);
        }
        let (identity, rest) = word(line);
        let (address, key) = word(rest);
        let identity: Identity = text(identity).and_then(|text| text.parse().ok()).ok_or("the first word is no identity")?;
        let address = match text(address) {
            Some(ASSIGN) => MobilityRole::UNKNOWN,
            Some(text) => text.parse().map_err(|_| "the second word is neither an IPv6 address nor \"assign\"")?,
            None => return Err("the second word is neither an IPv6 address nor \"assign\"".to_owned()),
        };
        if key.is_empty() {
            return Err(format!("there is no key after the {}", self.around.words.address));
        }
        self.address_fits(address)?;
        let name = identity.to_string();
        if let Some(why) = values::bad_name(&name, values::LONGEST_NAME) {
            return Err(format!("the identity cannot serve as a name: {why}"));
        }
        let table = self.around.words.table;
        let place = |first: u32| if first == 0 { format!("a {table}") } else { format!("line {first}") };
        if let Some(first) = self.identities.insert(identity.clone(), number) {
            return Err(format!("the identity is that of {} already", place(first)));
        }
        if !address.is_unspecified()
            && let Some(first) = self.addresses.insert(address, number)
        {
            return Err(format!("the {} is that of {} already", self.around.words.address, place(first)));
        }
        let reqids = self.reqids.as_mut().map(|numbers| numbers.allot(identity.fingerprint())).unwrap_or_default();
        let node = ServedNode { name, home_address: address, identity, reqids, line: self.line_of_key, ..ServedNode::default() };
        Ok(Some((node, key)))
    }

    fn address_fits(&self, address: IpAddr) -> Result<(), String> {
        let Words { address: called, server, source, .. } = self.around.words;
        if address.is_unspecified() {
            let prefix = self.around.home_prefix.is_some();
            return if prefix { Ok(()) } else { Err(format!("its {called} cannot be assigned without \"{source}\"")) };
        }
        if let Some(why) = crate::mobility::no_mobile_address(address) {
            return Err(format!("the {called} cannot be used: {why}"));
        }
        if self.around.home_agent == Some(address) {
            return Err(format!("the {called} is the {server}'s own"));
        }
        match self.around.home_prefix {
            Some(prefix) if !prefix.contains(&address) && *source == "home_prefix" => {
                Err(format!("the home address is not in the home prefix, {prefix}"))
            }
            _ => Ok(()),
        }
    }

    fn complain(&mut self, report: &mut Report<'_>, span: &Span, path: &str, number: u32, why: &str) {
        self.complaints = self.complaints.saturating_add(1);
        if self.complaints <= MOST_COMPLAINTS {
            report
                .error(span.clone(), format!("{path}, line {number}: {why}"))
                .help("a line reads for example: mn1.example 2001:db8:1::a1 the-secret-key, or: mn2.example assign another-key");
        }
    }

    fn finish(&self, report: &mut Report<'_>, span: &Span, path: &str) {
        if let Some(more) = self.complaints.checked_sub(MOST_COMPLAINTS).filter(|more| *more > 0) {
            report.error(span.clone(), format!("{path}: {more} more lines are wrong"));
        }
    }
}

/// The first word of a line and what comes after it, without the spaces in between.
fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (first, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
    (first, rest.trim_ascii())
}

fn text(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

/// Allots reqids that no other node has. A node's numbers come from its identity, so that they do not change when others come and go.
pub(super) struct Numbers {
    kinds: Vec<Protected>,
    taken: BTreeSet<u32>,
    slots: BTreeSet<u32>,
}

impl Numbers {
    /// Numbers of one node: two for each kind of traffic.
    const OF_A_NODE: u32 = 8;
    /// The largest reqid that a policy may bring over PF_KEY on Linux is 0x3fff; nodes get such numbers first.
    const LOW: (u32, u32) = (0x100 / Self::OF_A_NODE, 0x3f00 / Self::OF_A_NODE);
    /// Everything above, where there is always room.
    const HIGH: (u32, u32) = (0x1000_0000 / Self::OF_A_NODE, 0x7000_0000 / Self::OF_A_NODE);
    /// Low places that are tried for one node.
    const LOW_TRIES: u64 = 8;

    pub(super) fn new(terms: &Terms, around: &Surroundings<'_>) -> Self {
        let reqids = terms.protect.values().chain(around.tables.iter().flat_map(|node| node.reqids.values()));
        let written = reqids.flat_map(|pair| [pair.to_home_agent.0, pair.to_mobile_node.0]);
        let taken = written.chain(around.reqids.iter().copied()).collect();
        Self { kinds: terms.protect.keys().copied().collect(), taken, slots: BTreeSet::new() }
    }

    pub(super) fn allot(&mut self, fingerprint: u64) -> BTreeMap<Protected, Reqids> {
        let place = |(first, end): (u32, u32), step: u64| {
            let room = u64::from(end.saturating_sub(first)).max(1);
            first.saturating_add(u32::try_from(fingerprint.wrapping_add(step).checked_rem(room).unwrap_or_default()).unwrap_or_default())
        };
        let low = (0..Self::LOW_TRIES).map(|step| place(Self::LOW, step));
        let high = (0..u64::from(Self::HIGH.1)).map(|step| place(Self::HIGH, step));
        let free = low.chain(high).find(|slot| !self.slots.contains(slot) && self.untouched(*slot));
        let slot = free.unwrap_or(Self::HIGH.1);
        self.slots.insert(slot);
        let first = slot.saturating_mul(Self::OF_A_NODE);
        let pair = |index: u32| {
            let to_home_agent = first.saturating_add(index.saturating_mul(2));
            Reqids { to_home_agent: Reqid(to_home_agent), to_mobile_node: Reqid(to_home_agent.saturating_add(1)) }
        };
        self.kinds.iter().zip(0..).map(|(what, index)| (*what, pair(index))).collect()
    }

    /// Whether nobody wrote a number of this place into the configuration.
    fn untouched(&self, slot: u32) -> bool {
        let first = slot.saturating_mul(Self::OF_A_NODE);
        self.taken.range(first..first.saturating_add(Self::OF_A_NODE)).next().is_none()
    }
}

#[cfg(test)]
mod tests;
