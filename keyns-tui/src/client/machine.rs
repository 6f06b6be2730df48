//! The machine and the daemon on it, as far as the kernel tells.

use std::fs;

use keyns::probe::{self, KernelFacts};
use keyns::quota::KeyLimits;
use keyns_interfaces::manager::Feature;

use super::{Failure, Machine};

/// The machine, and since when a process runs on it.
pub(super) fn read(process: Option<u32>) -> Machine {
    Machine {
        release: probe::release().ok(),
        limits: KeyLimits::read().ok(),
        running: process.and_then(running),
    }
}

/// What the kernel has, whoever asks.
pub(super) fn features() -> Result<Vec<Feature>, Failure> {
    let facts =
        KernelFacts::probe().map_err(|error| Failure::io("cannot examine the kernel", &error))?;
    let feature = |row: keyns::feature::FeatureRow| Feature {
        name: row.name,
        enforcer: row.enforcer.to_string(),
        detail: row.detail,
    };
    Ok(facts.rows().into_iter().map(feature).collect())
}

/// For how many seconds a process has been running.
fn running(process: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: u64 = uptime.split(['.', ' ']).next()?.parse().ok()?;
    let start = start_ticks(&stat)? / rustix::param::clock_ticks_per_second().max(1);
    Some(uptime.saturating_sub(start))
}

/// When a process was started, in ticks since the machine was (proc_pid_stat(5), field 22).
fn start_ticks(stat: &[u8]) -> Option<u64> {
    // The name before it may hold blanks and brackets.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_brackets_is_skipped() {
        let stat = b"7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21\n";
        assert_eq!(start_ticks(stat), Some(4711));
        assert_eq!(start_ticks(b""), None);
        assert_eq!(start_ticks(b"7 (a) S 1"), None);
    }

    #[test]
    fn this_process_runs_since_a_moment_ago() {
        assert!(running(std::process::id()).unwrap() < 3600);
        assert_eq!(running(u32::MAX), None);
    }
}
