//! The two clocks of the agent, read here and nowhere else.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use watari_kernel::Now;

/// The present moment: CLOCK_BOOTTIME, which runs through suspend, and wall time.
pub(crate) fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(boot.tv_nsec).unwrap_or(0);
    Now { boot: Duration::new(seconds, nanoseconds), wall: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() }
}
