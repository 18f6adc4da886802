//! SAs of a KAME kernel: found by both addresses and the reqid, without a selector of their own.

use watari_kernel::mirror::Mirror;
use watari_kernel::{Endpoints, KernelReply, KernelRequest, Now, SaId, SaInfo, SaKeys, SaLifetime, SaParameters, Spi};
use watari_policies::algorithm::{ChildSuite, Cipher, Encryption, Integrity};
use watari_policies::{Mode, Protocol, Reqid, Secret, Selector};

use super::layout::{Address, EINVAL, Head, Part, Request, ext, half, kind, long, word};
use super::policies::raw_mode;
use super::{EEXIST, ENOENT, KameKernel, KeySocket, Larval, To};

/// SADB_AALG_SHA1HMAC.
const SHA1: u8 = 3;
const ENCRYPT_NULL: u8 = 11;
/// SADB_X_EALG_RIJNDAELCBC.
const AES: u8 = 12;

const fn protocol(satype: u8) -> Option<Protocol> {
    match satype {
        2 => Some(Protocol::Ah),
        3 => Some(Protocol::Esp),
        _ => None,
    }
}

pub(super) const fn satype(ip_protocol: u8) -> u8 {
    match ip_protocol {
        51 => 2,
        50 => 3,
        _ => 0,
    }
}

/// `struct sadb_x_sa2` behind its header.
pub(super) fn sa2_part(mode: Option<Mode>, reqid: Reqid) -> Vec<u8> {
    let mut octets = vec![raw_mode(mode), 0, 0, 0, 0, 0, 0, 0];
    octets.extend(reqid.0.to_ne_bytes());
    octets
}

/// `struct sadb_lifetime` of what an SA has carried, behind its header.
pub(super) fn current_part(sa: &SaInfo) -> Vec<u8> {
    let mut octets = u32::try_from(sa.packets).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    for value in [sa.bytes, sa.added, sa.used] {
        octets.extend(value.to_ne_bytes());
    }
    octets
}

/// Mode (none for any) and reqid.
fn sa2(request: &Request) -> Option<(Option<Mode>, Reqid)> {
    let Some(part) = request.part(ext::SA2) else { return Some((None, Reqid(0))) };
    let mode = match part.first()? {
        0 => None,
        1 => Some(Mode::Transport),
        2 => Some(Mode::Tunnel),
        _ => return None,
    };
    Some((mode, Reqid(word(part, 8)?)))
}

fn spi(request: &Request) -> Option<Spi> {
    let raw: [u8; 4] = request.part(ext::SA)?.get(..4)?.try_into().ok()?;
    Some(Spi(u32::from_be_bytes(raw)))
}

fn id(request: &Request) -> Option<(SaId, Endpoints)> {
    let ends = request.endpoints()?;
    Some((SaId { dst: ends.dst, protocol: protocol(request.satype)?, spi: spi(request)? }, ends))
}

/// A key of so many bits as its extension says.
fn key(request: &Request, number: u16) -> Option<Vec<u8>> {
    let Some(part) = request.part(number) else { return Some(Vec::new()) };
    let octets = usize::from(half(part, 0)?).checked_div(8)?;
    part.get(4..octets.checked_add(4)?).map(<[u8]>::to_vec)
}

fn lifetime(request: &Request) -> Option<SaLifetime> {
    let (Some(hard), Some(soft)) = (request.part(ext::LIFETIME_HARD), request.part(ext::LIFETIME_SOFT)) else {
        return (request.part(ext::LIFETIME_HARD).is_none() && request.part(ext::LIFETIME_SOFT).is_none()).then(SaLifetime::default);
    };
    Some(SaLifetime {
        soft_seconds: long(soft, 12)?,
        hard_seconds: long(hard, 12)?,
        soft_bytes: long(soft, 4)?,
        hard_bytes: long(hard, 4)?,
        soft_packets: word(soft, 0)?.into(),
        hard_packets: word(hard, 0)?.into(),
    })
}

/// key_setsaval() and key_mature(): keys of the length that their algorithms have.
fn parameters(request: &Request) -> Option<SaParameters> {
    let (id, ends) = id(request)?;
    let (mode, reqid) = sa2(request)?;
    let raw = request.part(ext::SA)?;
    let (replay, auth, encrypt) = (*raw.get(4)?, *raw.get(6)?, *raw.get(7)?);
    let (auth_key, encrypt_key) = (key(request, ext::KEY_AUTH)?, key(request, ext::KEY_ENCRYPT)?);
    let integrity = match (auth, auth_key.len()) {
        (0, 0) => None,
        (SHA1, 20) => Some(Integrity::HmacSha1_96),
        _ => return None,
    };
    let cipher = match (encrypt, encrypt_key.len()) {
        (AES, octets @ (16 | 24 | 32)) => Cipher { algorithm: Encryption::AesCbc, key_bits: u16::try_from(octets).ok()?.checked_mul(8)? },
        (ENCRYPT_NULL, 0) => Cipher::NULL,
        (0, 0) if id.protocol == Protocol::Ah => Cipher::NULL,
        _ => return None,
    };
    let named = if id.protocol == Protocol::Ah { request.part(ext::KEY_AUTH) } else { request.part(ext::KEY_ENCRYPT) };
    named?;
    let everything = if ends.src.is_ipv4() { "0.0.0.0/0" } else { "::/0" }.parse().ok()?;
    Some(SaParameters {
        id,
        src: ends.src,
        mode: mode?,
        reqid,
        selector: Selector::between(everything, everything),
        keys: SaKeys {
            suite: ChildSuite { cipher, integrity, esn: false },
            encryption: Secret::new(encrypt_key),
            integrity: Secret::new(auth_key),
        },
        // One octet of window is eight packets.
        replay_window: u32::from(replay).saturating_mul(8),
        lifetime: lifetime(request)?,
        encapsulation: None,
    })
}

fn detail_key(id: SaId) -> (u8, u32) {
    (u8::from(id.protocol == Protocol::Ah), id.spi.0)
}

impl KameKernel {
    pub(super) fn getspi(&mut self, mirror: &mut Mirror, now: Now, socket: KeySocket, request: &Request) -> Result<(), u8> {
        let endpoints = request.endpoints().ok_or(EINVAL)?;
        let protocol = protocol(request.satype).ok_or(EINVAL)?;
        let (mode, reqid) = sa2(request).ok_or(EINVAL)?;
        let range = request.part(ext::SPIRANGE).ok_or(EINVAL)?;
        if word(range, 0).zip(word(range, 4)).is_none_or(|(min, max)| min > max) {
            return Err(EINVAL);
        }
        let wanted = KernelRequest::AllocateSpi { endpoints, protocol, mode: mode.unwrap_or(Mode::Transport), reqid };
        let KernelReply::Spi(spi) = self.ask(mirror, now, wanted)? else { return Err(EINVAL) };
        let (seq, pid) = (request.seq, request.pid);
        self.larval.insert(SaId { dst: endpoints.dst, protocol, spi }, Larval { src: endpoints.src, reqid: reqid.0, seq, pid });
        let mut sa = spi.0.to_be_bytes().to_vec();
        sa.extend([0; 8]);
        let mut parts = vec![(ext::SA, sa)];
        parts.extend(request.gather(&[ext::SRC, ext::DST]));
        self.send(To::One(socket), &Head::answer(request).message(&parts));
        Ok(())
    }

    /// key_update(): the larval SA is found by addresses, reqid and the number of its GETSPI, and is its reserver's alone.
    pub(super) fn update(&mut self, mirror: &mut Mirror, now: Now, request: &Request) -> Result<(), u8> {
        let parameters = parameters(request).ok_or(EINVAL)?;
        let waits = mirror.sas().iter().any(|sa| sa.larval && sa.id() == Some(parameters.id));
        let larval = self.larval.get(&parameters.id).filter(|larval| {
            waits
                && larval.src == parameters.src
                && (parameters.reqid.0 == 0 || larval.reqid == parameters.reqid.0)
                && larval.seq == request.seq
        });
        if larval.ok_or(ENOENT)?.pid != request.pid {
            return Err(EINVAL);
        }
        self.larval.remove(&parameters.id);
        self.install(mirror, now, request, parameters, true)
    }

    /// key_add(): an SA of the same addresses, reqid and SPI must not be there.
    pub(super) fn add(&mut self, mirror: &mut Mirror, now: Now, request: &Request) -> Result<(), u8> {
        let parameters = parameters(request).ok_or(EINVAL)?;
        let same = |sa: &SaInfo| sa.id() == Some(parameters.id) && (sa.src, sa.reqid) == (parameters.src, parameters.reqid);
        if mirror.sas().iter().any(same) {
            return Err(EEXIST);
        }
        // A larval SA of another reqid stands beside it until it dies; the mirror holds one SA of a name.
        let allocated = mirror.sas().iter().any(|sa| sa.larval && sa.id() == Some(parameters.id));
        self.install(mirror, now, request, parameters, allocated)
    }

    fn install(&mut self, mirror: &mut Mirror, now: Now, request: &Request, sa: SaParameters, allocated: bool) -> Result<(), u8> {
        let id = sa.id;
        self.ask(mirror, now, KernelRequest::AddSa { parameters: Box::new(sa), allocated, sequence: request.seq })?;
        let kept = [ext::SA, ext::LIFETIME_HARD, ext::LIFETIME_SOFT, ext::KEY_AUTH, ext::KEY_ENCRYPT];
        self.details.insert(detail_key(id), request.gather(&kept));
        let told = [ext::SA, ext::SA2, ext::SRC, ext::DST, ext::LIFETIME_HARD, ext::LIFETIME_SOFT];
        self.send(To::All, &Head::answer(request).message(&request.gather(&told)));
        Ok(())
    }

    /// The SA of a name that has this source address too.
    fn find(mirror: &Mirror, request: &Request) -> Result<(SaId, SaInfo), u8> {
        let (id, ends) = id(request).ok_or(EINVAL)?;
        mirror.sas().into_iter().find(|sa| sa.id() == Some(id) && sa.src == ends.src).map(|sa| (id, sa)).ok_or(ENOENT)
    }

    pub(super) fn delete(&mut self, mirror: &mut Mirror, now: Now, request: &Request) -> Result<(), u8> {
        let (id, _) = Self::find(mirror, request)?;
        self.ask(mirror, now, KernelRequest::DeleteSa(id))?;
        self.larval.remove(&id);
        self.details.remove(&detail_key(id));
        self.send(To::All, &Head::answer(request).message(&request.gather(&[ext::SA, ext::SRC, ext::DST])));
        Ok(())
    }

    pub(super) fn get(&mut self, mirror: &Mirror, socket: KeySocket, request: &Request) -> Result<(), u8> {
        let (_, sa) = Self::find(mirror, request)?;
        self.send(To::One(socket), &Head::answer(request).message(&self.row(&sa)));
        Ok(())
    }

    pub(super) fn dump(&mut self, mirror: &Mirror, socket: KeySocket, request: &Request) -> Result<(), u8> {
        // An ACQUIRE that nobody has answered is no SA here, and home address options are not found in this table.
        let wanted = |sa: &SaInfo| sa.spi != Spi(0) && satype(sa.protocol) != 0 && matches!(request.satype, 0 | 3);
        let sas: Vec<SaInfo> = mirror.sas().into_iter().filter(wanted).collect();
        if sas.is_empty() {
            return Err(ENOENT);
        }
        for (left, sa) in (0..sas.len()).rev().zip(&sas) {
            let seq = u32::try_from(left).unwrap_or(u32::MAX);
            let head = Head { kind: kind::DUMP, errno: 0, satype: satype(sa.protocol), seq, pid: request.pid };
            self.send(To::One(socket), &head.message(&self.row(sa)));
        }
        Ok(())
    }

    /// `struct sadb_sa` behind its header: what the SA was added with, and its state now.
    pub(super) fn sa_part(&self, sa: &SaInfo) -> Vec<u8> {
        let mut octets = self.detail(sa, ext::SA).unwrap_or_else(|| vec![0; 12]);
        if let Some((spi, rest)) = octets.split_at_mut_checked(4) {
            spi.copy_from_slice(&sa.spi.0.to_be_bytes());
            if let Some(state) = rest.get_mut(1) {
                *state = u8::from(!sa.larval);
            }
        }
        octets
    }

    /// An extension that the SA was added with.
    pub(super) fn detail(&self, sa: &SaInfo, number: u16) -> Option<Vec<u8>> {
        let kept = self.details.get(&detail_key(sa.id()?)).filter(|_| !sa.larval)?;
        kept.iter().find(|(known, _)| *known == number).map(|(_, part)| part.clone())
    }

    /// key_setdumpsa().
    fn row(&self, sa: &SaInfo) -> Vec<Part> {
        let mut parts = vec![(ext::SA, self.sa_part(sa)), (ext::SA2, sa2_part(sa.mode, sa.reqid))];
        let detail = |number: u16, parts: &mut Vec<Part>| parts.extend(self.detail(sa, number).map(|part| (number, part)));
        detail(ext::LIFETIME_HARD, &mut parts);
        detail(ext::LIFETIME_SOFT, &mut parts);
        parts.push((ext::LIFETIME_CURRENT, current_part(sa)));
        parts.push((ext::SRC, Address::host(sa.src).octets()));
        parts.push((ext::DST, Address::host(sa.dst).octets()));
        detail(ext::KEY_AUTH, &mut parts);
        detail(ext::KEY_ENCRYPT, &mut parts);
        parts
    }
}
