//! What must hold for the series, patch by patch: it applies, follows the style of the kernel, gives
//! rise to no warning, and leaves a kernel that compiles and boots whatever is switched on of it.
//!
//! A fault ends nothing but its step, so that one run finds all of them.

mod combination;
mod compared;
mod first_process;
mod inventory;
mod scope;
mod touched;
mod warnings;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::{self, Machine, Variant, jobs, make};
use super::clock::Clock;
use super::program::{compiled, said_nothing};
use super::series::{Series, number, text};
use super::source::Source;
use super::work::Work;
use super::{Fault, need_root, none_of, succeed};
use crate::root;
use combination::Combination;
use inventory::Inventory;
pub(super) use scope::Scope;
use touched::Touched;
use warnings::Warnings;

/// What is found and stays; `kernel/README.md` says why.
const ACCEPTED: &str = "ENOTSUPP,FILE_PATH_CHANGES,EMBEDDED_FUNCTION_NAME,VOLATILE";

/// Most of the sources, which takes long to write and to remove: other architectures and drivers. The
/// files that say which options there are stay.
const NOT_NEEDED: [&str; 9] = [
    "Documentation/devicetree/*",
    "arch/[!Kux]*/*.[cdhS]*",
    "arch/xtensa/*.[cdhS]*",
    "drivers/[!abcnt]*/*.[ch]",
    "drivers/net/*/*.[ch]",
    "sound/*.[ch]",
    "drivers/c[lr]*/*.[ch]",
    "tools/perf/*",
    "tools/testing/selftests/[!ck]*/*",
];

pub(super) fn series(scope: &Scope) -> Result<(), Fault> {
    need_root()?;
    succeed(Command::new(root().join("tools/requirements.sh")).arg("kernel"))?;
    let source = Source::fetch()?;
    let series = Series::read(Variant::default())?;
    for wanted in &scope.numbers {
        if !series.patches().iter().any(|patch| number(patch) == wanted) {
            return Err(format!("there is no patch {wanted} in kernel/patches"));
        }
    }
    let begun = Clock::now();
    let work = Work::begin("check")?;
    let mut check = Check::of(&source, work.path())?;
    check.all(&source, &series, scope);
    eprintln!("{} patches in {}", series.patches().len(), begun.passed());
    none_of(&check.faults)
}

/// A step's faults, or how it went.
type Step = Result<String, Vec<String>>;

struct Check {
    work: PathBuf,
    tree: PathBuf,
    faults: Vec<String>,
    /// Whether the sources have the option, with the patches applied so far.
    containers: bool,
    /// The directories of objects that are configured by the options as they are now.
    configured: RefCell<Vec<String>>,
}

impl Check {
    fn of(source: &Source, work: &Path) -> Result<Self, Fault> {
        let tree = source.unpack_without(work, &NOT_NEEDED)?;
        // scripts/spdxcheck.py, which checkpatch.pl calls, reads the licences out of a repository.
        let git = |words: &[&str]| succeed(Command::new("git").arg("-C").arg(&tree).args(words));
        git(&["init", "--quiet"])?;
        git(&["add", "--force", "LICENSES", "include"])?;
        git(&[
            "-c",
            "user.name=check",
            "-c",
            "user.email=check@localhost",
            "commit",
            "--quiet",
            "--message=base",
        ])?;
        Ok(Self {
            work: work.to_owned(),
            tree,
            faults: Vec::new(),
            containers: false,
            configured: RefCell::default(),
        })
    }

    fn all(&mut self, source: &Source, series: &Series, scope: &Scope) {
        for patch in series.patches() {
            if let Err(fault) = self.patch(source, patch, scope) {
                // The others want this one.
                self.faults.push(fault);
                return;
            }
        }
    }

    /// One step: a line on how it went and how long it took.
    fn step(&mut self, of: &str, name: &str, what: impl FnOnce(&Self) -> Step) {
        let begun = Clock::now();
        let result = what(self);
        let (verdict, faults) = match result {
            Ok(verdict) => (verdict, Vec::new()),
            Err(faults) => ("FAULT".to_owned(), faults),
        };
        eprintln!("  {name:<16} {}  {verdict}", begun.passed());
        for fault in faults {
            eprintln!("    {}", fault.replace('\n', "\n    "));
            self.faults.push(format!("{of}: {name}: {fault}"));
        }
    }

    /// Everything about one patch, which is applied when this is over. Fails when it cannot be.
    fn patch(&mut self, source: &Source, patch: &Path, scope: &Scope) -> Result<(), Fault> {
        let touched = Touched::parse(&text(patch)?);
        let of = number(patch);
        let looked_at = scope.includes(patch);
        let mut before = None;
        if looked_at {
            let name = patch.file_name().unwrap_or_default();
            eprintln!("{}", name.display());
            self.step(of, "style", |check| check.style(patch));
            let most = Combination::most(self.containers);
            before = Some(self.warnings(most, &touched)?.0);
        }
        source.apply(&self.tree, patch)?;
        if touched.options {
            self.configured.get_mut().clear();
        }
        // The option that switches the series on comes with one of its patches.
        let options = fs::read_to_string(self.tree.join("init/Kconfig")).unwrap_or_default();
        self.containers = options.contains("config CONTAINERS\n");
        if let Some(before) = before {
            self.step(of, "warnings", |check| {
                check.new_warnings(&touched, &before)
            });
        }
        if looked_at && touched.tests {
            self.step(of, "self tests", Self::self_tests);
        }
        if looked_at && !scope.no_boot {
            for with in Combination::all(self.containers) {
                self.step(of, with.name(), |check| check.boots(with));
            }
        }
        Ok(())
    }

    fn objects(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// The directory of objects of this name, configured by these lines.
    fn configure(&self, machine: Machine, name: &str, lines: &str) -> Result<PathBuf, Fault> {
        let objects = self.objects(name);
        let mut configured = self.configured.borrow_mut();
        if !configured.iter().any(|known| known == name) {
            build::configure(machine, &self.tree, &objects, lines)?;
            configured.push(name.to_owned());
        }
        Ok(objects)
    }

    fn style(&self, patch: &Path) -> Step {
        said_nothing(
            Command::new("perl")
                .arg("scripts/checkpatch.pl")
                .args(["--strict", "--quiet", "--ignore", ACCEPTED])
                .arg(patch)
                // Debian's Python, whatever else there is: it has the packages for scripts/spdxcheck.py.
                .env("PATH", "/usr/bin:/bin")
                .current_dir(&self.tree),
        )
        .map(|()| "ok".to_owned())
    }

    fn self_tests(&self) -> Step {
        let out = self.objects("selftests");
        fs::create_dir_all(&out).map_err(|error| vec![error.to_string()])?;
        compiled(
            Command::new("nice")
                .args(["make", "--silent", "--directory"])
                .arg(self.tree.join(build::SELF_TESTS))
                .arg(format!("OUTPUT={}", out.display()))
                .arg(jobs().map_err(|fault| vec![fault])?),
        )
        .map(|()| "compiled".to_owned())
    }

    /// Compiles a kernel with or without containers and keys, and looks at it when it runs.
    fn boots(&self, with: Combination) -> Step {
        self.compile(with)?;
        let inventory = Inventory::of(&self.tree);
        let said = self.boot(with, &inventory.arguments())?;
        let faults = inventory.compare(with, &said);
        if faults.is_empty() {
            Ok("compiled, booted".to_owned())
        } else {
            Err(faults)
        }
    }

    fn compile(&self, with: Combination) -> Result<(), Vec<String>> {
        let one = |fault| vec![fault];
        let lines = with.configuration(Machine::Process).map_err(one)? + "CONFIG_WERROR=y\n";
        let objects = self
            .configure(Machine::Process, with.name(), &lines)
            .map_err(one)?;
        compiled(
            make(Machine::Process, &self.tree, &objects)
                .arg(jobs().map_err(one)?)
                .arg("linux"),
        )
    }

    fn boot(&self, with: Combination, arguments: &[String]) -> Result<String, Vec<String>> {
        first_process::boot(&self.objects(with.name()).join("linux"), arguments)
            .map_err(|fault| vec![fault])
    }
}
