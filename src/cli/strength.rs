//! What lies between a measurement and its repetition, and so how much the repetition proves.
//!
//! The design has `node` too, another machine of the same kind. No file says which machine it comes
//! from, so another node passes for this one: its repetition is called less than it is, never more.

/// `process`, or `boot` where this machine was started since: whatever that session did to the
/// clocks is gone too. `started` is that of the first measurement, RFC 3339.
pub fn strength(started: &str) -> &'static str {
    let then = started.parse::<jiff::Timestamp>().ok();
    let rebooted = booted_s().zip(then).is_some_and(|(boot_s, then)| then.as_second() < boot_s);
    if rebooted { "boot" } else { "process" }
}

/// When this machine was started, in seconds since 1970.
fn booted_s() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}
