//! What a self test found.

use std::fmt;

use super::super::is_fault;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Results {
    /// Whether it has begun at all.
    begun: bool,
    good: Vec<String>,
    bad: Vec<String>,
    /// The faults that the kernel has found in itself, as `kernel: ` and what it says.
    kernel: Vec<String>,
    /// The exit status of the self test; none where the kernel went down with it.
    status: Option<i32>,
}

impl Results {
    /// Reads what was said in the lab.
    pub(super) fn read(said: &str) -> Self {
        let mut results = Self::default();
        for line in said.lines().map(str::trim_end) {
            if let Some(good) = line.strip_prefix("ok ") {
                results.good.push(good.to_owned());
            } else if let Some(bad) = line.strip_prefix("not ok ") {
                results.bad.push(bad.to_owned());
            } else if let Some(status) = line.strip_prefix("status ") {
                results.status = status.parse().ok();
            } else if let Some(message) = line.strip_prefix("kernel: ").filter(|m| is_fault(m)) {
                let (_, message) = message.split_once("] ").unwrap_or(("", message));
                results.kernel.push(format!("kernel: {message}"));
            }
            results.begun |= line.starts_with("TAP version ");
        }
        results
    }

    /// Whether all is good, and there is such a result.
    pub(super) fn are_well(&self, result: &str) -> bool {
        self.status == Some(0)
            && self.bad.is_empty()
            && self.kernel.is_empty()
            && (result.starts_with("kernel: ") || self.has_good(result))
    }

    fn has_good(&self, result: &str) -> bool {
        self.good.iter().any(|good| good.contains(result))
    }

    /// How a breach was noticed by a result, or, if that is what is meant, because the test did not come
    /// so far; fails where it was not.
    pub(super) fn notice(&self, result: &str, stops: bool) -> Result<String, String> {
        let mut found = self.bad.iter().chain(&self.kernel);
        if let Some(found) = found.find(|found| found.contains(result)) {
            return Ok(format!("not ok {found}"));
        }
        let stopped = match self.status {
            None => "the kernel went down",
            Some(124) => "the self test waited for ever",
            Some(_) => return Err(format!("“{result}” is not bad: {self}")),
        };
        if stops && self.begun && !self.has_good(result) {
            Ok(format!("{stopped} before “{result}”"))
        } else {
            Err(format!("{stopped}, which was not expected: {self}"))
        }
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} good", self.good.len())?;
        for bad in self.bad.iter().chain(&self.kernel) {
            write!(f, ", {bad}")?;
        }
        match self.status {
            Some(status) => write!(f, ", status {status}"),
            None => f.write_str(", no status"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
TAP version 13
ok 1 one (5)
ok 2 two
# ok 3 three
status 0
kernel: [    0.012345] Checking things
";

    #[test]
    fn all_is_well_where_every_result_is_good_and_the_one_is_there() {
        let results = Results::read(SAID);
        assert!(results.are_well("one") && results.are_well("kernel: BUG: "));
        assert!(!results.are_well("three"));
        for (line, other) in [
            ("ok 2 two", "not ok 2 two"),
            ("status 0", "status 1"),
            ("status 0", ""),
            ("Checking", "BUG: checking"),
        ] {
            assert!(
                !Results::read(&SAID.replace(line, other)).are_well("one"),
                "{other}"
            );
        }
    }

    #[test]
    fn only_the_result_that_is_meant_is_a_notice() {
        let notices = |line: &str, other: &str, result: &str| {
            let results = Results::read(&SAID.replace(line, other));
            results.notice(result, true).is_ok()
        };
        assert!(notices("ok 2 two", "not ok 2 two", "two"));
        assert!(!notices("ok 2 two", "not ok 2 two", "one"));
        assert!(!notices("ok 2 two", "", "two"));
        let (message, bug) = ("Checking", "WARNING: checking");
        assert!(notices(message, bug, "kernel: WARNING: "));
        assert!(!notices(message, bug, "kernel: BUG: "));
    }

    #[test]
    fn a_test_or_kernel_that_stops_before_has_noticed_where_that_is_meant() {
        for end in ["status 124", ""] {
            let said = SAID.replace("ok 2 two\n", "").replace("status 0", end);
            let results = Results::read(&said);
            assert!(results.notice("two", true).is_ok(), "{end}");
            assert!(results.notice("two", false).is_err(), "{end}");
            assert!(results.notice("one", true).is_err(), "{end}");
        }
        for said in ["", "error: no memory\n", "TAP version 13\nstatus 137\n"] {
            assert!(Results::read(said).notice("two", true).is_err(), "{said}");
        }
    }
}
