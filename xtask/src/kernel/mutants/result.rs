//! What a self test found.

use super::super::is_fault;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Results {
    good: Vec<String>,
    bad: Vec<String>,
    /// The faults that the kernel has found in itself.
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
            } else if line.starts_with("kernel: ") && is_fault(line) {
                results.kernel.push(line.to_owned());
            }
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

    /// How a breach was noticed by a result; fails where it was not.
    pub(super) fn notice(&self, result: &str) -> Result<String, String> {
        let mut found = self.bad.iter().chain(&self.kernel);
        if let Some(found) = found.find(|found| found.contains(result)) {
            return Ok(format!("not ok {found}"));
        }
        let stopped = match self.status {
            None => "the kernel did not come to its end",
            Some(124) => "the self test did not come to its end",
            Some(128..) => "the self test was killed",
            Some(_) => return Err(format!("is not bad for “{result}”: {self:?}")),
        };
        // A kernel that goes down does not always come to say why.
        let meant = if result.starts_with("kernel: ") {
            self.status.is_none()
        } else {
            !self.has_good(result)
        };
        if !meant {
            return Err(format!("{stopped}, but not because of “{result}”"));
        }
        Ok(format!("{stopped} before “{result}”"))
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
kernel: <6>[    0.0] Checking things
";

    #[test]
    fn all_is_well_where_every_result_is_good_and_the_one_is_there() {
        let results = Results::read(SAID);
        assert!(results.are_well("one") && results.are_well("kernel: BUG"));
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
            Results::read(&SAID.replace(line, other))
                .notice(result)
                .is_ok()
        };
        assert!(notices("ok 2 two", "not ok 2 two", "two"));
        assert!(!notices("ok 2 two", "not ok 2 two", "one"));
        assert!(!notices("ok 2 two", "", "two"));
        assert!(notices("Checking", "WARNING: checking", "WARNING: "));
        assert!(!notices("Checking", "WARNING: checking", "BUG: "));
    }

    #[test]
    fn a_test_or_kernel_that_does_not_come_so_far_has_noticed() {
        for end in ["status 124", "status 139", ""] {
            let said = SAID.replace("ok 2 two\n", "").replace("status 0", end);
            let results = Results::read(&said);
            assert!(results.notice("two").is_ok(), "{end}");
            assert!(results.notice("one").is_err(), "{end}");
            let notice = results.notice("kernel: refcount_t: ");
            assert_eq!(notice.is_ok(), end.is_empty(), "{end}");
        }
    }
}
