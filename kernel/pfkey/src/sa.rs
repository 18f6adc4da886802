//! SAs as messages. A kernel takes no whole selector with an SA: Linux takes the source prefix from ADDRESS_PROXY and leaves the rest
//! open, KAME has none. The policies, which name the reqid, bound the traffic instead.

use ipnet::IpNet;
use watari_kernel::errno::ETIMEDOUT;
use watari_kernel::{Endpoints, Expire, SaId, SaInfo, SaParameters, Spi};
use watari_policies::{Mode, Protocol, Reqid, Secret, Selector};

use crate::algorithm;
use crate::convert::{protocol_of_satype, raw_protocol, satype};
use crate::dialect::{Dialect, mode_of, raw_mode};
use crate::extension::{
    ADDRESS_PROXY, Address, KEY_AUTH, KEY_ENCRYPT, LIFETIME_CURRENT, LIFETIME_HARD, RawKey, RawLifetime, RawSa, RawSa2, RawSpiRange, SA,
    SATYPE_UNSPEC, SPIRANGE, X_SA2, endpoints, write_encapsulation, write_endpoints, write_lifetime,
};
use crate::message::{Kind, Message, Outgoing};

/// SPIs 1 to 255 are reserved (RFC 4303 2.1).
const FIRST_SPI: u32 = 0x100;
const STATE_LARVAL: u8 = 0;
const STATE_MATURE: u8 = 1;
const ANY_PROTOCOL: u8 = 255;
/// The largest anti-replay window in packets that Linux keeps for PF_KEY; in KAME one octet of window is 8 packets.
const LINUX_WINDOW: u32 = 32;

/// SADB_GETSPI: answered by the larval SA.
pub(crate) fn allocate_spi(dialect: Dialect, ends: Endpoints, protocol: Protocol, mode: Mode, reqid: Reqid) -> Result<Outgoing, String> {
    let mut out = Outgoing::new(Kind::GetSpi, satype(protocol));
    write_endpoints(dialect, ends, &mut out)?;
    out.push(SPIRANGE, &RawSpiRange { min: FIRST_SPI, max: u32::MAX, ..RawSpiRange::default() }, &[])?;
    out.push(X_SA2, &sa2(mode, reqid), &[])?;
    Ok(out)
}

/// SADB_ADD, or SADB_UPDATE to take the place of a larval SA.
pub(crate) fn add(dialect: Dialect, sa: &SaParameters, update: bool) -> Result<Outgoing, String> {
    let (encrypt, auth) = algorithm::numbers(dialect, &sa.keys.suite)?;
    let esp = sa.id.protocol == Protocol::Esp;
    if !esp && auth == 0 {
        return Err("AH needs an integrity algorithm".to_owned());
    }
    let fixed = RawSa {
        spi: sa.id.spi.0.to_be_bytes(),
        replay: window(dialect, sa.replay_window),
        state: STATE_MATURE,
        auth,
        encrypt: if esp { encrypt } else { 0 },
        ..RawSa::default()
    };
    let mut out = Outgoing::new(if update { Kind::Update } else { Kind::Add }, satype(sa.id.protocol));
    out.push(SA, &fixed, &[])?;
    write_lifetime(&sa.lifetime, &mut out)?;
    write_endpoints(dialect, sa.endpoints(), &mut out)?;
    if dialect == Dialect::Linux {
        proxy(&sa.selector).write(dialect, ADDRESS_PROXY, &mut out)?;
    }
    if let Some(integrity) = sa.keys.suite.integrity {
        key(&mut out, KEY_AUTH, integrity.name(), &sa.keys.integrity, integrity.key_len())?;
    }
    if esp {
        let cipher = sa.keys.suite.cipher;
        key(&mut out, KEY_ENCRYPT, cipher.name(), &sa.keys.encryption, cipher.keymat_len())?;
    }
    out.push(X_SA2, &sa2(sa.mode, sa.reqid), &[])?;
    if let Some(ports) = sa.encapsulation {
        write_encapsulation(ports, &mut out)?;
    }
    Ok(out)
}

/// SADB_DELETE or SADB_GET. KAME compares the source address too.
pub(crate) fn by_id(dialect: Dialect, kind: Kind, id: &SaId, src: std::net::IpAddr) -> Result<Outgoing, String> {
    let mut out = Outgoing::new(kind, satype(id.protocol));
    out.push(SA, &RawSa { spi: id.spi.0.to_be_bytes(), state: STATE_MATURE, ..RawSa::default() }, &[])?;
    write_endpoints(dialect, Endpoints { src, dst: id.dst }, &mut out)?;
    Ok(out)
}

/// SADB_ACQUIRE of its header alone, with an error: what was asked for will not be (RFC 2367 3.1.6). No kernel answers it.
//= rfc2367#3.1.6
//# a key manager that cannot negotiate an SA answers the ACQUIRE with its sequence number and an error
pub(crate) fn refuse_acquire(dialect: Dialect) -> Outgoing {
    let mut out = Outgoing::new(Kind::Acquire, SATYPE_UNSPEC);
    out.refuse(dialect.numbering().write(ETIMEDOUT));
    out
}

/// SADB_DUMP of every SA.
pub(crate) fn dump() -> Outgoing {
    Outgoing::new(Kind::Dump, SATYPE_UNSPEC)
}

fn sa2(mode: Mode, reqid: Reqid) -> RawSa2 {
    RawSa2 { mode: raw_mode(mode), reqid: reqid.0, ..RawSa2::default() }
}

fn proxy(selector: &Selector) -> Address {
    Address { protocol: ANY_PROTOCOL, prefix_len: selector.src.prefix_len(), address: selector.src.addr(), port: 0 }
}

fn window(dialect: Dialect, packets: u32) -> u8 {
    let raw = match dialect {
        Dialect::Linux => packets.min(LINUX_WINDOW),
        Dialect::Kame => packets.div_ceil(8),
    };
    u8::try_from(raw).unwrap_or(u8::MAX)
}

fn key(out: &mut Outgoing, kind: u16, name: &str, key: &Secret, wanted: usize) -> Result<(), String> {
    if key.len() != wanted {
        return Err(format!("a key of {} octets for {name}, which takes {wanted}", key.len()));
    }
    let bits = u16::try_from(wanted.saturating_mul(8)).map_err(|_| format!("{wanted} octets of key"))?;
    out.push(kind, &RawKey { bits, ..RawKey::default() }, key.expose())
}

/// The SPI in the answer to GETSPI.
pub(crate) fn spi(message: &Message<'_>) -> Result<Spi, String> {
    let (raw, _) = message.required(SA, "SA")?.take::<RawSa>("SA")?;
    Ok(Spi(u32::from_be_bytes(raw.spi)))
}

/// Which SA a message is about; `None` for protocols other than ESP and AH.
pub(crate) fn id(dialect: Dialect, message: &Message<'_>) -> Result<Option<(SaId, Endpoints)>, String> {
    let Some(protocol) = protocol_of_satype(message.satype) else { return Ok(None) };
    let ends = endpoints(dialect, message)?;
    Ok(Some((SaId { dst: ends.dst, protocol, spi: spi(message)? }, ends)))
}

/// The whole SA in a message; `None` for protocols other than ESP and AH.
pub(crate) fn info(dialect: Dialect, message: &Message<'_>) -> Result<Option<SaInfo>, String> {
    let Some((id, ends)) = id(dialect, message)? else { return Ok(None) };
    let (raw, _) = message.required(SA, "SA")?.take::<RawSa>("SA")?;
    let sa2 = match message.extension(X_SA2) {
        Some(part) => part.take::<RawSa2>("X_SA2")?.0,
        None => RawSa2::default(),
    };
    let current = match message.extension(LIFETIME_CURRENT) {
        Some(part) => part.take::<RawLifetime>("LIFETIME_CURRENT")?.0,
        None => RawLifetime::default(),
    };
    Ok(Some(SaInfo {
        dst: ends.dst,
        src: ends.src,
        protocol: raw_protocol(id.protocol),
        spi: id.spi,
        mode: mode_of(sa2.mode),
        reqid: Reqid(sa2.reqid),
        selector: source_prefix(dialect, message)?,
        care_of: None,
        larval: raw.state == STATE_LARVAL,
        bytes: current.bytes,
        packets: current.allocations.into(),
        added: current.addtime,
        used: current.usetime,
    }))
}

/// What is known of an SA's selector: Linux tells its source prefix where that is not the SA's own source address.
fn source_prefix(dialect: Dialect, message: &Message<'_>) -> Result<Option<Selector>, String> {
    let Some(part) = message.extension(ADDRESS_PROXY) else { return Ok(None) };
    let proxy = Address::read(dialect, part)?;
    let src = IpNet::new(proxy.address, proxy.prefix_len).map_err(|_| part.wrong(format!("prefix length {}", proxy.prefix_len)))?;
    let everywhere = IpNet::new(if src.addr().is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() }, 0);
    Ok(everywhere.ok().map(|dst| Selector::between(src, dst).protocol(if proxy.protocol == ANY_PROTOCOL { 0 } else { proxy.protocol })))
}

/// The limit that an SA reached.
pub(crate) fn expire(dialect: Dialect, message: &Message<'_>) -> Result<Option<Expire>, String> {
    let Some(sa) = info(dialect, message)? else { return Ok(None) };
    let hard = message.extension(LIFETIME_HARD).is_some();
    Ok(sa.id().map(|id| Expire { id, src: sa.src, reqid: sa.reqid, hard }))
}
