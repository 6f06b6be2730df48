//! Another kernel for one command: boots the lab (`tools/lab.sh`), with the files of this machine
//! and none of what is changed there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bin_dir;
use crate::instance::Ran;

/// The directory of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Boots the lab, runs a command in the repository's directory and returns what it said and how it
/// ended. After `patience` the kernel is ended, and the exit code is 124.
///
/// # Panics
/// When the script cannot be executed.
#[must_use]
pub fn run(command: &[&str], patience: Duration) -> Ran {
    boot(&[], command, patience)
}

/// As [`run`], on a kernel of `kernel/` (see [`patched`] and [`unpatched`]).
///
/// # Panics
/// As [`run`].
#[must_use]
pub fn run_patched(kernel: &Path, command: &[&str], patience: Duration) -> Ran {
    let program = kernel.to_string_lossy();
    let memory = if is_debug() { "2G" } else { "512M" };
    boot(
        &["--kernel", &program, "--memory", memory],
        command,
        patience,
    )
}

/// Runs text for a shell on the kernel of `kernel/` for PCs, which looks for races and is built where it
/// is not built yet: in qemu with two processors, and the self tests in the current directory.
///
/// # Panics
/// As [`run`].
#[must_use]
pub fn run_on_pc(command: &str, patience: Duration) -> Ran {
    // If this process is killed, so is the kernel.
    let output = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            env!("CARGO"),
            "xtask",
            "kernel",
            "boot",
        ])
        .args(["--x86-64", "--debug", "--timeout"])
        .arg(patience.as_secs().to_string())
        .args(["--", command])
        .current_dir(repository())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    output.into()
}

/// As [`run`], with systemd as the first process and the command as a service of it.
///
/// # Panics
/// As [`run`].
#[must_use]
pub fn run_systemd(command: &[&str], patience: Duration) -> Ran {
    boot(&["--systemd"], command, patience)
}

/// The kernel of `kernel/`, which is built where it is not built yet: a program in a directory with
/// its `config` and `selftests`.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn patched() -> PathBuf {
    built(&[])
}

/// The same without the patches, from the same sources and with the same configuration.
///
/// # Panics
/// As [`patched`].
#[must_use]
pub fn unpatched() -> PathBuf {
    built(&["--unpatched"])
}

fn built(options: &[&str]) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["xtask", "kernel", "build"])
        .args(options)
        .args(is_debug().then_some("--debug"))
        .current_dir(repository())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the kernel cannot be built");
    let path = String::from_utf8(output.stdout).unwrap();
    PathBuf::from(path.trim_end())
}

/// Whether that kernel is to look for faults in itself at run time: when `KEYNS_KERNEL_DEBUG` is set.
#[must_use]
pub fn is_debug() -> bool {
    std::env::var_os("KEYNS_KERNEL_DEBUG").is_some()
}

fn boot(options: &[&str], command: &[&str], patience: Duration) -> Ran {
    let seconds = patience.as_secs().to_string();
    // If this process is killed, so is the kernel.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "tools/lab.sh"])
        .args(options)
        .args(["--timeout", &seconds, "--"])
        .args(command)
        .current_dir(repository())
        .env("KEYNS_BIN_DIR", bin_dir())
        // Of the host's take-over; here nothing is taken over.
        .env_remove("KEYNS_TAKEN_OVER")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    output.into()
}

/// Same for a shell script, which ends at its first error.
///
/// # Panics
/// As [`run`].
#[must_use]
pub fn script(text: &str, patience: Duration) -> Ran {
    run(&["bash", "-euo", "pipefail", "-c", text], patience)
}
