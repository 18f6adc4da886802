//! What a KAME kernel tells of its own accord: ACQUIRE with the packet, soft EXPIRE alone, MIGRATE; all of it to registered sockets.

use std::net::IpAddr;

use watari_kernel::mirror::{HAO, Mirror};
use watari_kernel::{Acquire, Expire, KernelEvent, MigrateSource, SaInfo};
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};
use watari_policies::{Direction, Selector};

use super::layout::{Address, Head, ext, kind};
use super::policies::{migrate_message, policy_part};
use super::sas::{current_part, sa2_part, satype};
use super::{KameKernel, To};

/// Next header number of destination options.
const DESTINATION_OPTIONS: u8 = 60;
/// "No next header".
const NONE: u8 = 59;

impl KameKernel {
    /// Says in octets what the mirror reports, to whom KAME would; what is no matter of PF_KEY is kept apart.
    pub(super) fn tell(&mut self, mirror: &Mirror, event: KernelEvent) {
        match event {
            KernelEvent::Acquire(acquire) => self.acquire(mirror, &acquire),
            // Of the end of an SA nobody is told here.
            KernelEvent::Expire(Expire { hard: true, id, .. }) => {
                self.larval.remove(&id);
            }
            KernelEvent::Expire(expire) => self.expire(mirror, &expire),
            KernelEvent::Migrate(migrate) if migrate.source == MigrateSource::PfKey && migrate.direction != Direction::Forward => {
                let octets = migrate_message(mirror, &migrate);
                self.send(To::Registered(None), &octets);
            }
            // There is no netlink and no forward direction; an SA that another process removes is told when its request is answered.
            KernelEvent::Migrate(_) | KernelEvent::SaRemoved(_) => {}
            KernelEvent::PolicyChanged(policy) => self.policy_told(kind::SPDADD, &policy),
            KernelEvent::PolicyRemoved(policy) => self.policy_told(kind::SPDDELETE, &policy),
            KernelEvent::Flushed { policies } => {
                let kind = if policies { kind::SPDFLUSH } else { kind::FLUSH };
                self.send(To::All, &Head { kind, ..Head::default() }.message(&[]));
            }
            event => self.others.push(event),
        }
    }

    fn acquire(&mut self, mirror: &Mirror, acquire: &Acquire) {
        let mut proposal = vec![32, 0, 0, 0];
        // One combination: HMAC-SHA1 with AES-CBC; what follows are limits.
        for value in [0x0c03_u32, 160 | 160 << 16, 128 | 256 << 16, 0] {
            proposal.extend(value.to_ne_bytes());
        }
        proposal.resize(4 + 72, 0);
        let mut parts = vec![
            (ext::SRC, Address::host(acquire.endpoints.src).octets()),
            (ext::DST, Address::host(acquire.endpoints.dst).octets()),
            (ext::POLICY, policy_part(2, acquire.direction, acquire.index)),
            (ext::PROPOSAL, proposal),
        ];
        if let Some(packet) = triggering_packet(mirror, &acquire.packet).filter(|_| self.copies_packets) {
            let mut part = u32::try_from(packet.len()).unwrap_or(0).to_ne_bytes().to_vec();
            part.extend(packet);
            parts.push((ext::PACKET, part));
        }
        let head = Head { kind: kind::ACQUIRE, satype: satype(acquire.template.ip_protocol), seq: acquire.sequence, ..Head::default() };
        self.send(To::Registered(None), &head.message(&parts));
    }

    fn expire(&mut self, mirror: &Mirror, expire: &Expire) {
        let Some(sa) = mirror.sas().into_iter().find(|sa| sa.id() == Some(expire.id)) else { return };
        let parts = [
            (ext::SA, self.sa_part(&sa)),
            (ext::SA2, sa2_part(sa.mode, sa.reqid)),
            (ext::LIFETIME_CURRENT, current_part(&sa)),
            (ext::LIFETIME_SOFT, self.detail(&sa, ext::LIFETIME_SOFT).unwrap_or_else(|| vec![0; 28])),
            (ext::SRC, Address::host(sa.src).octets()),
            (ext::DST, Address::host(sa.dst).octets()),
        ];
        let head = Head { kind: kind::EXPIRE, satype: satype(sa.protocol), ..Head::default() };
        self.send(To::Registered(None), &head.message(&parts));
    }
}

/// The care-of address that a packet of these addresses leaves from, if it has a home address option.
fn care_of(mirror: &Mirror, packet: &Selector) -> Option<IpAddr> {
    let of = |sa: &SaInfo| sa.protocol == HAO && (sa.src, sa.dst) == (packet.src.addr(), packet.dst.addr());
    mirror.sas().iter().find(|sa| of(sa)).and_then(|sa| sa.care_of)
}

/// The first octets of an IPv6 packet before IPsec: with the home address option already, so that its source is the care-of address.
fn triggering_packet(mirror: &Mirror, packet: &Selector) -> Option<Vec<u8>> {
    let (IpAddr::V6(home), IpAddr::V6(destination)) = (packet.src.addr(), packet.dst.addr()) else { return None };
    let upper: Vec<u8> = match packet.protocol {
        // A binding update asks for an acknowledgement and says it is for home (A and H).
        MOBILITY_HEADER => {
            let kind = u8::try_from(packet.sport.value).unwrap_or(0);
            [NONE, 1, kind, 0, 0, 0, 0, 1, 0xc0, 0, 0, 16, 1, 2, 0, 0].to_vec()
        }
        ICMPV6 => {
            let octet = |value: u16| u8::try_from(value).unwrap_or(0);
            vec![octet(packet.sport.value), octet(packet.dport.value), 0, 0, 0, 0, 0, 0]
        }
        _ => [packet.sport.value.to_be_bytes(), packet.dport.value.to_be_bytes(), [0, 8], [0, 0]].concat(),
    };
    let mut behind = Vec::new();
    let (source, next) = match care_of(mirror, packet) {
        Some(IpAddr::V6(care_of)) => {
            // Two octets of padding, then the option of 16 octets.
            behind.extend([packet.protocol, 2, 1, 2, 0, 0, 0xc9, 16]);
            behind.extend(home.octets());
            (care_of, DESTINATION_OPTIONS)
        }
        _ => (home, packet.protocol),
    };
    behind.extend(upper);
    let mut octets = vec![0x60, 0, 0, 0];
    octets.extend(u16::try_from(behind.len()).unwrap_or(0).to_be_bytes());
    octets.extend([next, 64]);
    octets.extend(source.octets());
    octets.extend(destination.octets());
    octets.extend(behind);
    Some(octets)
}
