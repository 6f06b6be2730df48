//! Installing `keyns-upcall` behind `/sbin/request-key` for good, on Debian and its like.
//!
//! dpkg is told with a diversion that the file of the package `keyutils` now lives beside, as
//! `request-key.distrib`; where the package is not installed, its file will go there once it is.
//!
//! # Steps, and what an interruption after each leaves
//! 1. The state file names the program that is about to be installed. *Left: a note.*
//! 2. `dpkg-divert --no-rename`. *Left: the original in its place, and dpkg that would put a newer
//!    one beside it; requests are served by the original.*
//! 3. A hard link `request-key.distrib` to the original. *Left: one file with two names.*
//! 4. `keyns-request-key` gets the name that says when it is to serve requests of the host, and then
//!    loses the other one. *Left: a file that nobody executes.*
//! 5. One `rename(2)` of `keyns-upcall` over the original. *Done.*
//!
//! Removal goes the other way: the original is renamed over `keyns-upcall`, the second name goes, the
//! names of `keyns-request-key` go, the diversion goes, the state file goes. At no instant is there
//! no program, neither for the kernel nor, once there was one, for `keyns-upcall`. Every step looks at what
//! is there first, so that after an interruption at any point either direction can be run again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::place::{
    Change, Digest, Result, Root, TakeOverError, copy_program, exists, failed, identity,
    make_directory, remove_file, write_file,
};
use super::{NEW, mounts, undo};

const PACKAGE: &str = "keyns";

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Every program that was or is about to be put in place: what of them is found there is ours.
    programs: Vec<Digest>,
    /// The paths that were diverted, as dpkg knows them.
    diverted: Vec<PathBuf>,
}

/// Who serves requests of the host once `keyns-upcall` is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostChoice<'a> {
    /// The original; where there is none, the `keyns-request-key` given here, if one is.
    Original(Option<&'a Path>),
    /// This `keyns-request-key`, also where there is an original.
    Keyns(&'a Path),
}

/// The names of `keyns-request-key` beside the program; `keyns-upcall` tries them in this order, and
/// the original in between.
const OWN: [&str; 2] = ["request-key.keyns", "request-key.keyns-spare"];
/// The name of `keyns-request-key` before it gets its place.
const OWN_NEW: &str = ".request-key.keyns-own-new";

/// Where `keyns-request-key` is found as the choice of the administrator, and for want of another.
pub(super) fn own_places(root: &Root) -> [PathBuf; 2] {
    OWN.map(|name| root.path().join("sbin").join(name))
}

/// Whether `keyns-request-key` is installed to serve the host even where there is an original.
///
/// # Errors
/// [`TakeOverError::Io`].
pub fn is_own_chosen(root: &Root) -> Result<bool> {
    let [chosen, _] = own_places(root);
    exists(&chosen)
}

/// Gives `keyns-request-key` the name of the choice, and only then takes the other one from it.
fn place_own(root: &Root, choice: HostChoice<'_>) -> Result<()> {
    let [chosen, spare] = own_places(root);
    let (program, place, other) = match choice {
        HostChoice::Keyns(program) => (Some(program), chosen, spare),
        HostChoice::Original(program) => (program, spare, chosen),
    };
    match program {
        Some(program) => {
            let new = place.with_file_name(OWN_NEW);
            copy_program(program, &new)?;
            fs::rename(&new, &place).map_err(failed("rename", &place))?;
        }
        None => remove_file(&place)?,
    }
    remove_file(&other)
}

/// Removes every name of `keyns-request-key`.
fn remove_own(root: &Root) -> Result<()> {
    let [chosen, spare] = own_places(root);
    for file in [&chosen.with_file_name(OWN_NEW), &chosen, &spare] {
        remove_file(file)?;
    }
    Ok(())
}

/// Where the original lives while it is diverted.
pub(super) fn diverted(program: &Path) -> PathBuf {
    let mut name = program.as_os_str().to_owned();
    name.push(".distrib");
    name.into()
}

/// Whether an installation was at least begun.
pub(super) fn is_installed(root: &Root) -> Result<bool> {
    exists(&root.state())
}

/// Whether the program in place is one of ours.
pub(super) fn is_effective(root: &Root) -> Result<bool> {
    let state = read(root)?;
    let found = Digest::of_any(&root.program()?)?;
    Ok(found.is_some_and(|f| state.programs.contains(&f)))
}

/// Installs `upcall_binary`, or replaces an older one, and arranges who serves the host; repeats and
/// completes an interrupted run.
///
/// # Errors
/// [`TakeOverError::InUse`] while a take-over lasts, [`TakeOverError::Command`] when dpkg refuses.
pub fn install(root: &Root, upcall_binary: &Path, host: HostChoice<'_>) -> Result<()> {
    let change = begin(root)?;
    let program = root.program()?;
    let mut state = read(root)?;
    let fresh = Digest::of(upcall_binary)?;
    // Before anything is changed for a file that cannot be had.
    if let HostChoice::Keyns(own) | HostChoice::Original(Some(own)) = host {
        Digest::of(own)?;
    }
    if !state.programs.contains(&fresh) {
        state.programs.push(fresh);
    }
    if state.diverted.is_empty() {
        state.diverted = paths_of_package(root)?;
    }
    write(root, &state)?;
    for path in &state.diverted {
        divert(root, "--add", path)?;
    }
    let original = diverted(&program);
    let found = Digest::of_any(&program)?;
    let is_original = found.is_some_and(|f| !state.programs.contains(&f));
    // A file that is there already came with an upgrade after the diversion: it is the newer one.
    if is_original && !exists(&original)? {
        fs::hard_link(&program, &original).map_err(failed("link", &original))?;
    }
    place_own(root, host)?;
    let new = program.with_file_name(NEW);
    copy_program(upcall_binary, &new)?;
    fs::rename(&new, &program).map_err(failed("rename over", &program))?;
    state.programs = vec![fresh];
    write(root, &state)?;
    change.end()
}

/// Gives `/sbin/request-key` back; repeats and completes an interrupted run. Without an installation
/// it does nothing.
///
/// # Errors
/// As [`install`].
pub fn uninstall(root: &Root) -> Result<()> {
    let change = begin(root)?;
    if !is_installed(root)? {
        return change.end();
    }
    let program = root.program()?;
    let state = read(root)?;
    let original = diverted(&program);
    let ours = Digest::of_any(&program)?.is_some_and(|f| state.programs.contains(&f));
    if exists(&original)? {
        restore(&program, &original)?;
    } else if ours {
        remove_file(&program)?;
    }
    remove_file(&program.with_file_name(NEW))?;
    remove_own(root)?;
    for path in &state.diverted {
        divert(root, "--remove", path)?;
    }
    remove_file(&root.state())?;
    change.end()
}

/// Puts the diverted file, which dpkg holds for the program, into place.
///
/// If the program is not ours, the file is either a second name of it, from an interruption, or a
/// newer version that dpkg put there.
fn restore(program: &Path, original: &Path) -> Result<()> {
    if identity(program)? == identity(original)? {
        // rename(2) does nothing for two names of one file.
        return remove_file(original);
    }
    fs::rename(original, program).map_err(failed("rename over", program))
}

/// Locks, and makes sure that no take-over covers what is to be changed.
fn begin(root: &Root) -> Result<Change> {
    if root.is_system() {
        mounts::require_kernels_view()?;
    }
    let change = Change::begin(root)?;
    if !change.is_unused()? {
        return Err(TakeOverError::InUse { by: change.users() });
    }
    undo(root)?;
    Ok(change)
}

/// The names under which dpkg may hold the file. They need not be the path it really has: in
/// Debian 12 the package says `/sbin`, later ones `/usr/sbin`, and both are one directory. Without
/// the package both are diverted, because either may come.
fn paths_of_package(root: &Root) -> Result<Vec<PathBuf>> {
    const PATHS: [&str; 2] = ["/sbin/request-key", "/usr/sbin/request-key"];
    let mut owned = Vec::new();
    for path in PATHS {
        let mut query = dpkg(root, "dpkg-query");
        query.args(["--search", path]);
        if query
            .output()
            .map_err(failed("run", Path::new("dpkg-query")))?
            .status
            .success()
        {
            owned.push(PathBuf::from(path));
        }
    }
    if owned.is_empty() {
        owned = PATHS.map(PathBuf::from).to_vec();
    }
    Ok(owned)
}

/// Adds or removes one diversion; either is repeated without harm.
fn divert(root: &Root, action: &str, path: &Path) -> Result<()> {
    let mut command = dpkg(root, "dpkg-divert");
    command.args(["--quiet", "--package", PACKAGE, "--no-rename", "--divert"]);
    command.arg(diverted(path)).arg(action).arg(path);
    let output = command
        .output()
        .map_err(failed("run", Path::new("dpkg-divert")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(TakeOverError::Command {
        command: format!("dpkg-divert {action} {}", path.display()),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn dpkg(root: &Root, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C");
    if !root.is_system() {
        command.arg("--root").arg(root.path());
    }
    command
}

fn read(root: &Root) -> Result<State> {
    let path = root.state();
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|e| failed("read", &path)(e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(e) => Err(failed("read", &path)(e)),
    }
}

fn write(root: &Root, state: &State) -> Result<()> {
    let path = root.state();
    if let Some(directory) = path.parent() {
        make_directory(directory)?;
    }
    let text = serde_json::to_vec(state).map_err(|e| failed("write", &path)(e))?;
    write_file(&path, &text)
}
