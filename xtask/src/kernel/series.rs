//! What is made of the sources: the patches in their order, and the configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Fault, Machine, Variant};
use crate::root;

/// The patches and fragments of configuration of one variant.
#[derive(Debug)]
pub(super) struct Series {
    patches: Vec<PathBuf>,
    fragments: Vec<&'static str>,
}

impl Series {
    /// Reads `kernel/`.
    pub(super) fn read(variant: Variant) -> Result<Self, Fault> {
        let folder = root().join("kernel");
        let mut patches = Vec::new();
        if !variant.unpatched {
            let directory = folder.join("patches");
            let entries = fs::read_dir(&directory)
                .map_err(|error| format!("cannot read {}: {error}", directory.display()))?;
            patches = entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|end| end == "patch"))
                .collect();
            // Their names begin with their numbers.
            patches.sort();
        }
        // What finds faults differs: a process has one processor, and on a PC two are at work.
        let (machine, debug) = match variant.machine {
            Machine::Process => ("uml", "debug"),
            Machine::Pc => ("x86-64", "races"),
        };
        let mut names = vec!["lab", machine];
        if !variant.unpatched {
            names.push("keyns");
        }
        if variant.debug {
            names.push(debug);
        }
        Ok(Self {
            patches,
            fragments: names,
        })
    }

    pub(super) fn patches(&self) -> &[PathBuf] {
        &self.patches
    }

    /// All lines of the configuration.
    pub(super) fn configuration(&self) -> Result<String, Fault> {
        configuration(&self.fragments)
    }

    /// A name for what becomes of these sources with this series, the same only where all is the same.
    pub(super) fn key(&self, version: &str) -> Result<String, Fault> {
        let mut all = format!("{version}\n{}\n", self.configuration()?);
        for patch in &self.patches {
            all += &text(patch)?;
        }
        Ok(format!("{version}-{}", digest(all.as_bytes())?))
    }
}

/// The four digits that the name of a patch begins with.
pub(super) fn number(patch: &Path) -> &str {
    let name = patch.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.get(..4)).unwrap_or_default()
}

/// The lines of these parts of `kernel/config`.
pub(super) fn configuration(names: &[&str]) -> Result<String, Fault> {
    let folder = root().join("kernel/config");
    names
        .iter()
        .map(|name| text(&folder.join(format!("{name}.config"))))
        .collect()
}

pub(super) fn text(path: &Path) -> Result<String, Fault> {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The first half of SHA-256, in hex.
fn digest(bytes: &[u8]) -> Result<String, Fault> {
    let failed = |error: std::io::Error| format!("cannot execute sha256sum: {error}");
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        std::io::Write::write_all(&mut input, bytes).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.get(..32) {
        Some(half) if output.status.success() => Ok(half.to_owned()),
        _ => Err("sha256sum failed".to_owned()),
    }
}
