//! The C programs of the package `keyutils`, to run beside ours. They are unpacked, never installed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use crate::bin_dir;

const SCRATCH: &str = "keyns-stock";

/// The unpacked packages `keyutils` and `libkeyutils1`, downloaded once per build directory.
#[derive(Clone, Debug)]
pub struct StockKeyutils(PathBuf);

impl StockKeyutils {
    /// A program of the packages, such as `sbin/request-key`.
    #[must_use]
    pub fn program(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// What `LD_LIBRARY_PATH` must be for the programs.
    ///
    /// # Errors
    /// When the package has no library where packages have them.
    pub fn library_path(&self) -> io::Result<PathBuf> {
        for entry in fs::read_dir(self.0.join("lib"))? {
            let directory = entry?.path();
            if directory.join("libkeyutils.so.1").exists() {
                return Ok(directory);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Downloads and unpacks the packages, unless somebody has done so already.
///
/// # Errors
/// What keeps apt or dpkg from it.
pub fn unpacked() -> io::Result<StockKeyutils> {
    let scratch = bin_dir().join("..").join(SCRATCH);
    fs::create_dir_all(&scratch)?;
    let scratch = scratch.canonicalize()?;
    let lock = File::create(scratch.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let package = scratch.join("unpacked");
    if !package.exists() {
        unpack(&scratch, &package)?;
    }
    Ok(StockKeyutils(package))
}

fn unpack(scratch: &Path, package: &Path) -> io::Result<()> {
    let download = || {
        run(Command::new("apt-get").current_dir(scratch).args([
            "download",
            "-qq",
            "-o",
            "APT::Sandbox::User=root",
            "keyutils",
            "libkeyutils1",
        ]))
    };
    if download().is_err() {
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        download()?;
    }
    // Under another name until it is complete.
    let half = scratch.join("half");
    fs::create_dir_all(&half)?;
    for entry in fs::read_dir(scratch)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&file).arg(&half))?;
        }
    }
    fs::rename(half, package)
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let name = command.get_program().to_string_lossy().into_owned();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{name}: {said}")))
}
