//! `cargo xtask kernel`: the kernel of `kernel/`, built, booted and checked.
//!
//! What is built is kept in the user's cache, one directory for each combination of sources, patches
//! and configuration, so that several checkouts share it and changing nothing costs nothing.

mod build;
mod check;
mod clock;
mod mutants;
mod program;
mod series;
mod source;
mod work;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::root;
pub use build::{Machine, Variant};

const USAGE: &str = "\
usage: cargo xtask kernel build [--unpatched] [--debug] [--x86-64]
           build it where it is not built yet, and print where it is
       cargo xtask kernel where [--unpatched] [--debug] [--x86-64]
           print where it is if it is built, else fail
       cargo xtask kernel boot [--unpatched] [--debug] [--timeout SECONDS] [-- COMMAND [ARGUMENT]...]
           run a command on it with the files of this machine, or a shell
       cargo xtask kernel boot --x86-64 [--debug] [--timeout SECONDS] -- COMMAND
           run text for a shell on it in qemu with the self tests and nothing else
       cargo xtask kernel check [--no-boot] [NUMBER]...
           say which patches do not apply, do not follow the style of the kernel, bring warnings, or
           leave a kernel that does not compile or boot; takes long (as root)
       cargo xtask kernel mutants [TEXT]...
           break the rules of kernel/mutants.toml, or those in which the texts occur, one at a time,
           and say which of them no self test notices; takes long (as root)";

/// Why nothing was built: what was tried, and what went wrong.
type Fault = String;

/// Does what the words after `kernel` say.
#[must_use]
pub fn run(words: &[String]) -> ExitCode {
    let result = match words.split_first() {
        Some((verb, rest)) if verb == "check" => match check::Scope::parse(rest) {
            Some(scope) => check::series(&scope),
            None => return usage(),
        },
        Some((verb, rest))
            if verb == "mutants" && !rest.iter().any(|word| word.starts_with('-')) =>
        {
            mutants::run(rest)
        }
        Some((verb, rest)) => match (verb.as_str(), Options::parse(rest)) {
            ("build", Some(options)) if !options.runs() => build(options.variant),
            ("where", Some(options)) if !options.runs() => find(options.variant),
            ("boot", Some(options)) if options.can_boot() => boot(&options),
            _ => return usage(),
        },
        None => return usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// What follows the verb.
#[derive(Debug, Default)]
struct Options {
    variant: Variant,
    timeout: Option<String>,
    command: Vec<String>,
}

impl Options {
    fn parse(words: &[String]) -> Option<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--unpatched" => options.variant.unpatched = true,
                "--debug" => options.variant.debug = true,
                "--x86-64" => options.variant.machine = Machine::Pc,
                "--timeout" => options.timeout = Some(words.next()?.clone()),
                "--" => {
                    options.command = words.cloned().collect();
                    break;
                }
                _ => return None,
            }
        }
        Some(options)
    }

    /// In qemu there is no shell, nor are there self tests of what is not patched.
    fn can_boot(&self) -> bool {
        self.variant.machine == Machine::Process
            || (self.command.len() == 1 && !self.variant.unpatched)
    }

    fn runs(&self) -> bool {
        self.timeout.is_some() || !self.command.is_empty()
    }
}

/// Where kernels and their sources are kept.
fn cache() -> Result<PathBuf, Fault> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME").ok_or("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("keyns/kernel"))
}

fn build(variant: Variant) -> Result<(), Fault> {
    println!("{}", build::kernel(variant)?.join("linux").display());
    Ok(())
}

fn find(variant: Variant) -> Result<(), Fault> {
    let kernel =
        build::built(variant)?.ok_or("this kernel is not built; run: cargo xtask kernel build")?;
    println!("{}", kernel.join("linux").display());
    Ok(())
}

fn boot(options: &Options) -> Result<(), Fault> {
    let kernel = build::kernel(options.variant)?;
    let script = match options.variant.machine {
        Machine::Process => "tools/lab.sh",
        Machine::Pc => "tools/qemu.sh",
    };
    let mut booted = Command::new(root().join(script));
    booted.arg("--kernel").arg(kernel.join("linux"));
    if let Some(seconds) = &options.timeout {
        booted.args(["--timeout", seconds]);
    }
    match options.variant.machine {
        Machine::Process => {
            // For what runs there: where the self tests are.
            booted.env("KEYNS_KERNEL_DIR", &kernel);
            booted.arg("--").args(&options.command);
        }
        Machine::Pc => {
            booted.arg(kernel.join("selftests")).args(&options.command);
        }
    }
    let error = booted.exec();
    Err(format!("cannot execute {script}: {error}"))
}

/// What a kernel says when it finds a fault in itself.
const FAULTS: [&str; 8] = [
    "BUG: ",
    "kernel BUG at ",
    "WARNING: ",
    "INFO: ",
    "Call Trace:",
    "UBSAN: ",
    "refcount_t: ",
    // By `kernel/first-process`, of the messages.
    "cannot be read: ",
];

fn is_fault(line: &str) -> bool {
    FAULTS.iter().any(|fault| line.contains(fault))
}

/// Fails with all faults that were found.
fn none_of(faults: &[String]) -> Result<(), Fault> {
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("{} faults\n{}", faults.len(), faults.join("\n")))
    }
}

/// What needs root says so before anything takes its time.
fn need_root() -> Result<(), Fault> {
    if output(Command::new("id").arg("-u"))? == "0" {
        Ok(())
    } else {
        Err("booting kernels needs root, which has process namespaces".to_owned())
    }
}

/// Runs a program whose messages go to standard error, and says which one failed.
fn succeed(command: &mut Command) -> Result<(), Fault> {
    let name = Path::new(command.get_program()).display().to_string();
    // What this program prints is its result alone.
    let status = command
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| format!("cannot execute {name}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{name} failed ({status})"))
    }
}

/// What a program prints, without the last line break.
fn output(command: &mut Command) -> Result<String, Fault> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot execute {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed ({})", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}
