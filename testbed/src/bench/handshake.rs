//! IKE_SA_INIT and IKE_AUTH with one child: how many a second, CPU per side, memory per SA, and how much of it is bare cryptography.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use watari_crypto::derive::{ChildKeys, IkeInputs, IkeKeys};
use watari_crypto::{Provider, RustCryptoProvider};
use watari_policies::Secret;
use watari_policies::algorithm::{ChildSuite, IkeSuite, default_child_proposals, default_ike_proposals};

use super::memory::resident;
use crate::instant::{home_agent_of, mobile_node_of, register};

const HANDSHAKES: u32 = 2_000;
const REPEATS: u32 = 2_000;

/// Measures and prints; it has no bound of its own.
pub(super) fn run() -> Result<bool, String> {
    let provider: Arc<dyn Provider> = Arc::new(RustCryptoProvider);
    let mut home_agent = home_agent_of(HANDSHAKES, Arc::clone(&provider));
    let before = resident();
    let (mut elapsed, mut initiator_work) = (Duration::ZERO, Duration::ZERO);
    for node in 0..HANDSHAKES {
        let mut host = mobile_node_of(node, Arc::clone(&provider));
        let begin = Instant::now();
        register(&mut home_agent, &mut host, node, 1)?;
        elapsed += begin.elapsed();
        initiator_work += host.work;
    }
    let after = resident();
    let each = micros(elapsed, HANDSHAKES);
    let public_key = micros(home_agent.work + initiator_work, HANDSHAKES);
    let symmetric = symmetric_microseconds()?;
    println!("handshake: IKE_SA_INIT + IKE_AUTH with one child, pre-shared key, {HANDSHAKES} times, both ends on one core, no sockets");
    println!("  suite                      {}", default_ike_proposals().first().map(ToString::to_string).unwrap_or_default());
    println!("  handshakes per second      {:.0}  (both sides' work on one core)", 1e6 / each);
    println!("  CPU per handshake          {each:.0} us for both sides, {:.0} us a side", each / 2.0);
    println!("  key exchange and AUTH      {public_key:.0} us for both sides");
    println!("  key derivation and SK      {symmetric:.0} us for both sides");
    println!("  share of bare cryptography {:.0} %", 100.0 * (public_key + symmetric) / each);
    match (before, after) {
        (Some(before), Some(after)) => {
            println!(
                "  memory per IKE SA + child  {:.1} kB at the responder",
                after.saturating_sub(before) as f64 / f64::from(HANDSHAKES) / 1000.0
            );
        }
        _ => println!("  memory per IKE SA + child  not measured: no /proc/self/statm"),
    }
    Ok(true)
}

/// What key derivation (IKE and child) and four SK payloads sealed and opened cost both sides together, by the same provider.
fn symmetric_microseconds() -> Result<f64, String> {
    let provider = RustCryptoProvider;
    let ike = default_ike_proposals().into_iter().next().ok_or("no IKE proposal")?;
    let child = default_child_proposals().into_iter().next().ok_or("no child proposal")?;
    let suite = IkeSuite {
        cipher: *ike.ciphers.first().ok_or("no cipher")?,
        integrity: ike.integrities.first().copied(),
        prf: *ike.prfs.first().ok_or("no PRF")?,
        group: *ike.groups.first().ok_or("no group")?,
    };
    let child =
        ChildSuite { cipher: *child.ciphers.first().ok_or("no cipher")?, integrity: child.integrities.first().copied(), esn: false };
    let (shared, nonce) = (Secret::new(vec![7; 32]), [9_u8; 32]);
    let text = |error: watari_crypto::CryptoError| error.to_string();
    let begin = Instant::now();
    for _ in 0..REPEATS {
        for _side in 0..2 {
            let inputs = IkeInputs { ni: &nonce, nr: &nonce, spi_i: [1; 8], spi_r: [2; 8] };
            let keys = IkeKeys::initial(&provider, &suite, &shared, &inputs).map_err(text)?;
            black_box(ChildKeys::derive(&provider, suite.prf, &keys.d, &child, None, &nonce, &nonce).map_err(text)?);
            let protection = keys.protection(&provider, &suite, true).map_err(text)?;
            // Each side seals one message of IKE_AUTH and opens one.
            let iv = vec![1; protection.iv_len()];
            let body = protection.protect(&[0; 32], &iv, &[0; 200]).map_err(text)?;
            black_box(protection.unprotect(&[0; 32], &body).map_err(text)?);
        }
    }
    Ok(micros(begin.elapsed(), REPEATS))
}

fn micros(time: Duration, count: u32) -> f64 {
    time.as_secs_f64() * 1e6 / f64::from(count)
}
