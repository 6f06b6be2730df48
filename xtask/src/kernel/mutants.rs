//! Whether the self tests notice when a rule is broken.
//!
//! `kernel/mutants.toml` has the rules, each with a change of the patched sources that breaks it. They are
//! made one at a time; then the kernel is built, and the self test must find what is said there.

mod result;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, ScopedJoinHandle};

use serde::Deserialize;

use super::build::{self, Machine, Variant, jobs, make};
use super::clock::Clock;
use super::program::said;
use super::series::{Series, number, text};
use super::source::Source;
use super::work::Work;
use super::{Fault, need_root, none_of, succeed};
use crate::root;
use result::Results;

const RULES: &str = "kernel/mutants.toml";

/// In seconds, for a self test that takes ten at most, and for the kernel around it.
const PATIENCE: [&str; 2] = ["60", "180"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutants {
    mutant: Vec<Mutant>,
}

/// A rule, and how it is broken.
#[derive(Debug, Deserialize)]
struct Mutant {
    /// What holds.
    rule: String,
    /// The self test.
    test: String,
    /// A part of its result that is then bad; or of what the kernel says, after `kernel: `.
    result: String,
    /// Whether the test does not come so far, or the kernel goes down.
    #[serde(default)]
    stops: bool,
    #[serde(flatten)]
    change: Change,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Change {
    /// A text of a file, which is there once, becomes another.
    Text {
        file: PathBuf,
        is: String,
        becomes: String,
    },
    /// A patch without which the others compile is taken back.
    Patch { takes_back: String },
}

impl Mutant {
    /// Says how its breach was noticed, or what is wrong, which is returned.
    fn judge(&self, noticed: Result<String, Fault>) -> Option<String> {
        let Self { rule, test, .. } = self;
        match noticed {
            Ok(how) => {
                eprintln!("  {rule}: {how}");
                None
            }
            Err(fault) => {
                eprintln!("  {rule}: FAULT\n    {}", fault.replace('\n', "\n    "));
                Some(format!("{rule}: {test}: {fault}"))
            }
        }
    }

    fn has(&self, word: &str) -> bool {
        let place = match &self.change {
            Change::Text { file, .. } => file.to_str().unwrap_or_default(),
            Change::Patch { takes_back } => takes_back,
        };
        [&self.rule, &self.test, place]
            .iter()
            .any(|text| text.contains(word))
    }
}

/// Breaks the rules in which one of the words occurs, or all.
pub(super) fn run(words: &[String]) -> Result<(), Fault> {
    need_root()?;
    let mut mutants = all()?;
    mutants.retain(|mutant| words.is_empty() || words.iter().any(|word| mutant.has(word)));
    if mutants.is_empty() {
        return Err(format!("{RULES} has no such rule"));
    }
    succeed(Command::new(root().join("tools/requirements.sh")).arg("kernel"))?;
    let begun = Clock::now();
    let work = Work::begin("mutants")?;
    let faults = Laboratory::of(work.path())?.all(&mutants)?;
    eprintln!("{} rules in {}", mutants.len(), begun.passed());
    none_of(&faults)
}

fn all() -> Result<Vec<Mutant>, Fault> {
    let read = toml::from_str::<Mutants>(&text(&root().join(RULES))?);
    read.map(|mutants| mutants.mutant)
        .map_err(|error| format!("{RULES}: {error}"))
}

struct Laboratory {
    source: Source,
    series: Series,
    tree: PathBuf,
    objects: PathBuf,
    tests: PathBuf,
}

impl Laboratory {
    /// Builds the kernel as it should be.
    fn of(work: &Path) -> Result<Self, Fault> {
        let source = Source::fetch()?;
        let series = Series::read(Variant::default())?;
        let tree = source.unpack(work)?;
        source.patch(&tree, &series)?;
        let laboratory = Self {
            objects: work.join("objects"),
            tests: work.join("selftests"),
            source,
            series,
            tree,
        };
        build::configure(
            Machine::Process,
            &laboratory.tree,
            &laboratory.objects,
            &laboratory.series.configuration()?,
        )?;
        build::self_tests(&laboratory.tree, &laboratory.tests)?;
        laboratory.compile()?;
        Ok(laboratory)
    }

    fn compile(&self) -> Result<(), Fault> {
        let mut make = make(Machine::Process, &self.tree, &self.objects);
        match said(make.arg(jobs()?).arg("linux"))? {
            (true, _) => Ok(()),
            (false, said) => Err(format!("it does not compile:\n{}", said.trim())),
        }
    }

    /// The rules that cannot be broken so, or whose breach nobody notices.
    fn all(&self, mutants: &[Mutant]) -> Result<Vec<String>, Fault> {
        self.all_is_well(mutants)?;
        thread::scope(|scope| {
            let mut faults = Vec::new();
            let mut before: Option<ScopedJoinHandle<'_, Option<String>>> = None;
            for (number, mutant) in mutants.iter().enumerate() {
                let kernel = self.objects.join(format!("linux-{}", number % 2));
                let broken = self.broken(mutant, &kernel)?;
                // One is looked at while the next is compiled.
                faults.extend(before.take().and_then(joined));
                match broken {
                    Ok(()) => before = Some(scope.spawn(move || self.look(mutant, &kernel))),
                    Err(fault) => faults.extend(mutant.judge(Err(fault))),
                }
            }
            faults.extend(before.and_then(joined));
            Ok(faults)
        })
    }

    /// With no rule broken, every result that is to be bad must be good.
    fn all_is_well(&self, mutants: &[Mutant]) -> Result<(), Fault> {
        let tests: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.test.as_str()).collect();
        for test in tests {
            let results = self.boot(&self.objects.join("linux"), test)?;
            for mutant in mutants.iter().filter(|mutant| mutant.test == test) {
                if !results.are_well(&mutant.result) {
                    return Err(format!(
                        "{}: {test} has no good result “{}”, or has bad ones: {results}",
                        mutant.rule, mutant.result
                    ));
                }
            }
        }
        Ok(())
    }

    /// Makes a kernel in which the rule is broken, of sources in which it is not any more. That the
    /// sources cannot be as they were ends it all: the next kernel would not be what it should be.
    fn broken(&self, mutant: &Mutant, kernel: &Path) -> Result<Result<(), Fault>, Fault> {
        let compiled = match &mutant.change {
            Change::Text { file, is, becomes } => {
                let path = self.tree.join(file);
                let whole = text(&path)?;
                let times = whole.matches(is).count();
                if times != 1 {
                    return Ok(Err(format!("what is to change is there {times} times")));
                }
                write(&path, &whole.replacen(is, becomes, 1))?;
                let compiled = self.compile();
                write(&path, &whole)?;
                compiled
            }
            Change::Patch { takes_back } => {
                let mut patches = self.series.patches().iter();
                let Some(patch) = patches.find(|patch| number(patch) == takes_back) else {
                    return Ok(Err("there is no such patch".to_owned()));
                };
                self.source.take_back(&self.tree, patch)?;
                let compiled = self.compile();
                self.source.apply(&self.tree, patch)?;
                compiled
            }
        };
        Ok(compiled.and_then(|()| {
            fs::copy(self.objects.join("linux"), kernel)
                .map(drop)
                .map_err(|error| format!("cannot copy the kernel: {error}"))
        }))
    }

    /// Has the self test look at a kernel with a broken rule.
    fn look(&self, mutant: &Mutant, kernel: &Path) -> Option<String> {
        mutant.judge(
            self.boot(kernel, &mutant.test)
                .and_then(|results| results.notice(&mutant.result, mutant.stops)),
        )
    }

    /// Runs a self test in the lab.
    fn boot(&self, kernel: &Path, test: &str) -> Result<Results, Fault> {
        let program = self.tests.join(test);
        let [of_test, of_kernel] = PATIENCE;
        let script = format!(
            "timeout {of_test} {} 2>&1; echo status $?; dmesg | sed 's/^/kernel: /'",
            program.display()
        );
        let (_, said) = said(
            Command::new(root().join("tools/lab.sh"))
                .arg("--kernel")
                .arg(kernel)
                .args(["--timeout", of_kernel, "--", "bash", "-c", &script]),
        )?;
        Ok(Results::read(&said))
    }
}

fn joined(look: ScopedJoinHandle<'_, Option<String>>) -> Option<String> {
    look.join()
        .unwrap_or_else(|_| Some("a look at a kernel panicked".to_owned()))
}

fn write(path: &Path, text: &str) -> Result<(), Fault> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The lines that each file has by the patches, or has around what they change.
    fn files(patches: &[String]) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut files: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut file = "";
        for line in patches.iter().flat_map(|patch| patch.lines()) {
            if let Some(name) = line.strip_prefix("+++ b/") {
                file = name;
            } else if let Some(line) = line.strip_prefix(['+', ' ']) {
                files.entry(file).or_default().insert(line);
            }
        }
        files
    }

    /// Whether it is there as a whole, and once, only the patched sources can tell.
    #[test]
    fn what_is_to_change_is_in_the_patches_and_makes_a_difference() {
        let series = Series::read(Variant::default()).unwrap();
        let patches: Vec<String> = series.patches().iter().map(|p| text(p).unwrap()).collect();
        let files = files(&patches);
        let mut rules = BTreeSet::new();
        for mutant in all().unwrap() {
            let rule = mutant.rule;
            assert!(rules.insert(rule.clone()), "{rule}: twice");
            let test = format!("{}/{}.c", build::SELF_TESTS, mutant.test);
            assert!(files.contains_key(test.as_str()), "{rule}: no {test}");
            match mutant.change {
                Change::Text { file, is, becomes } => {
                    assert_ne!(is, becomes, "{rule}");
                    let known = &files[file.to_str().unwrap()];
                    for line in is.lines() {
                        let there = known.iter().any(|known| known.contains(line));
                        assert!(there, "{rule}: no patch has: {line}");
                    }
                }
                Change::Patch { takes_back } => {
                    assert!(series.patches().iter().any(|p| number(p) == takes_back));
                }
            }
        }
        assert!(!rules.is_empty());
    }
}
