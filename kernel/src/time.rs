//! Time as an argument: protocol code never reads a clock.

use std::time::Duration;

/// The moment an input arrived, on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Time since boot, running through suspend (CLOCK_BOOTTIME); every timer uses this.
    pub boot: Duration,
    /// Time since the Unix epoch; for certificates, tickets and display only.
    pub wall: Duration,
}
