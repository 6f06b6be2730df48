//! Boots a kernel with `kernel/first-process` and has it say what it sees.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Fault, root};

/// In seconds. It takes one or two, and longer where much else is going on.
const PATIENCE: &str = "180";

/// What the kernel and its first process say, until it has switched itself off.
pub(super) fn boot(kernel: &Path, arguments: &[String]) -> Result<String, Fault> {
    let failed = |error: std::io::Error| format!("cannot boot {}: {error}", kernel.display());
    let work = tempfile::tempdir().map_err(failed)?;
    let init = work.path().join("init");
    fs::copy(root().join("kernel/first-process"), &init).map_err(failed)?;
    // A process namespace of its own, as in tools/lab.sh: nothing of the kernel outlives it.
    let output = Command::new("timeout")
        .args(["--signal=KILL", PATIENCE, "setpriv", "--pdeathsig", "KILL"])
        .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
        .arg("--mount-proc")
        .arg(kernel)
        .args(["root=/dev/root", "rootfstype=hostfs", "ro", "mem=128M"])
        .args(["con=null", "con0=null,fd:1", "panic=-1"])
        .arg(format!("uml_dir={}/", work.path().display()))
        .arg(format!("init={}", init.display()))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        let last: Vec<&str> = said.lines().rev().take(20).collect();
        Err(format!(
            "the kernel did not switch itself off ({}):\n{}",
            output.status,
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        ))
    }
}
