//! The two clocks of the agent, read here and nowhere else.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use watari_kernel::Now;

/// The clock of timers: it runs through suspend where the system has such a one.
#[cfg(target_os = "linux")]
const BOOT: ClockId = ClockId::Boottime;
#[cfg(target_os = "freebsd")]
const BOOT: ClockId = ClockId::Uptime;

/// The present moment: time since boot, and wall time.
pub(crate) fn now() -> Now {
    let boot = clock_gettime(BOOT);
    let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(boot.tv_nsec).unwrap_or(0);
    Now { boot: Duration::new(seconds, nanoseconds), wall: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() }
}
