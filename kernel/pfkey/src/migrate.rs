//! SADB_X_MIGRATE, read and written: optional KMADDRESS, the selector's addresses, and the policy extension with pairs of
//! ipsecrequests, old before new. Linux announces the addresses without types or ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use watari_kernel::{Endpoints, KmAddress, Migrate, MigrateSource, MigrateStep};

use crate::convert::{direction, protocol, raw_direction, raw_protocol, selector, write_selector};
use crate::dialect::{Dialect, Request};
use crate::extension::{RawPolicy, RawWord, SATYPE_ESP, SATYPE_UNSPEC, X_POLICY};
use crate::message::{Kind, Message, Outgoing, Part};
use crate::policy::POLICY_IPSEC;

/// XFRM_MAX_DEPTH.
const MAX_STEPS: usize = 6;

/// Reads a MIGRATE.
pub(crate) fn read(dialect: Dialect, message: &Message<'_>) -> Result<Migrate, String> {
    let selector = selector(dialect, message)?;
    let part = message.required(X_POLICY, "X_POLICY")?;
    let (policy, rest) = part.take::<RawPolicy>("X_POLICY")?;
    let direction = direction(policy.dir).ok_or_else(|| part.wrong(format!("direction {}", policy.dir)))?;
    let kmaddress = dialect.kmaddress().and_then(|kind| message.extension(kind)).map(|part| kmaddress(dialect, part)).transpose()?;
    Ok(Migrate { selector, direction, steps: steps(dialect, rest)?, kmaddress, source: MigrateSource::PfKey })
}

fn kmaddress(dialect: Dialect, part: Part<'_>) -> Result<KmAddress, String> {
    let (_, rest) = part.take::<RawWord>("X_KMADDRESS")?;
    let ends = dialect.pair(rest)?;
    Ok(KmAddress { local: ends.src, remote: ends.dst })
}

fn steps(dialect: Dialect, mut rest: Part<'_>) -> Result<Vec<MigrateStep>, String> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let here = rest;
        let (old, behind) = dialect.request(rest)?;
        let (new, behind) = dialect.request(behind)?;
        rest = behind;
        steps.push(step(&old, &new).map_err(|why| here.wrong(why))?);
        if steps.len() > MAX_STEPS {
            return Err(here.wrong(format!("more than {MAX_STEPS} pairs of end points")));
        }
    }
    if steps.is_empty() { Err(rest.wrong("no end points")) } else { Ok(steps) }
}

fn step(old: &Request, new: &Request) -> Result<MigrateStep, String> {
    if (old.protocol, old.mode, old.reqid) != (new.protocol, new.mode, new.reqid) {
        return Err("old and new end points are of different SAs".to_owned());
    }
    let protocol = protocol(new.protocol).ok_or_else(|| format!("IPsec protocol {}", new.protocol))?;
    let ends = new.endpoints.ok_or("new end points of no family")?;
    let unspecified: IpAddr = if ends.src.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let nowhere = Endpoints { src: unspecified, dst: unspecified };
    Ok(MigrateStep { protocol, mode: new.mode, reqid: new.reqid, old: old.endpoints.unwrap_or(nowhere), new: ends })
}

/// Writes a MIGRATE.
pub(crate) fn write(dialect: Dialect, migrate: &Migrate) -> Result<Outgoing, String> {
    if !(1..=MAX_STEPS).contains(&migrate.steps.len()) {
        return Err(format!("{} steps, a MIGRATE has 1 to {MAX_STEPS}", migrate.steps.len()));
    }
    let satype = match dialect {
        Dialect::Linux => SATYPE_ESP,
        Dialect::Kame => SATYPE_UNSPEC,
    };
    let mut out = Outgoing::new(Kind::Migrate, satype);
    if let Some(KmAddress { local, remote }) = migrate.kmaddress {
        let kind = dialect.kmaddress().ok_or("this kernel's MIGRATE has no KMADDRESS")?;
        out.push(kind, &RawWord::default(), &dialect.raw_pair(Endpoints { src: local, dst: remote })?)?;
    }
    write_selector(dialect, &migrate.selector, &mut out)?;
    let mut requests = Vec::new();
    for step in &migrate.steps {
        for endpoints in [step.old, step.new] {
            let protocol = raw_protocol(step.protocol);
            let request = Request { protocol, mode: step.mode, optional: false, reqid: step.reqid, endpoints: Some(endpoints) };
            requests.extend(dialect.raw_request(&request)?);
        }
    }
    let raw = RawPolicy { policy_type: POLICY_IPSEC, dir: raw_direction(migrate.direction), ..RawPolicy::default() };
    out.push(X_POLICY, &raw, &requests)?;
    Ok(out)
}
