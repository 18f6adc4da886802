//! Requests as messages. What the kernel would refuse or misread for want of sense is refused here, in words.
//! Invariant: an SA is always written with its selector.

use neli::consts::nl::NlmF;
use watari_kernel::{Endpoints, PolicyAction, PolicyEntry, PolicyKind, SaId, SaLifetime, SaParameters};
use watari_policies::{Direction, Mode, Protocol, Reqid, Selector};

use crate::convert::{
    MAX_TEMPLATES, family, no_limits, raw_address, raw_direction, raw_kind, raw_mode, raw_protocol, raw_selector, raw_template,
};
use crate::layout::{
    EncapTemplate, LifetimeLimits, RawId, ReplayStateEsn, UserKmAddress, UserMigrate, UserPolicyId, UserPolicyInfo, UserSaId, UserSaInfo,
    UserSpiInfo,
};
use crate::message::{Attribute, Body, Outgoing, XfrmMsg, Xfrma};

/// SPIs 1 to 255 are reserved (RFC 4303 2.1).
const FIRST_SPI: u32 = 0x100;
/// XFRM_STATE_ESN in `xfrm_usersa_info.flags`.
const STATE_ESN: u8 = 128;
/// A larger anti-replay window needs a bitmap of its own.
const PLAIN_WINDOW: u32 = 32;
/// XFRMA_REPLAY_ESN_MAX: the largest bitmap, in packets.
const LARGEST_WINDOW: u32 = 4096;
/// UDP_ENCAP_ESPINUDP.
const ESP_IN_UDP: u16 = 2;

/// XFRM_MSG_ALLOCSPI: answered by the larval state.
pub(crate) fn allocate_spi(ends: Endpoints, protocol: Protocol, mode: Mode, reqid: Reqid) -> Result<Outgoing, String> {
    one_family(ends)?;
    let info = UserSaInfo {
        id: RawId { daddr: raw_address(ends.dst), proto: raw_protocol(protocol), ..RawId::default() },
        saddr: raw_address(ends.src),
        reqid: reqid.0,
        family: family(ends.dst),
        mode: raw_mode(mode),
        ..UserSaInfo::default()
    };
    let fixed = UserSpiInfo { info, min: FIRST_SPI, max: u32::MAX };
    Ok(Outgoing { kind: XfrmMsg::AllocSpi, flags: NlmF::empty(), body: Body::new(&fixed, Vec::new()) })
}

/// XFRM_MSG_NEWSA, or XFRM_MSG_UPDSA to take the place of a larval state.
pub(crate) fn add_sa(sa: &SaParameters, update: bool, sequence: u32) -> Result<Outgoing, String> {
    one_family(sa.endpoints())?;
    let esn = sa.keys.suite.esn;
    let bitmap = esn || sa.replay_window > PLAIN_WINDOW;
    let mut attributes = algorithms(sa)?;
    if bitmap {
        attributes.push(replay(sa.replay_window, esn)?);
    }
    if let Some(ports) = sa.encapsulation {
        let encap = EncapTemplate {
            encap_type: ESP_IN_UDP,
            sport: ports.source_port.into(),
            dport: ports.destination_port.into(),
            ..EncapTemplate::default()
        };
        attributes.push(Attribute::new(Xfrma::Encap, &encap));
    }
    let fixed = UserSaInfo {
        sel: raw_selector(&sa.selector)?,
        id: RawId { daddr: raw_address(sa.id.dst), spi: sa.id.spi.0.into(), proto: raw_protocol(sa.id.protocol), ..RawId::default() },
        saddr: raw_address(sa.src),
        lft: limits(&sa.lifetime),
        seq: sequence,
        reqid: sa.reqid.0,
        family: family(sa.id.dst),
        mode: raw_mode(sa.mode),
        replay_window: if bitmap { 0 } else { u8::try_from(sa.replay_window).unwrap_or(u8::MAX) },
        flags: if esn { STATE_ESN } else { 0 },
        ..UserSaInfo::default()
    };
    let kind = if update { XfrmMsg::UpdSa } else { XfrmMsg::NewSa };
    Ok(Outgoing { kind, flags: NlmF::ACK, body: Body::new(&fixed, attributes) })
}

/// XFRM_MSG_DELSA.
pub(crate) fn delete_sa(id: &SaId) -> Outgoing {
    Outgoing { kind: XfrmMsg::DelSa, flags: NlmF::ACK, body: Body::new(&sa_id(id), Vec::new()) }
}

/// XFRM_MSG_GETSA: answered by the SA.
pub(crate) fn query_sa(id: &SaId) -> Outgoing {
    Outgoing { kind: XfrmMsg::GetSa, flags: NlmF::empty(), body: Body::new(&sa_id(id), Vec::new()) }
}

/// XFRM_MSG_GETSA for every SA and state.
pub(crate) const fn dump_sas() -> Outgoing {
    Outgoing { kind: XfrmMsg::GetSa, flags: NlmF::DUMP, body: Body::EMPTY }
}

/// XFRM_MSG_GETPOLICY for every policy of both sets.
pub(crate) const fn dump_policies() -> Outgoing {
    Outgoing { kind: XfrmMsg::GetPolicy, flags: NlmF::DUMP, body: Body::EMPTY }
}

/// XFRM_MSG_UPDPOLICY, which also adds.
pub(crate) fn set_policy(policy: &PolicyEntry) -> Result<Outgoing, String> {
    if policy.templates.len() > MAX_TEMPLATES {
        return Err(format!("{} templates, a policy can have {MAX_TEMPLATES}", policy.templates.len()));
    }
    let fixed = UserPolicyInfo {
        sel: raw_selector(&policy.selector)?,
        lft: no_limits(),
        priority: policy.priority,
        index: policy.index.0,
        dir: raw_direction(policy.direction),
        action: match policy.action {
            PolicyAction::Allow => 0,
            PolicyAction::Block => 1,
        },
        ..UserPolicyInfo::default()
    };
    let templates = policy.templates.iter().map(|template| raw_template(template, fixed.sel.family)).collect::<Result<Vec<_>, _>>()?;
    let mut attributes = vec![policy_type(policy.kind)];
    if !templates.is_empty() {
        attributes.push(Attribute::new(Xfrma::Tmpl, templates.as_slice()));
    }
    Ok(Outgoing { kind: XfrmMsg::UpdPolicy, flags: NlmF::ACK, body: Body::new(&fixed, attributes) })
}

/// XFRM_MSG_DELPOLICY by selector.
pub(crate) fn delete_policy(selector: &Selector, direction: Direction, kind: PolicyKind) -> Result<Outgoing, String> {
    let fixed = UserPolicyId { sel: raw_selector(selector)?, dir: raw_direction(direction), ..UserPolicyId::default() };
    Ok(Outgoing { kind: XfrmMsg::DelPolicy, flags: NlmF::ACK, body: Body::new(&fixed, vec![policy_type(kind)]) })
}

/// XFRM_MSG_MIGRATE of main policies, as a Mobile IPv6 daemon sends it.
pub(crate) fn migrate(migrate: &watari_kernel::Migrate) -> Result<Outgoing, String> {
    let fixed = UserPolicyId { sel: raw_selector(&migrate.selector)?, dir: raw_direction(migrate.direction), ..UserPolicyId::default() };
    if !(1..=MAX_TEMPLATES).contains(&migrate.steps.len()) {
        return Err(format!("{} steps, a MIGRATE has 1 to {MAX_TEMPLATES}", migrate.steps.len()));
    }
    let mut attributes = Vec::new();
    if let Some(addresses) = migrate.kmaddress {
        one_family(Endpoints { src: addresses.local, dst: addresses.remote })?;
        let raw = UserKmAddress {
            local: raw_address(addresses.local),
            remote: raw_address(addresses.remote),
            family: family(addresses.local),
            ..UserKmAddress::default()
        };
        attributes.push(Attribute::new(Xfrma::KmAddress, &raw));
    }
    let steps: Vec<UserMigrate> = migrate
        .steps
        .iter()
        .map(|step| UserMigrate {
            old_daddr: raw_address(step.old.dst),
            old_saddr: raw_address(step.old.src),
            new_daddr: raw_address(step.new.dst),
            new_saddr: raw_address(step.new.src),
            proto: raw_protocol(step.protocol),
            mode: raw_mode(step.mode),
            reserved: 0,
            reqid: step.reqid.0,
            old_family: family(step.old.dst),
            new_family: family(step.new.dst),
        })
        .collect();
    attributes.push(Attribute::new(Xfrma::Migrate, steps.as_slice()));
    Ok(Outgoing { kind: XfrmMsg::Migrate, flags: NlmF::ACK, body: Body::new(&fixed, attributes) })
}

fn one_family(ends: Endpoints) -> Result<(), String> {
    if ends.src.is_ipv4() == ends.dst.is_ipv4() { Ok(()) } else { Err(format!("end points {ends} are of different families")) }
}

fn sa_id(id: &SaId) -> UserSaId {
    UserSaId { daddr: raw_address(id.dst), spi: id.spi.0.into(), family: family(id.dst), proto: raw_protocol(id.protocol), pad: 0 }
}

fn policy_type(kind: PolicyKind) -> Attribute {
    // struct xfrm_userpolicy_type: the type, two octets of padding, a reserved u16 and u8, 6 octets in all.
    Attribute::new(Xfrma::PolicyType, &[raw_kind(kind), 0, 0, 0, 0, 0])
}

fn limits(lifetime: &SaLifetime) -> LifetimeLimits {
    let amount = |limit: u64| if limit == 0 { u64::MAX } else { limit };
    LifetimeLimits {
        soft_byte_limit: amount(lifetime.soft_bytes),
        hard_byte_limit: amount(lifetime.hard_bytes),
        soft_packet_limit: amount(lifetime.soft_packets),
        hard_packet_limit: amount(lifetime.hard_packets),
        soft_add_expires_seconds: lifetime.soft_seconds,
        hard_add_expires_seconds: lifetime.hard_seconds,
        ..LifetimeLimits::default()
    }
}

/// The bitmap attribute. An outbound SA has no window, but the kernel wants one of at least a packet with extended sequence numbers.
fn replay(window: u32, esn: bool) -> Result<Attribute, String> {
    if window > LARGEST_WINDOW {
        return Err(format!("anti-replay window of {window} packets, the kernel takes {LARGEST_WINDOW}"));
    }
    let replay_window = if esn { window.max(1) } else { window };
    // The kernel allocates the bitmap itself.
    let state = ReplayStateEsn { bmp_len: replay_window.div_ceil(32), replay_window, ..ReplayStateEsn::default() };
    Ok(Attribute::new(Xfrma::ReplayEsnVal, &state))
}

fn algorithms(sa: &SaParameters) -> Result<Vec<Attribute>, String> {
    let suite = sa.keys.suite;
    let mut attributes = Vec::new();
    if sa.id.protocol == Protocol::Esp {
        let cipher = suite.cipher;
        expect_key(cipher.name(), sa.keys.encryption.len(), cipher.keymat_len())?;
        let (kind, lengths) = if cipher.is_aead() {
            (Xfrma::AlgAead, vec![cipher.keymat_len(), cipher.icv_len()])
        } else {
            (Xfrma::AlgCrypt, vec![cipher.keymat_len()])
        };
        attributes.push(Attribute::keyed(kind, algorithm(cipher.xfrm_name(), &lengths)?, &sa.keys.encryption));
    }
    match suite.integrity {
        Some(integrity) => {
            expect_key(integrity.name(), sa.keys.integrity.len(), integrity.key_len())?;
            let plain = algorithm(integrity.xfrm_name(), &[integrity.key_len(), integrity.icv_len()])?;
            attributes.push(Attribute::keyed(Xfrma::AlgAuthTrunc, plain, &sa.keys.integrity));
        }
        None if sa.id.protocol == Protocol::Ah => return Err("AH needs an integrity algorithm".to_owned()),
        None => {}
    }
    Ok(attributes)
}

fn expect_key(name: &str, given: usize, wanted: usize) -> Result<(), String> {
    if given == wanted { Ok(()) } else { Err(format!("a key of {given} octets for {name}, which takes {wanted}")) }
}

/// `struct xfrm_algo*` up to the key: a name of 64 octets, then lengths in bits.
fn algorithm(name: &str, lengths: &[usize]) -> Result<Vec<u8>, String> {
    let mut octets = name.as_bytes().to_vec();
    octets.resize(64, 0);
    for length in lengths {
        let bits = u32::try_from(length.saturating_mul(8)).map_err(|_| format!("{length} octets of key"))?;
        octets.extend_from_slice(&bits.to_ne_bytes());
    }
    Ok(octets)
}
