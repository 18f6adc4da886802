//! When an SA is replaced and when it ends: soft lifetime less jitter, hard lifetime, and the kernel's own limits as a safety net.
//! Invariant: the replacement never starts after the end.

use std::time::Duration;

use watari_kernel::SaLifetime;
use watari_policies::Lifetime;

use crate::Rng;

/// How much later than our own timer the kernel ends an SA by itself, so that the agent's timers decide (seconds).
const KERNEL_GRACE: u64 = 60;

/// The two moments of an SA's life, in boot time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// When a replacement is negotiated; `None` for never.
    pub rekey_at: Option<Duration>,
    /// When it ends; `None` for never.
    pub expires_at: Option<Duration>,
}

/// The moments of an SA made at `created`; the jitter keeps two ends from rekeying at once (RFC 7296 2.8).
pub fn schedule(lifetime: &Lifetime, created: Duration, rng: &mut Rng) -> Schedule {
    let expires_at = (!lifetime.hard.is_zero()).then(|| created.saturating_add(lifetime.hard));
    //= rfc7296#2.8
    //# rekeying requests are jittered, so that both ends do not start at once
    let soft = lifetime.soft.saturating_sub(rng.up_to(lifetime.jitter));
    let rekey_at = (!lifetime.soft.is_zero()).then(|| created.saturating_add(soft.max(lifetime.soft / 4)));
    let rekey_at = match (rekey_at, expires_at) {
        (Some(rekey), Some(end)) => Some(rekey.min(end)),
        (rekey, _) => rekey,
    };
    Schedule { rekey_at, expires_at }
}

/// The limits a kernel enforces: octets and packets, which only it counts, and an age beyond our own hard limit.
pub fn kernel_limits(lifetime: &Lifetime) -> SaLifetime {
    let soft = |hard: u64| hard.saturating_sub(hard / 8);
    let hard_seconds = if lifetime.hard.is_zero() { 0 } else { lifetime.hard.as_secs().saturating_add(KERNEL_GRACE) };
    SaLifetime {
        soft_seconds: 0,
        hard_seconds,
        soft_bytes: soft(lifetime.bytes),
        hard_bytes: lifetime.bytes,
        soft_packets: soft(lifetime.packets),
        hard_packets: lifetime.packets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime(hard: u64, soft: u64, jitter: u64) -> Lifetime {
        let seconds = Duration::from_secs;
        Lifetime { hard: seconds(hard), soft: seconds(soft), jitter: seconds(jitter), bytes: 800, packets: 0 }
    }

    #[test]
    fn jitter_only_makes_it_earlier_and_within_bounds() {
        let mut rng = Rng::new([1; 32]);
        let created = Duration::from_secs(10);
        for _ in 0..100 {
            let schedule = schedule(&lifetime(100, 90, 9), created, &mut rng);
            let rekey = schedule.rekey_at.unwrap();
            assert!((Duration::from_secs(91)..=Duration::from_secs(100)).contains(&rekey), "{rekey:?}");
            assert_eq!(schedule.expires_at, Some(Duration::from_secs(110)));
        }
    }

    #[test]
    fn zero_means_never_and_soft_is_never_after_hard() {
        let mut rng = Rng::new([1; 32]);
        assert_eq!(schedule(&lifetime(0, 0, 0), Duration::ZERO, &mut rng), Schedule::default());
        assert_eq!(schedule(&lifetime(10, 50, 0), Duration::ZERO, &mut rng).rekey_at, Some(Duration::from_secs(10)));
    }

    #[test]
    fn the_kernel_counts_octets_but_ends_by_age_only_after_us() {
        let limits = kernel_limits(&lifetime(100, 90, 9));
        assert_eq!((limits.soft_bytes, limits.hard_bytes, limits.hard_packets), (700, 800, 0));
        assert_eq!((limits.soft_seconds, limits.hard_seconds), (0, 160));
    }
}
