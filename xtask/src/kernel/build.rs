//! Building: from Debian's sources to a kernel that is an ordinary program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::series::Series;
use super::source::Source;
use super::{Fault, cache, output, succeed};
use crate::root;

/// Where the sources have them.
pub(super) const SELF_TESTS: &str = "tools/testing/selftests/containers";

/// What a kernel is for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// An ordinary process of this machine.
    #[default]
    Process,
    /// A PC, as qemu has it.
    Pc,
}

impl Machine {
    /// The name of the architecture, what is to be made, and where that comes to be.
    const fn image(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Process => ("um", "linux", "linux"),
            Self::Pc => ("x86_64", "bzImage", "arch/x86/boot/bzImage"),
        }
    }
}

/// Which of the kernels.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Debian's sources as they are.
    pub unpatched: bool,
    /// With everything that finds faults at run time.
    pub debug: bool,
    /// What it is for.
    pub machine: Machine,
}

/// Where a kernel is, if it is built. Fetches nothing.
pub(super) fn built(variant: Variant) -> Result<Option<PathBuf>, Fault> {
    let Some(source) = Source::cached()? else {
        return Ok(None);
    };
    let directory = cache()?.join(Series::read(variant)?.key(&source.version)?);
    Ok(directory.is_dir().then_some(directory))
}

/// The directory of a kernel, `linux`, with its `config` and its `selftests`. Builds it where it is
/// not there; of several that want it at once, one builds.
pub(super) fn kernel(variant: Variant) -> Result<PathBuf, Fault> {
    let source = Source::fetch()?;
    let series = Series::read(variant)?;
    let cache = cache()?;
    let wanted = cache.join(series.key(&source.version)?);
    if wanted.is_dir() {
        return Ok(wanted);
    }
    fs::create_dir_all(&cache)
        .map_err(|error| format!("cannot make {}: {error}", cache.display()))?;
    let lock = fs::File::create(cache.join("lock"))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| format!("cannot lock {}: {error}", cache.display()))?;
    if !wanted.is_dir() {
        let wants: &[&str] = match variant.machine {
            Machine::Process => &["kernel"],
            Machine::Pc => &["kernel", "qemu"],
        };
        succeed(Command::new(root().join("tools/requirements.sh")).args(wants))?;
        let work = cache.join("new");
        remove(&work)?;
        fs::create_dir(&work)
            .map_err(|error| format!("cannot make {}: {error}", work.display()))?;
        let built = build(&source, &series, variant, &work)?;
        // By rename, so that what is there is whole.
        fs::rename(&built, &wanted)
            .map_err(|error| format!("cannot make {}: {error}", wanted.display()))?;
        remove(&work)?;
    }
    drop(lock);
    Ok(wanted)
}

pub(super) fn remove(directory: &Path) -> Result<(), Fault> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .map_err(|error| format!("cannot remove {}: {error}", directory.display()))?;
    }
    Ok(())
}

/// Builds below a directory and returns that of the result.
fn build(
    source: &Source,
    series: &Series,
    variant: Variant,
    work: &Path,
) -> Result<PathBuf, Fault> {
    eprintln!(
        "building Linux {} with {} patches; this takes some minutes",
        source.version,
        series.patches().len()
    );
    let tree = source.unpack(work)?;
    source.patch(&tree, series)?;
    let objects = work.join("objects");
    let machine = variant.machine;
    configure(machine, &tree, &objects, &series.configuration()?)?;
    compile(machine, &tree, &objects)?;

    let built = work.join("built");
    let failed = |error: std::io::Error| format!("cannot make {}: {error}", built.display());
    fs::create_dir(&built).map_err(failed)?;
    let (_, _, image) = machine.image();
    fs::copy(objects.join(image), built.join("linux")).map_err(failed)?;
    fs::copy(objects.join(".config"), built.join("config")).map_err(failed)?;
    if machine == Machine::Process && !variant.debug {
        succeed(
            Command::new("strip")
                .arg("--strip-debug")
                .arg(built.join("linux")),
        )?;
    }
    if tree.join(SELF_TESTS).is_dir() {
        self_tests(&tree, &built.join("selftests"))?;
    }
    Ok(built)
}

/// Compiles the self tests into a new directory.
pub(super) fn self_tests(tree: &Path, out: &Path) -> Result<(), Fault> {
    fs::create_dir(out).map_err(|error| format!("cannot make {}: {error}", out.display()))?;
    succeed(
        Command::new("make")
            .args(["--silent", "--directory"])
            .arg(tree.join(SELF_TESTS))
            .arg(format!("OUTPUT={}", out.display())),
    )
}

/// With the compiler behind ccache, where it is installed.
pub(super) fn make(machine: Machine, tree: &Path, objects: &Path) -> Command {
    let (architecture, _, _) = machine.image();
    let mut make = Command::new("nice");
    make.args(["make", "--silent"])
        .arg(format!("ARCH={architecture}"))
        .arg("--directory")
        .arg(tree)
        .arg(format!("O={}", objects.display()));
    if Command::new("ccache").arg("--version").output().is_ok() {
        // Which files were read, the compiler says: they need not be found out beforehand.
        make.arg("CC=ccache gcc").env("CCACHE_DEPEND", "1");
    }
    make
}

/// Makes a configuration in which nothing is on besides what the lines ask for and what that needs.
pub(super) fn configure(
    machine: Machine,
    tree: &Path,
    objects: &Path,
    lines: &str,
) -> Result<(), Fault> {
    let failed = |error: std::io::Error| format!("cannot configure the kernel: {error}");
    fs::create_dir_all(objects).map_err(failed)?;
    let wanted = objects.join("wanted.config");
    fs::write(&wanted, lines).map_err(failed)?;
    succeed(
        make(machine, tree, objects)
            .arg("allnoconfig")
            .env("KCONFIG_ALLCONFIG", &wanted),
    )?;
    // An option that does not exist here, or lacks what it depends on, is dropped without a word.
    let made = fs::read_to_string(objects.join(".config")).map_err(failed)?;
    let absent: Vec<&str> = lines
        .lines()
        .filter(|line| line.starts_with("CONFIG_"))
        .filter(|line| !made.lines().any(|made| made == *line))
        .collect();
    if absent.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "this Linux has no such options, or lacks what they need: {}",
            absent.join(", ")
        ))
    }
}

/// As many at once as there are processors.
pub(super) fn jobs() -> Result<String, Fault> {
    Ok(format!("--jobs={}", output(&mut Command::new("nproc"))?))
}

/// Compiles on all processors, without getting in anybody's way.
fn compile(machine: Machine, tree: &Path, objects: &Path) -> Result<(), Fault> {
    let (_, target, _) = machine.image();
    succeed(make(machine, tree, objects).arg(jobs()?).arg(target))
}
