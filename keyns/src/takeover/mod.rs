//! Taking over `/sbin/request-key` for a while, and giving it back.
//!
//! There is one `/sbin/request-key` per machine; the kernel starts it by that path in its own mount
//! namespace. For demonstrations and tests it is covered by a bind mount, which changes no file of a
//! package and ends with a reboot; the [`install`] module holds the permanent way.
//!
//! Where there is no program at all, a copy of `keyns-upcall` is put in its place instead, and taken
//! away again unless a package has put its own there meanwhile. A reboot leaves the copy there, so
//! what recalls it is kept where a reboot leaves that too.
//!
//! # What is where
//! | file | is |
//! |---|---|
//! | `/run/keyns/keyns-upcall` | the copy of the program that is shown |
//! | `/run/keyns/request-key.orig` | the program that was there, bound before it is covered |
//! | `/run/keyns/takeover.json` | that a mount was made, written before |
//! | `/var/lib/keyns/takeover.json` | that a copy was put in place, and which, written before |
//! | `/run/keyns/takeover.lock`, `takeover.users` | locks |
//! | `/sbin/request-key.keyns` | `keyns-request-key`, installed to serve the host instead of the original |
//! | `/sbin/request-key.keyns-spare` | the same, installed to serve it where there is no original |
//!
//! # Who gives back
//! Any number of processes may use the same take-over at once; the last one gives back. A process
//! that dies stops being a user, and the next one that wants to take over finds a take-over without
//! users and undoes it first; after a reboot there are no users either. While a mount lasts no
//! package that owns the program can be installed: renaming over a mount point fails with `EBUSY`.

mod install;
mod mounts;
mod place;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

pub use install::{HostChoice, install, is_own_chosen, uninstall};
use place::{
    Change, Result, copy_program, exists, failed, identity, make_directory, remove_file,
    unfinished, write_file,
};
pub use place::{Digest, Root, TakeOverError};

const COPY: &str = "keyns-upcall";
const ORIGINAL: &str = "request-key.orig";
const RECORD: &str = "takeover.json";
/// The name of a program before it gets its place; only the holder of the lock uses it.
const NEW: &str = ".request-key.keyns-new";

/// By which means `/sbin/request-key` leads to `keyns-upcall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// A bind mount covers the original program.
    Bind,
    /// There was no program; a copy of `keyns-upcall` was put there.
    Placed,
    /// Installed permanently.
    Installed,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    means: Means,
    program: PathBuf,
    /// What the program is replaced by.
    copy: Digest,
}

impl Record {
    /// Whether what was put in place is still there.
    fn is_in_place(&self) -> Result<bool> {
        Ok(Digest::of_any(&self.program)? == Some(self.copy))
    }
}

/// Where take-overs are recorded: a copy outlives a reboot, a mount does not.
fn record_files(root: &Root) -> [PathBuf; 2] {
    [root.lasting(RECORD), root.run(RECORD)]
}

/// Whether a take-over was made or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// This call made it.
    Now,
    /// It was in place already, with the same program.
    AlreadyOurs,
}

/// A take-over this process relies on; dropped, it is given back if nobody else does.
#[derive(Debug)]
pub struct TakeOver {
    root: Root,
    started: Started,
    /// Holds the users' lock; gone once given back.
    user: Option<File>,
}

/// Takes over `/sbin/request-key` with a copy of `upcall_binary`.
///
/// What an interrupted run left is undone first. Waits while another process is just taking over or
/// giving back.
///
/// # Errors
/// [`TakeOverError::Elsewhere`] outside the kernel's mount namespace, [`TakeOverError::Held`] when
/// another program is in place and in use, [`TakeOverError::Installed`] when `keyns-upcall` is
/// installed permanently.
pub fn take_over(upcall_binary: &Path) -> Result<TakeOver> {
    take_over_in(&Root::default(), upcall_binary)
}

/// Same below another root directory, where the kernel does not look.
///
/// # Errors
/// As [`take_over`].
pub fn take_over_in(root: &Root, upcall_binary: &Path) -> Result<TakeOver> {
    if root.is_system() {
        mounts::require_kernels_view()?;
    }
    let change = Change::begin(root)?;
    if install::is_installed(root)? {
        return Err(TakeOverError::Installed);
    }
    if change.is_unused()? {
        undo(root)?;
    } else {
        let ours = Digest::of(upcall_binary)?;
        if Digest::of_any(&root.run(COPY))? != Some(ours) || !leads_to_copy(root)? {
            return Err(TakeOverError::Held { by: change.users() });
        }
        let user = Some(change.join()?);
        return Ok(TakeOver {
            root: root.clone(),
            started: Started::AlreadyOurs,
            user,
        });
    }
    let user = change.join()?;
    if let Err(e) = cover(root, upcall_binary) {
        // The first failure is the one to tell; what is left is undone by the next run at the latest.
        let _ = undo(root);
        drop(user);
        let _ = change.end();
        return Err(e);
    }
    Ok(TakeOver {
        root: root.clone(),
        started: Started::Now,
        user: Some(user),
    })
}

impl TakeOver {
    /// Whether this process made it.
    #[must_use]
    pub const fn started(&self) -> Started {
        self.started
    }

    /// Stops relying on the take-over, and undoes it if nobody else does.
    ///
    /// Returns whether it was undone.
    ///
    /// # Errors
    /// The first thing that could not be undone; the next take-over or [`recover`] tries again.
    pub fn give_back(mut self) -> Result<bool> {
        self.end()
    }

    fn end(&mut self) -> Result<bool> {
        let Some(user) = self.user.take() else {
            return Ok(false);
        };
        let change = Change::begin(&self.root)?;
        drop(user);
        if !change.is_unused()? {
            return Ok(false);
        }
        undo(&self.root)?;
        change.end()?;
        Ok(true)
    }
}

impl Drop for TakeOver {
    fn drop(&mut self) {
        // Nobody can be told here; `status` shows it and the next take-over tries again.
        let _ = self.end();
    }
}

/// Undoes a take-over that no living process uses; `false` when there was none.
///
/// # Errors
/// [`TakeOverError::InUse`] while somebody uses it.
pub fn recover(root: &Root) -> Result<bool> {
    let change = Change::begin(root)?;
    if !change.is_unused()? {
        return Err(TakeOverError::InUse { by: change.users() });
    }
    let left = undo(root)?;
    change.end()?;
    Ok(left)
}

/// Which program serves requests of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostProgram {
    /// The one that was there before keyns.
    Original,
    /// `keyns-request-key`.
    Keyns,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The file that the kernel executes.
    pub program: PathBuf,
    /// By which means keyns is there, if it is.
    pub means: Option<Means>,
    /// Whether the program really is the copy of `keyns-upcall` that was put there.
    pub effective: bool,
    /// The program that was there before keyns, if there was one.
    pub original: Option<(PathBuf, Digest)>,
    /// The program that serves requests of the host. Without one `keyns-upcall` rejects them with
    /// `ENOKEY` for 60 s, where a kernel that finds no program gives the first caller `ENOENT`.
    pub host: Option<(HostProgram, PathBuf)>,
    /// Whether a living process uses a take-over; one without users was left behind.
    pub in_use: bool,
}

/// Looks at how things stand.
///
/// # Errors
/// [`TakeOverError::Io`].
pub fn status(root: &Root) -> Result<Status> {
    let change = Change::begin(root)?;
    let status = look(root, !change.is_unused()?);
    change.end()?;
    status
}

fn look(root: &Root, in_use: bool) -> Result<Status> {
    let program = root.program()?;
    let record = read_record(root)?;
    let installed = install::is_installed(root)?;
    let means = match &record {
        Some(record) => Some(record.means),
        None => installed.then_some(Means::Installed),
    };
    let effective = match &record {
        Some(record) => record.program == program && record.is_in_place()?,
        None => installed && install::is_effective(root)?,
    };
    let place = match means {
        Some(Means::Bind) => Some(root.run(ORIGINAL)),
        Some(Means::Placed) => None,
        Some(Means::Installed) => Some(install::diverted(&program)),
        None => Some(program.clone()),
    };
    let original = match place {
        Some(place) => Digest::of_any(&place)?.map(|digest| (place, digest)),
        None => None,
    };
    let host = host(root, means, original.as_ref())?;
    Ok(Status {
        program,
        means,
        effective,
        original,
        host,
        in_use,
    })
}

/// What `keyns-upcall` executes for the host: the first that is there.
fn host(
    root: &Root,
    means: Option<Means>,
    original: Option<&(PathBuf, Digest)>,
) -> Result<Option<(HostProgram, PathBuf)>> {
    let original = original.map(|(place, _)| (HostProgram::Original, place.clone()));
    if means != Some(Means::Installed) {
        return Ok(original);
    }
    let [chosen, spare] = install::own_places(root);
    Ok(if exists(&chosen)? {
        Some((HostProgram::Keyns, chosen))
    } else if original.is_some() {
        original
    } else if exists(&spare)? {
        Some((HostProgram::Keyns, spare))
    } else {
        None
    })
}

/// Puts the program in place; what was done can be undone from any point on.
fn cover(root: &Root, upcall_binary: &Path) -> Result<()> {
    let program = root.program()?;
    let copy = root.run(COPY);
    let fresh = root.run(".keyns-upcall.new");
    copy_program(upcall_binary, &fresh)?;
    fs::rename(&fresh, &copy).map_err(failed("rename", &copy))?;
    let digest = Digest::of(&copy)?;
    let record = |means| Record {
        means,
        program: program.clone(),
        copy: digest,
    };
    if !exists(&program)? {
        write_record(root, &record(Means::Placed))?;
        if place(root, &program)? {
            return verify(root, &program);
        }
        remove_records(root)?;
    }
    write_record(root, &record(Means::Bind))?;
    let original = root.run(ORIGINAL);
    File::create(&original).map_err(failed("make", &original))?;
    mounts::bind(&program, &original)?;
    mounts::bind_executable(&copy)?;
    mounts::bind(&copy, &program)?;
    verify(root, &program)
}

/// Puts a copy where there is no program; `false` when one has appeared meanwhile.
fn place(root: &Root, program: &Path) -> Result<bool> {
    let fresh = program.with_file_name(NEW);
    copy_program(&root.run(COPY), &fresh)?;
    match renameat_with(CWD, &fresh, CWD, program, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => {
            remove_file(&fresh)?;
            Ok(false)
        }
        Err(e) => Err(failed("rename", program)(e)),
    }
}

fn verify(root: &Root, program: &Path) -> Result<()> {
    if leads_to_copy(root)? {
        Ok(())
    } else {
        Err(TakeOverError::Ineffective {
            path: program.into(),
        })
    }
}

/// Whether the program has the content of the copy in `/run/keyns`.
fn leads_to_copy(root: &Root) -> Result<bool> {
    let copy = root.run(COPY);
    let program = root.program()?;
    if identity(&copy)?.is_some() && identity(&copy)? == identity(&program)? {
        return Ok(true);
    }
    let copied = Digest::of_any(&copy)?;
    Ok(copied.is_some() && copied == Digest::of_any(&program)?)
}

/// Undoes whatever a take-over, finished or not, has left; `false` when there was nothing.
fn undo(root: &Root) -> Result<bool> {
    let (copy, original) = (root.run(COPY), root.run(ORIGINAL));
    let record = read_record(root)?;
    let left = record.is_some() || exists(&copy)? || exists(&original)?;
    let program = match &record {
        Some(record) => record.program.clone(),
        None => root.program()?,
    };
    mounts::unbind(&program, COPY)?;
    if let Some(record) = &record
        && record.means == Means::Placed
        && record.is_in_place()?
    {
        remove_file(&program)?;
    }
    remove_file(&program.with_file_name(NEW))?;
    mounts::unbind(&copy, COPY)?;
    // Nobody else has business there; where a mount covered the program, it shows another name.
    mounts::unbind_all(&original)?;
    for file in [&original, &root.run(".keyns-upcall.new"), &copy] {
        remove_file(file)?;
    }
    for file in record_files(root).iter().chain([&root.state()]) {
        remove_file(&unfinished(file))?;
    }
    remove_records(root)?;
    Ok(left)
}

fn write_record(root: &Root, record: &Record) -> Result<()> {
    let [lasting, passing] = record_files(root);
    let path = match record.means {
        Means::Placed => lasting,
        Means::Bind | Means::Installed => passing,
    };
    if let Some(directory) = path.parent() {
        make_directory(directory)?;
    }
    let text =
        serde_json::to_vec(record).map_err(|e| failed("write", &path)(io::Error::from(e)))?;
    write_file(&path, &text)
}

/// The record, if there is one that can be read; a damaged one was never finished.
fn read_record(root: &Root) -> Result<Option<Record>> {
    for path in record_files(root) {
        match fs::read(&path) {
            Ok(text) => {
                if let Ok(record) = serde_json::from_slice(&text) {
                    return Ok(Some(record));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("read", &path)(e)),
        }
    }
    Ok(None)
}

/// Removes the records, and the directory of the lasting one if nothing else is in it.
fn remove_records(root: &Root) -> Result<()> {
    for path in record_files(root) {
        // Where nothing can be written, not even the removal of an absent file succeeds.
        if exists(&path)? {
            remove_file(&path)?;
        }
    }
    let _ = fs::remove_dir(root.lasting(""));
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
