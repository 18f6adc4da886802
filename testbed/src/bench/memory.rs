//! How much memory this process holds, as the kernel counts it.

/// Resident octets, from /proc/self/statm; `None` where there is no such file.
pub(crate) fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
