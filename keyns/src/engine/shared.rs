//! The directory that all instances of a machine share, and its lock.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Names in the shared directory that belong to no instance and go with the last one.
const COMMON: [&str; 3] = ["ids", "live", "lock"];

/// Takes the machine-wide lock at `path`; closing the file unlocks it.
///
/// The holder before may have removed the file as the last thing it did; such a lock is nobody's,
/// and the next one is taken instead.
///
/// # Errors
/// `open(2)`, `flock(2)`.
pub fn lock(path: &Path) -> io::Result<File> {
    loop {
        if let Some(directory) = path.parent() {
            super::paths::make_directory(directory)?;
        }
        let file = match OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        flock(&file, FlockOperation::LockExclusive)?;
        let held = file.metadata()?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes the shared directory when no instance has anything in it.
///
/// # Errors
/// Those of the file system; a directory that is in use is none.
pub fn retire(directory: &Path) -> io::Result<()> {
    let path = directory.join("lock");
    let _held = lock(&path)?;
    for entry in fs::read_dir(directory)? {
        if !COMMON
            .iter()
            .any(|name| entry.as_ref().is_ok_and(|e| e.file_name() == *name))
        {
            return Ok(());
        }
    }
    for name in ["ids", "live"] {
        match fs::remove_dir(directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_file(&path)?;
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_goes_with_its_last_instance_only() {
        let top = tempfile::tempdir().unwrap();
        let shared = top.path().join("keyns");
        drop(lock(&shared.join("lock")).unwrap());
        fs::create_dir_all(shared.join("ids")).unwrap();
        fs::create_dir_all(shared.join("instance")).unwrap();
        retire(&shared).unwrap();
        assert!(shared.join("ids").exists());
        fs::remove_dir(shared.join("instance")).unwrap();
        retire(&shared).unwrap();
        assert!(!shared.exists());
    }

    #[test]
    fn a_lock_that_was_removed_meanwhile_is_not_taken() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("lock");
        let first = lock(&path).unwrap();
        let waiting = {
            let path = path.clone();
            std::thread::spawn(move || lock(&path).unwrap().metadata().unwrap().ino())
        };
        std::thread::sleep(std::time::Duration::from_millis(50));
        fs::remove_file(&path).unwrap();
        drop(first);
        assert_eq!(waiting.join().unwrap(), fs::metadata(&path).unwrap().ino());
    }
}
