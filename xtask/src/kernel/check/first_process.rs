//! Boots a kernel with `kernel/first-process`, which says what it sees.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::is_fault;
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

/// What the first process said, without what the kernel said on the same line.
pub(super) struct Look<'a>(Vec<&'a str>);

impl<'a> Look<'a> {
    pub(super) fn read(said: &'a str) -> Self {
        let lines = said.lines().filter_map(|line| line.split_once("look: "));
        Self(lines.map(|(_, look)| look.trim_end()).collect())
    }

    /// What went wrong, whatever it looked for.
    pub(super) fn faults(&self) -> Vec<String> {
        if !self.has("end") {
            return vec!["the first process did not come to its end".to_owned()];
        }
        self.all("kernel ")
            .filter(|line| is_fault(line))
            .map(|line| format!("the kernel said: {line}"))
            .collect()
    }

    pub(super) fn has(&self, line: &str) -> bool {
        self.0.contains(&line)
    }

    /// The rest of each line that begins so.
    pub(super) fn all(&self, beginning: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter_map(move |line| line.strip_prefix(beginning))
    }

    /// What a call gave.
    pub(super) fn answer(&self, kind: &str, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|line| {
            line.strip_prefix(kind)?
                .strip_prefix(' ')?
                .strip_prefix(name)?
                .strip_prefix(' ')
        })
    }
}
