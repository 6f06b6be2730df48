//! Pins: bind mounts that keep namespaces alive without a process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// Name of the one pin that belongs to no container.
pub const SEED: &str = "seed";

/// Mounts the private tmpfs that holds an instance's pins, unless it is there already.
///
/// Private, so that a pin made or removed here is not made or removed in the mount namespaces that
/// were cloned from the host's, where it could keep a namespace alive.
///
/// # Errors
/// `mount(2)`.
pub fn prepare(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if !is_mount_point(directory)? {
        rustix::mount::mount(
            "keyns",
            directory,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            c"mode=0700,size=16m",
        )?;
    }
    rustix::mount::mount_change(directory, MountPropagationFlags::PRIVATE)?;
    Ok(())
}

/// Unmounts the tmpfs and removes its directory.
///
/// # Errors
/// `umount(2)`: `EBUSY` while a pin of a container is left.
pub fn dissolve(directory: &Path) -> io::Result<()> {
    if directory.exists() {
        if is_mount_point(directory)? {
            if of_containers(directory)?.is_empty() {
                unpin(&directory.join(SEED))?;
            }
            match rustix::mount::unmount(directory, UnmountFlags::empty()) {
                // No pin is left, but somebody is just looking at one that was.
                Err(rustix::io::Errno::BUSY) if fs::read_dir(directory)?.next().is_none() => {
                    rustix::mount::unmount(directory, UnmountFlags::DETACH)?;
                }
                other => other?,
            }
        }
        fs::remove_dir(directory)?;
    }
    Ok(())
}

/// What there is in a directory of pins besides the seed.
///
/// # Errors
/// Those of reading the directory.
pub fn of_containers(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() != SEED {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether something is mounted at `path`.
///
/// # Errors
/// `stat(2)`, e.g. `ENOENT`.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

/// Pins the namespace behind `source` (a file in `/proc/PID/ns`) at `target`; returns its inode.
///
/// # Errors
/// `mount(2)`: `EINVAL` for a mount namespace that is older than the caller's.
pub fn pin(source: &Path, target: &Path) -> io::Result<u64> {
    fs::File::create_new(target)?;
    if let Err(error) = rustix::mount::mount_bind(source, target) {
        fs::remove_file(target)?;
        return Err(error.into());
    }
    Ok(fs::metadata(target)?.ino())
}

/// Removes one pin; one that is not there is no error.
///
/// # Errors
/// `umount(2)`, `unlink(2)`.
pub fn unpin(target: &Path) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(target) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes all pins of a container and their directory.
///
/// # Errors
/// Those of [`unpin`].
pub fn unpin_all(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        unpin(&entry?.path())?;
    }
    fs::remove_dir(directory)
}

/// Whether every pin of `expected` is in `directory` and is the namespace it was.
#[must_use]
pub fn intact(directory: &Path, expected: &BTreeMap<String, u64>) -> bool {
    expected
        .iter()
        .all(|(name, inode)| fs::metadata(directory.join(name)).is_ok_and(|m| m.ino() == *inode))
}
