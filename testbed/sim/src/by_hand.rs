//! SAs keyed by hand in place of negotiated ones: the same SPIs and keys on both sides.
//! Invariant: an SPI names mobile node, policy and direction, and the key under that number is its key.

use std::collections::BTreeMap;

use watari_policies::algorithm::{ChildProposal, ChildSuite, Cipher, Integrity};
use watari_policies::model::{Authentication, ManualHalf, ManualSa};
use watari_policies::{Config, Ipsec, IpsecId, RemoteId, Secret, SecretId};

const SUITE: ChildSuite = ChildSuite { cipher: Cipher::AES128, integrity: Some(Integrity::HmacSha256_128), esn: false };
/// Most policies of one mobile node.
const POLICIES: u32 = 8;

/// SPI of the `index`th policy of a mobile node, towards the home agent; the other direction has the next one.
fn spi(number: u16, index: u32) -> u32 {
    0x1000_u32.saturating_add(u32::from(number).saturating_mul(0x100)).saturating_add(index.saturating_mul(2))
}

/// Takes IKE out of a configuration; `numbers` are those of the mobile nodes, in the order of the remotes.
pub(crate) fn replace(config: &mut Config, numbers: &[u16], mobile: bool) {
    for remote in &mut config.remotes {
        remote.authentication = Authentication::Manual;
    }
    let mut seen: BTreeMap<RemoteId, u32> = BTreeMap::new();
    for policy in &mut config.policies {
        let number = usize::try_from(policy.remote.0).ok().and_then(|at| numbers.get(at)).copied().unwrap_or_default();
        let index = seen.entry(policy.remote).or_default();
        let there = spi(number, *index);
        *index = index.saturating_add(1);
        let half = |spi| ManualHalf { spi, key: SecretId(spi) };
        let (there, back) = (half(there), half(there.saturating_add(1)));
        let (outbound, inbound) = if mobile { (there, back) } else { (back, there) };
        let manual = Some(ManualSa { suite: SUITE, outbound, inbound });
        let Some(usual) = usize::try_from(policy.ipsec.0).ok().and_then(|at| config.ipsecs.get(at)).cloned() else { continue };
        let name = format!("by-hand-{:x}", there.spi);
        policy.ipsec = IpsecId(u32::try_from(config.ipsecs.len()).unwrap_or(u32::MAX));
        let proposals = ChildProposal::parse("aes128-sha256").into_iter().collect();
        config.ipsecs.push(Ipsec { name, proposals, manual, replay_window: 0, ..usual });
    }
}

/// The keys of a mobile node.
pub(crate) fn keys(number: u16) -> impl Iterator<Item = (SecretId, Secret)> {
    let first = spi(number, 0);
    (first..first.saturating_add(POLICIES * 2)).map(|spi| {
        let octet = spi.to_be_bytes()[3];
        (SecretId(spi), Secret::new(vec![octet; SUITE.manual_key_len()]))
    })
}
