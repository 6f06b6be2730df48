//! The programs of Debian's packages `keyutils` and `libkeyutils1`, to compare with.
//!
//! They are never installed: the packages are downloaded and unpacked below the directory of what
//! was built, once for all who want them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bin_dir;

/// Name of the directory below which the packages are; part of the path of each of their files.
pub const DIRECTORY: &str = "stock-keyutils";
/// The library that the programs load.
pub const LIBRARY: &str = "libkeyutils.so.1";

const PACKAGES: [&str; 2] = ["keyutils", "libkeyutils1"];

/// The directory with the content of both packages, as they would lie below `/`.
///
/// Downloads them where they are not there yet. Several processes may ask at once.
///
/// # Errors
/// When there is no `apt-get`, or nothing to download from.
pub fn unpacked() -> io::Result<PathBuf> {
    let scratch = bin_dir().join("..").join(DIRECTORY);
    fs::create_dir_all(&scratch)?;
    let package = scratch.join("unpacked");
    let lock = File::create(scratch.join("lock"))?;
    lock.lock()?;
    if !package.exists() {
        let new = scratch.join("unpacked.new");
        // Of a run that was killed.
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir(&new)?;
        download(&scratch)?;
        for entry in fs::read_dir(&scratch)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg").arg("-x").arg(&file).arg(&new))?;
            }
        }
        if !new.join("bin/keyctl").exists() {
            return Err(io::Error::other("the package keyutils holds no bin/keyctl"));
        }
        fs::rename(&new, &package)?;
    }
    package.canonicalize()
}

/// What has to be in the environment of a program of the packages, so that it loads its library.
///
/// It is named by its path: a search for it would be part of every measurement.
///
/// # Errors
/// When the package holds no library.
pub fn environment(package: &Path) -> io::Result<(&'static str, OsString)> {
    Ok(("LD_PRELOAD", library(package)?.into()))
}

/// Where a package has its library: below a directory named after the architecture.
///
/// # Errors
/// When it is not there.
pub fn library(package: &Path) -> io::Result<PathBuf> {
    for entry in fs::read_dir(package.join("lib"))? {
        let library = entry?.path().join(LIBRARY);
        if library.exists() {
            return Ok(library);
        }
    }
    Err(io::Error::other("libkeyutils1 holds no library"))
}

fn download(to: &Path) -> io::Result<()> {
    let download = || {
        run(Command::new("apt-get")
            .current_dir(to)
            .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
            .args(PACKAGES))
    };
    download().or_else(|_| {
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        download()
    })
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let name = command.get_program().to_string_lossy().into_owned();
    let text = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{name}: {}", text.trim())))
}
