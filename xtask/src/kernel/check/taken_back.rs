//! Whether the self tests notice that a patch is missing.

use std::process::Command;

use super::first_process::Look;
use super::program::said_nothing;
use super::scope::number;
use super::{Check, Combination, Series};

/// A patch without which the others work, but for what a self test must notice.
#[derive(Clone, Copy)]
pub(super) struct TakenBack {
    of: &'static str,
    test: &'static str,
    /// The result that is bad without it.
    result: &'static str,
}

pub(super) const TAKEN_BACK: [TakenBack; 1] = [TakenBack {
    of: "0001",
    test: "intercept",
    result: "meanwhile keys can be made",
}];

impl Check {
    /// Whether a self test passes with the whole series, and notices that one patch is taken back.
    pub(super) fn takes_back(&mut self, series: &Series, taken: TakenBack) {
        let TakenBack { of, test, result } = taken;
        let with = Combination::most(true);
        eprintln!("{of} taken back");
        self.step(of, "with it", |check| {
            check.self_tests()?;
            let results = check.results(with, test)?;
            if results.whole(result) {
                Ok(format!("{test}: {} results", results.good.len()))
            } else {
                Err(vec![format!("{test} does not pass: {results:?}")])
            }
        });
        self.step(of, "without it", |check| {
            let patch = series.patches().iter().find(|patch| number(patch) == of);
            let patch = patch.ok_or_else(|| vec!["there is no such patch".to_owned()])?;
            let apply = |how: &str| {
                said_nothing(
                    Command::new("patch")
                        .args(["--strip=1", how, "--batch", "--silent"])
                        .args(["--no-backup-if-mismatch", "--input"])
                        .arg(patch)
                        .current_dir(&check.tree),
                )
            };
            apply("--reverse")?;
            let results = check.compile(with).and_then(|()| check.results(with, test));
            apply("--forward")?;
            let results = results?;
            if results.bad.iter().any(|bad| bad.contains(result)) {
                Ok(format!("{test}: not ok: {result}"))
            } else {
                Err(vec![format!("{test} passes all the same: {results:?}")])
            }
        });
    }

    fn results(&self, with: Combination, test: &str) -> Result<Results, Vec<String>> {
        let program = self.objects("selftests").join(test);
        let run = [format!("program={}", program.display())];
        Ok(Results::read(&self.boot(with, &run)?))
    }
}

/// What a self test found.
#[derive(Debug, Default, PartialEq)]
struct Results {
    good: Vec<String>,
    bad: Vec<String>,
    /// Whether the program succeeded.
    passed: bool,
    /// What else went wrong.
    faults: Vec<String>,
}

impl Results {
    fn read(said: &str) -> Self {
        let look = Look::read(said);
        let that_are = |how: &str| {
            let lines = said.lines().filter_map(|line| line.strip_prefix(how));
            lines.map(|line| line.trim_end().to_owned()).collect()
        };
        Self {
            good: that_are("ok "),
            bad: that_are("not ok "),
            passed: look.has("status 0"),
            faults: look.faults(),
        }
    }

    fn whole(&self, result: &str) -> bool {
        self.passed
            && self.bad.is_empty()
            && self.faults.is_empty()
            && self.good.iter().any(|good| good.contains(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
ok 1 one
ok 2 two
# ok 3 three
look: status 0
look: kernel <4>Checking things
look: end
";

    #[test]
    fn a_test_passes_whose_results_are_all_good_and_there() {
        let results = Results::read(SAID);
        assert_eq!(results.good, ["1 one", "2 two"]);
        assert!(results.whole("two") && !results.whole("three"));
    }

    #[test]
    fn a_test_that_fails_dies_or_harms_the_kernel_does_not_pass() {
        for (line, other) in [
            ("ok 2 two", "not ok 2 two"),
            ("status 0", "status 11"),
            ("look: end\n", ""),
            ("Checking", "BUG: checking"),
        ] {
            assert!(
                !Results::read(&SAID.replace(line, other)).whole("one"),
                "{line}"
            );
        }
    }
}
