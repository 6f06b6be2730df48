//! The reference: Debian's `request-key` with a rule that runs `keyctl instantiate`.
//!
//! The kernel itself has to start it, by the path `/sbin/request-key`. So the files of the packages
//! `keyutils` and `libkeyutils1` are put where the packages have them, unless they are installed,
//! and `/sbin/request-key` is taken over by keyns on top of that, as on any Debian. Whenever a
//! request is to be answered without keyns, the original is bound over the take-over for that
//! moment: the kernel then executes it directly, by the same path and the same arguments.
//!
//! All of it is undone at the end; what a killed run has left is undone by the next.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyns::mountinfo;
use keyns::takeover::{self, Root, TakeOver, TakeOverError, take_over};
use keyns_tests::bin_dir;
use keyns_tests::stock::{self, LIBRARY};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::denizen::PREFIX;

const PROGRAM: &str = "/sbin/request-key";
const RULES: &str = "/etc/request-key.conf";
const RECORD: &str = "/run/keyns-bench.json";
/// Like [`stock::DIRECTORY`] part of the path of what is bound, by which it is found again.
const SCRATCH: &str = "keyns-bench";
/// How long to wait for tests that use the take-over with another build.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What this run has put on the machine, written before it is put there.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    pid: u32,
    files: Vec<PathBuf>,
}

/// The stock program in place, and keyns on top of it. Undone when dropped.
pub(crate) struct Stock {
    original: PathBuf,
    /// Our own, copied to where everything is that is bound.
    request_key: PathBuf,
    taken: Option<TakeOver>,
}

impl Stock {
    /// Puts both in place; waits while tests use the path.
    ///
    /// # Errors
    /// When the packages cannot be had, or the path cannot be taken over.
    pub(crate) fn place() -> Result<Self, Failure> {
        recover()?;
        let package = stock::unpacked()?;
        let stock = Self {
            original: package.join("sbin/request-key"),
            request_key: own_request_key(&package)?,
            taken: None,
        };
        wait_until_free()?;
        place_files(&package)?;
        let mut stock = stock;
        stock.taken = Some(take()?);
        Ok(stock)
    }

    /// From here on the kernel executes the original directly.
    ///
    /// # Errors
    /// `mount(2)`.
    pub(crate) fn without_keyns(&self) -> io::Result<Direct> {
        bind(&self.original, Path::new(PROGRAM))?;
        Ok(Direct)
    }

    /// From here on the kernel executes `keyns-request-key` directly.
    ///
    /// # Errors
    /// `mount(2)`.
    pub(crate) fn with_request_key(&self) -> io::Result<Direct> {
        bind(&self.request_key, Path::new(PROGRAM))?;
        Ok(Direct)
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        drop(self.taken.take());
        if let Err(failure) = recover_own() {
            eprintln!("cannot remove {RECORD} and what it names: {failure}");
        }
    }
}

/// While this lives, requests do not pass through keyns-upcall.
pub(crate) struct Direct;

impl Drop for Direct {
    fn drop(&mut self) {
        if let Err(error) = umount2(PROGRAM, MntFlags::MNT_DETACH) {
            eprintln!("cannot uncover {PROGRAM}: {error}");
        }
    }
}

/// The rules of the package, and one more: what the original is measured with.
fn rules(package: &Path) -> Result<PathBuf, Failure> {
    let scratch = bin_dir().join("..").join(SCRATCH);
    fs::create_dir_all(&scratch)?;
    let file = scratch.canonicalize()?.join("request-key.conf");
    let mut rules = fs::read(inside(package, Path::new(RULES)))?;
    writeln!(
        rules,
        "create\tuser\t{PREFIX}*\t*\t\t/bin/keyctl instantiate %k %c %S"
    )?;
    fs::write(&file, rules)?;
    Ok(file)
}

fn own_request_key(package: &Path) -> Result<PathBuf, Failure> {
    let place = package.join("sbin/keyns-request-key");
    // By rename: a killed run may have left the old one bound.
    let new = place.with_extension("new");
    fs::copy(bin_dir().join("keyns-request-key"), &new)?;
    fs::rename(&new, &place)?;
    Ok(place)
}

fn place_files(package: &Path) -> Result<(), Failure> {
    let library = stock::library(package)?;
    let library = Path::new("/").join(library.strip_prefix(package)?);
    let rules = rules(package)?;
    let mut files = vec![PathBuf::from(PROGRAM), "/bin/keyctl".into(), library];
    files.retain(|file| !file.exists());
    let rules_absent = !Path::new(RULES).exists();
    if rules_absent {
        files.push(RULES.into());
    }
    let record = Record {
        pid: std::process::id(),
        files: files.clone(),
    };
    fs::write(RECORD, serde_json::to_vec(&record)?)?;
    for file in &files {
        if file == Path::new(RULES) {
            copy(&rules, file)?;
        } else {
            copy(&inside(package, file), file)?;
        }
    }
    if !rules_absent {
        bind(&rules, Path::new(RULES))?;
    }
    // As the packages do: a library that is not in the cache takes longer to be found.
    if files.iter().any(|file| file.ends_with(LIBRARY)) {
        run(&mut Command::new("ldconfig"))?;
    }
    Ok(())
}

/// The place of a file in the unpacked package.
fn inside(package: &Path, file: &Path) -> PathBuf {
    package.join(file.strip_prefix("/").unwrap_or(file))
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error| format!("cannot put {} in place: {error}", to.display());
    let mode = fs::metadata(from).map_err(failed)?.permissions().mode();
    let mut source = File::open(from).map_err(failed)?;
    // A package may have put its own there meanwhile.
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(to);
    io::copy(&mut source, &mut target.map_err(failed)?).map_err(failed)?;
    Ok(())
}

fn wait_until_free() -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = false;
    while takeover::status(&Root::default())?.in_use {
        if Instant::now() > deadline {
            return Err(format!("{PROGRAM} is still taken over by another process").into());
        }
        if !told {
            eprintln!("{PROGRAM} is taken over by another process; waiting for its end");
            told = true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // Of a killed process.
    takeover::recover(&Root::default())?;
    Ok(())
}

fn take() -> Result<TakeOver, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match take_over(&bin_dir().join("keyns-upcall")) {
            Err(TakeOverError::Held { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            other => return Ok(other?),
        }
    }
}

/// Undoes what a killed run has left.
fn recover() -> Result<(), Failure> {
    if let Some(record) = read_record()? {
        let running = fs::read(format!("/proc/{}/cmdline", record.pid)).unwrap_or_default();
        if String::from_utf8_lossy(&running).contains(SCRATCH) {
            return Err(format!("process {} measures already", record.pid).into());
        }
        recover_own()?;
    }
    Ok(())
}

fn recover_own() -> Result<(), Failure> {
    let Some(record) = read_record()? else {
        return Ok(());
    };
    unbind_all()?;
    // A take-over that somebody else uses is on top of the file; the last one who tries removes it.
    match takeover::recover(&Root::default()) {
        Ok(_) | Err(TakeOverError::InUse { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    for file in &record.files {
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(format!("cannot remove {}: {error}", file.display()).into());
            }
            _ => {}
        }
    }
    if record.files.iter().any(|file| file.ends_with(LIBRARY)) {
        run(&mut Command::new("ldconfig"))?;
    }
    fs::remove_file(RECORD)?;
    Ok(())
}

fn read_record() -> Result<Option<Record>, Failure> {
    match fs::read(RECORD) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes every mount of a file of ours.
fn unbind_all() -> Result<(), Failure> {
    let ours = |mount: &mountinfo::MountLine| {
        mount
            .root
            .components()
            .any(|part| part.as_os_str() == SCRATCH || part.as_os_str() == stock::DIRECTORY)
    };
    let mounts = fs::read("/proc/self/mountinfo")?;
    for mount in mountinfo::lines(&mounts).filter(ours) {
        umount2(&mount.mount_point, MntFlags::MNT_DETACH)?;
    }
    Ok(())
}

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let name = command.get_program().to_string_lossy().into_owned();
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
