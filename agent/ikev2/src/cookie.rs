//! Cookies against floods of half-open IKE SAs (RFC 7296 2.6): nothing is kept for a peer that has not shown it can receive.
//! Invariant: a cookie is good for one address, nonce and SPI, and for at most two lives of the secret.

use std::net::IpAddr;
use std::time::Duration;

use watari_crypto::Provider;
use watari_crypto::digest::{constant_time_eq, sha1};
use watari_policies::Secret;
use watari_policies::algorithm::Prf;
use watari_sa::Rng;

/// How long a secret makes cookies; it is accepted for as long again.
const LIFE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Generation {
    version: u8,
    secret: Secret,
    since: Duration,
}

/// The secrets of this moment.
#[derive(Debug, Default)]
pub(crate) struct CookieJar {
    current: Option<Generation>,
    previous: Option<Generation>,
}

impl CookieJar {
    /// The cookie for a request.
    pub(crate) fn make(&mut self, now: Duration, rng: &mut Rng, provider: &dyn Provider, from: IpAddr, spi_i: u64, ni: &[u8]) -> Vec<u8> {
        self.turn(now, rng);
        self.current.as_ref().map(|generation| cookie(provider, generation, from, spi_i, ni)).unwrap_or_default()
    }

    /// Whether a cookie is one of ours for this request.
    pub(crate) fn check(
        &mut self,
        now: Duration,
        rng: &mut Rng,
        provider: &dyn Provider,
        sent: &[u8],
        request: (IpAddr, u64, &[u8]),
    ) -> bool {
        self.turn(now, rng);
        let (from, spi_i, ni) = request;
        let generations = [self.current.as_ref(), self.previous.as_ref()].into_iter().flatten();
        //= rfc7296#2.6
        //# the secret changes often; an old one is accepted for a while, recognised by its version
        generations
            .filter(|generation| sent.first() == Some(&generation.version))
            .any(|generation| constant_time_eq(&cookie(provider, generation, from, spi_i, ni), sent))
    }

    fn turn(&mut self, now: Duration, rng: &mut Rng) {
        let age = self.current.as_ref().map(|generation| now.saturating_sub(generation.since));
        if age.is_some_and(|age| age < LIFE) {
            return;
        }
        let version = self.current.as_ref().map_or(0, |generation| generation.version.wrapping_add(1));
        let old = self.current.replace(Generation { version, secret: rng.secret(32), since: now });
        self.previous = old.filter(|old| now.saturating_sub(old.since) < LIFE.saturating_mul(2));
    }
}

fn cookie(provider: &dyn Provider, generation: &Generation, from: IpAddr, spi_i: u64, ni: &[u8]) -> Vec<u8> {
    let spi = spi_i.to_be_bytes();
    let address = match from {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let parts: [&[u8]; 3] = [ni, &address, &spi];
    //= rfc7296#2.6
    //# Cookie = <VersionIDofSecret> | Hash(Ni | IPi | SPIi | <secret>)
    let hash = match provider.prf(Prf::HmacSha256) {
        Some(prf) => prf.prf(generation.secret.expose(), &parts).expose().to_vec(),
        None => sha1(&[ni, &address, &spi, generation.secret.expose()]).to_vec(),
    };
    let mut cookie = vec![generation.version];
    cookie.extend(hash.iter().take(31));
    cookie
}

#[cfg(test)]
mod tests {
    use super::*;
    use watari_crypto::RustCryptoProvider;

    #[test]
    fn a_cookie_fits_its_request_only_and_ages_out() {
        let (mut jar, mut rng, provider) = (CookieJar::default(), Rng::new([7; 32]), RustCryptoProvider);
        let from: IpAddr = "2001:db8::1".parse().unwrap();
        let second = Duration::from_secs;
        let made = jar.make(second(1), &mut rng, &provider, from, 9, b"nonce");
        assert!((1..=64).contains(&made.len()));
        assert!(jar.check(second(2), &mut rng, &provider, &made, (from, 9, b"nonce")));
        assert!(!jar.check(second(2), &mut rng, &provider, &made, (from, 8, b"nonce")));
        assert!(!jar.check(second(2), &mut rng, &provider, &made, (from, 9, b"other")));
        assert!(!jar.check(second(2), &mut rng, &provider, &made, ("2001:db8::2".parse().unwrap(), 9, b"nonce")));
        assert!(jar.check(second(62), &mut rng, &provider, &made, (from, 9, b"nonce")), "one generation old");
        assert!(!jar.check(second(125), &mut rng, &provider, &made, (from, 9, b"nonce")), "two generations old");
        assert!(!jar.check(second(125), &mut rng, &provider, &[], (from, 9, b"nonce")));
    }
}
