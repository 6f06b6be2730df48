//! What survives the daemon: one small file per object.
//!
//! A file is replaced by renaming a complete new one over it, so that a daemon killed at any
//! instant leaves the old or the new state of each object, never half of one. Nothing is synced to
//! disk: everything stored is about kernel objects, which end with the machine's boot, and a store of
//! another boot is emptied when it is opened.
//!
//! No payload is ever stored.

use std::cell::Cell;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Numbers handed out between two writes of a [`Counter`].
const BLOCK: u64 = 256;

/// A directory of objects.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Opens the store in `directory`, and empties it if it is of another boot.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let store = Self {
            directory: directory.to_owned(),
        };
        make(directory).map_err(at(directory))?;
        let boot = fs::read(BOOT_ID)?;
        let marker = directory.join("boot-id");
        match fs::read(&marker) {
            Ok(found) if found == boot => {}
            // Not taken for another boot: containers may live that the store is about.
            Ok(found) if found.len() != boot.len() => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "it is not a boot id");
                return Err(at(&marker)(error));
            }
            Ok(_) => {
                // Counters stay: a number is never used again.
                for entry in fs::read_dir(directory)? {
                    let path = entry?.path();
                    if path.is_dir() && path.file_name().is_some_and(|n| n != "counter") {
                        fs::remove_dir_all(path)?;
                    }
                }
                replace(&marker, &boot)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => replace(&marker, &boot)?,
            Err(e) => return Err(e),
        }
        Ok(store)
    }

    /// Removes a store in which nothing was stored yet.
    pub fn withdraw(&self) {
        let marker = self.directory.join("boot-id");
        let only_marker = fs::read_dir(&self.directory).is_ok_and(|entries| entries.count() == 1);
        if only_marker && fs::remove_file(marker).is_ok() {
            let _ = fs::remove_dir(&self.directory);
        }
    }

    /// Stores an object; `name` is a number or another plain file name.
    ///
    /// # Errors
    /// Those of the file system; the former state is kept then.
    pub fn put<T: Serialize>(&self, kind: &str, name: &str, object: &T) -> io::Result<()> {
        let directory = self.directory.join(kind);
        let bytes = serde_json::to_vec(object)?;
        let path = directory.join(name);
        match replace(&path, &bytes) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                make(&directory)?;
                replace(&path, &bytes)
            }
            other => other,
        }
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn delete(&self, kind: &str, name: &str) -> io::Result<()> {
        match fs::remove_file(self.directory.join(kind).join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// All objects of a kind with their names, in no order.
    ///
    /// # Errors
    /// Those of the file system, `InvalidData` for an object that is not a `T`.
    pub fn load<T: DeserializeOwned>(&self, kind: &str) -> io::Result<Vec<(String, T)>> {
        let entries = match fs::read_dir(self.directory.join(kind)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut objects = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') {
                // Left by a daemon that was killed while it wrote.
                fs::remove_file(entry.path())?;
                continue;
            }
            let object = fs::read(entry.path())
                .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
                .map_err(at(&entry.path()))?;
            objects.push((name, object));
        }
        Ok(objects)
    }

    /// A counter that never gives a number twice, not even across restarts and boots.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn counter(&self, name: &str) -> io::Result<Counter> {
        let path = self.directory.join("counter").join(name);
        let next = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is not a number", path.display()),
                )
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 1,
            Err(e) => return Err(e),
        };
        Ok(Counter {
            store: self.clone(),
            name: name.to_owned(),
            next: Cell::new(next),
            reserved: Cell::new(next),
        })
    }

    /// Removes the store with everything in it, and the directory of all stores with the last one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.directory)?;
        if let Some(all) = self.directory.parent() {
            // It is not empty while anybody else has something in it.
            let _ = fs::remove_dir(all);
        }
        Ok(())
    }
}

/// Names the file that an error is about.
fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// Hands out numbers from 1 up.
#[derive(Debug)]
pub struct Counter {
    store: Store,
    name: String,
    next: Cell<u64>,
    reserved: Cell<u64>,
}

impl Counter {
    /// The next number.
    ///
    /// # Errors
    /// Those of storing that a block of numbers is used up.
    pub fn next(&self) -> io::Result<u64> {
        let number = self.next.get();
        if number >= self.reserved.get() {
            let reserved = number + BLOCK;
            self.store.put("counter", &self.name, &reserved)?;
            self.reserved.set(reserved);
        }
        self.next.set(number + 1);
        Ok(number)
    }
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_what_was_put_last() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.put("thing", "1", &"old").unwrap();
        store.put("thing", "1", &"new").unwrap();
        store.put("thing", "2", &"other").unwrap();
        store.delete("thing", "2").unwrap();
        store.delete("thing", "2").unwrap();
        assert_eq!(
            store.load::<String>("thing").unwrap(),
            [("1".into(), "new".into())]
        );
        assert!(store.load::<u32>("thing").is_err());
    }

    #[test]
    fn what_a_killed_writer_left_is_ignored_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.put("thing", "1", &1).unwrap();
        let half = directory.path().join("thing/.2");
        fs::write(&half, "{").unwrap();
        assert_eq!(store.load::<u32>("thing").unwrap().len(), 1);
        assert!(!half.exists());
    }

    #[test]
    fn another_boot_empties_it_but_for_the_counters() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.put("thing", "1", &1).unwrap();
        let counter = store.counter("id").unwrap();
        assert_eq!((counter.next().unwrap(), counter.next().unwrap()), (1, 2));
        let marker = directory.path().join("boot-id");
        fs::write(&marker, "garbage").unwrap();
        assert!(Store::open(directory.path()).is_err());
        let another = fs::read(BOOT_ID).unwrap().len();
        fs::write(&marker, "0".repeat(another)).unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert!(store.load::<u32>("thing").unwrap().is_empty());
        assert!(store.counter("id").unwrap().next().unwrap() > 2);
    }
}
