//! Whether the self tests notice that a patch is missing.

use std::process::Command;

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
            if results.bad.is_empty() && results.good.iter().any(|good| good.contains(result)) {
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
}

impl Results {
    fn read(said: &str) -> Self {
        let mut results = Self::default();
        for line in said.lines() {
            let Some((_, line)) = line.split_once("look: program ") else {
                continue;
            };
            if let Some(bad) = line.strip_prefix("not ok ") {
                results.bad.push(bad.to_owned());
            } else if let Some(good) = line.strip_prefix("ok ") {
                results.good.push(good.to_owned());
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_the_lines_of_the_program() {
        let said = "[1.0] look: program ok 1 one\nlook: program not ok 2 two\nok 3 three\n";
        assert_eq!(
            Results::read(said),
            Results {
                good: vec!["1 one".to_owned()],
                bad: vec!["2 two".to_owned()],
            }
        );
    }
}
