//! The writer's side of the routing table that `keyns-upcall` reads.
//!
//! An entry says that a pinned namespace belongs to a container of this instance and which socket
//! answers for it. It must be published before the first process of the container runs, or a
//! request of that process would be taken for one of the host, and withdrawn after the last one is
//! gone and before the pin is, because only the pin keeps the inode from being used again. A daemon
//! that died leaves its entries: its containers live on, and their requests wait for the next one.
//!
//! Format and file names are those of [`keyns_sys::routing_entry`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use keyns_sys::routing_entry::{ANY_ID, CGROUPS, MAX_ENTRY, is_entry_name};
pub use keyns_sys::routing_entry::{
    CONTAINER_IDS, DIRECTORY, MalformedEntry, RoutingEntry, RoutingKey,
};

/// How often the directory may vanish while an entry is written.
const MOST_ATTEMPTS: u32 = 100;

/// Why the table could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The directory is not what `keyns-upcall` may rely on.
    #[error("{path} must be a directory of mode 0700 that belongs to root, but {found}")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The entry cannot be written in the format of the table.
    #[error("the entry for container {container} cannot be published: {flaw}")]
    Malformed {
        /// The container the entry is for.
        container: u64,
        /// The field that is wrong.
        flaw: MalformedEntry,
    },
    /// Another instance or container owns the entry.
    #[error("{path} belongs to another container")]
    Owned {
        /// The entry.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl RoutingError {
    /// Whether a file or directory was absent, as when somebody else has withdrawn the last entry.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RoutingError {
    let path = path.to_path_buf();
    move |source| RoutingError::Io {
        action,
        path,
        source,
    }
}

/// One file of the table as [`RoutingTable::entries`] found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name of the file.
    pub name: String,
    /// Its content; an entry that cannot be read still makes `keyns-upcall` reject.
    pub content: Result<RoutingEntry, MalformedEntry>,
}

/// A directory of routing entries.
#[derive(Debug)]
pub struct RoutingTable {
    directory: PathBuf,
}

impl RoutingTable {
    /// Opens the table. Its directory (0700) and the parent (0755) are made with the first entry and
    /// removed with the last, so that requests of the host cost less while no container lives.
    ///
    /// `keyns-upcall` reads [`DIRECTORY`] and no other; elsewhere the table is of use to tests only.
    ///
    /// # Errors
    /// [`RoutingError::Unsafe`] when the directory is a symbolic link, of another owner or mode.
    pub fn open(directory: &Path) -> Result<Self, RoutingError> {
        let table = Self {
            directory: directory.into(),
        };
        match table.check() {
            Err(e) if !e.is_gone() => Err(e),
            _ => Ok(table),
        }
    }

    fn check(&self) -> Result<(), RoutingError> {
        let path = &self.directory;
        let found = fs::symlink_metadata(path).map_err(failed("look at", path))?;
        let own = rustix::process::geteuid().as_raw();
        let flaw = if !found.is_dir() {
            "it is no directory".to_owned()
        } else if found.uid() != own {
            format!("it belongs to uid {}", found.uid())
        } else if found.mode() & 0o777 != 0o700 {
            format!("its mode is {:04o}", found.mode() & 0o7777)
        } else {
            return Ok(());
        };
        Err(RoutingError::Unsafe {
            path: path.into(),
            found: flaw,
        })
    }

    /// Makes the directories an entry needs.
    fn make(&self, key: &RoutingKey) -> Result<(), RoutingError> {
        if let Some(parent) = self.directory.parent() {
            let mut builder = DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .map_err(failed("make", parent))?;
        }
        make_private(&self.directory)?;
        self.check()?;
        key.directory()
            .map_or(Ok(()), |within| make_private(&self.directory.join(within)))
    }

    /// Publishes an entry; publishing the same again changes nothing.
    ///
    /// # Errors
    /// [`RoutingError::Owned`] when the name is taken by another container,
    /// [`RoutingError::Malformed`] when a field does not fit the format.
    pub fn publish(&self, key: &RoutingKey, entry: &RoutingEntry) -> Result<(), RoutingError> {
        let path = self.directory.join(key.file_name());
        if self.is_foreign(&path, entry)? {
            return Err(RoutingError::Owned { path });
        }
        self.claim(key, entry)
    }

    /// Publishes an entry for a namespace that the caller has pinned, over whatever is there.
    ///
    /// The pin proves that the inode is this container's: an entry of another one was left by an
    /// instance that lost its pins before its entries.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), but never [`RoutingError::Owned`].
    pub fn claim(&self, key: &RoutingKey, entry: &RoutingEntry) -> Result<(), RoutingError> {
        let malformed = |flaw| RoutingError::Malformed {
            container: entry.container,
            flaw,
        };
        let named = match key {
            RoutingKey::Cgroup(path) => Some(path),
            RoutingKey::Pid(_) | RoutingKey::User(_) | RoutingKey::AnyId { .. } => None,
        };
        if named != entry.cgroup.as_ref() {
            return Err(malformed(MalformedEntry("cgroup")));
        }
        let text = entry.encode().map_err(malformed)?;
        let path = self.directory.join(key.file_name());
        let temporary = self.directory.join(temporary_name());
        let mut attempts = 0;
        loop {
            let written = match self.make(key) {
                Ok(()) => write_new(&temporary, &text)
                    .and_then(|()| fs::rename(&temporary, &path))
                    .map_err(failed("write", &path)),
                Err(e) => Err(e),
            };
            let Err(error) = written else { return Ok(()) };
            // Left behind it would only be an ignored name.
            let _ = fs::remove_file(&temporary);
            attempts += 1;
            // Somebody else may withdraw the last entry, and the directory with it, at any moment.
            if !error.is_gone() || attempts == MOST_ATTEMPTS {
                return Err(error);
            }
        }
    }

    /// Removes the entry of one namespace if it belongs to this container; absent is fine.
    ///
    /// # Errors
    /// [`RoutingError::Owned`] when it is another container's.
    pub fn withdraw(&self, key: &RoutingKey, entry: &RoutingEntry) -> Result<(), RoutingError> {
        let path = self.directory.join(key.file_name());
        if self.is_foreign(&path, entry)? {
            return Err(RoutingError::Owned { path });
        }
        remove(&path)?;
        self.prune();
        Ok(())
    }

    /// Removes every entry of one container and returns how many there were.
    ///
    /// # Errors
    /// The first failure; what was removed before stays removed.
    pub fn withdraw_container(
        &self,
        instance: &str,
        container: u64,
    ) -> Result<usize, RoutingError> {
        self.withdraw_where(|e| e.instance == instance && e.container == container)
    }

    /// Removes every entry of an instance, whose containers are known to be gone.
    ///
    /// # Errors
    /// As [`withdraw_container`](Self::withdraw_container).
    pub fn withdraw_instance(&self, instance: &str) -> Result<usize, RoutingError> {
        self.withdraw_where(|e| e.instance == instance)
    }

    fn withdraw_where(
        &self,
        is_meant: impl Fn(&RoutingEntry) -> bool,
    ) -> Result<usize, RoutingError> {
        let mut count = 0;
        for listed in self.entries()? {
            if listed.content.as_ref().is_ok_and(&is_meant) {
                remove(&self.directory.join(&listed.name))?;
                count += 1;
            }
        }
        self.prune();
        Ok(count)
    }

    /// Removes the directories that have no entry.
    fn prune(&self) {
        // Not empty is the usual case, and absent is as well.
        for within in [CGROUPS, ANY_ID] {
            let _ = fs::remove_dir(self.directory.join(within));
        }
        let _ = fs::remove_dir(&self.directory);
    }

    /// Removes the directory and its parent if they are empty.
    ///
    /// Publishing makes them again, so that an instance that ends does not hurt one that lives.
    pub fn remove_if_empty(&self) {
        self.prune();
        if let Some(parent) = self.directory.parent() {
            let _ = fs::remove_dir(parent);
        }
    }

    /// All entries, sorted by name; none when the directory is gone.
    ///
    /// # Errors
    /// [`RoutingError::Io`]; an entry that vanishes meanwhile is left out.
    pub fn entries(&self) -> Result<Vec<Listed>, RoutingError> {
        let mut listed = Vec::new();
        for within in ["", CGROUPS, ANY_ID] {
            let directory = self.directory.join(within);
            let found = match fs::read_dir(&directory) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed("read", &directory))?,
            };
            for found in found {
                let found = found.map_err(failed("read", &directory))?;
                let Ok(path) = found
                    .path()
                    .strip_prefix(&self.directory)
                    .map(Path::to_owned)
                else {
                    continue;
                };
                let Some(name) = path.to_str().map(str::to_owned) else {
                    continue;
                };
                if !is_entry_name(&name) {
                    continue;
                }
                if let Some(content) = read(&found.path())? {
                    listed.push(Listed { name, content });
                }
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn is_foreign(&self, path: &Path, entry: &RoutingEntry) -> Result<bool, RoutingError> {
        Ok(match read(path)? {
            Some(Ok(there)) => {
                there.instance != entry.instance || there.container != entry.container
            }
            // Whoever may write here may also mend a file that nobody can read.
            Some(Err(_)) | None => false,
        })
    }
}

type Content = Result<RoutingEntry, MalformedEntry>;

fn read(path: &Path) -> Result<Option<Content>, RoutingError> {
    match fs::read(path) {
        Ok(text) if text.len() > MAX_ENTRY => Ok(Some(Err(MalformedEntry("size")))),
        Ok(text) => Ok(Some(RoutingEntry::decode(&text))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

fn make_private(directory: &Path) -> Result<(), RoutingError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed("make", directory)(e)),
        _ => Ok(()),
    }
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)
}

fn remove(path: &Path) -> Result<(), RoutingError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Unique among threads and living processes; begins with a dot, so that no reader looks at it.
fn temporary_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(".{}-{count}.new", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn entry(instance: &str, container: u64) -> RoutingEntry {
        let socket = format!("/run/keyns/{instance}/upcall.sock").into();
        RoutingEntry {
            instance: instance.into(),
            container,
            socket,
            cgroup: None,
        }
    }

    fn table() -> (tempfile::TempDir, RoutingTable) {
        let dir = tempfile::tempdir().unwrap();
        let table = RoutingTable::open(&dir.path().join("run/live")).unwrap();
        (dir, table)
    }

    #[test]
    fn what_is_published_is_listed_until_it_is_withdrawn() {
        let (_dir, table) = table();
        let key = RoutingKey::Pid(4_026_532_000);
        table.publish(&key, &entry("a", 1)).unwrap();
        table.publish(&key, &entry("a", 1)).unwrap();
        let listed = table.entries().unwrap();
        let expected = Listed {
            name: "pid-4026532000".into(),
            content: Ok(entry("a", 1)),
        };
        assert_eq!(listed, [expected]);
        table.withdraw(&key, &entry("a", 1)).unwrap();
        table.withdraw(&key, &entry("a", 1)).unwrap();
        assert_eq!(table.entries().unwrap(), []);
    }

    #[test]
    fn an_empty_table_can_be_removed_and_comes_back_when_needed() {
        let (_dir, table) = table();
        let key = RoutingKey::Pid(1);
        table.publish(&key, &entry("a", 1)).unwrap();
        table.remove_if_empty();
        assert_eq!(table.entries().unwrap().len(), 1);
        table.withdraw(&key, &entry("a", 1)).unwrap();
        table.remove_if_empty();
        assert!(!table.directory.exists());
        assert_eq!(table.entries().unwrap(), []);
        table.publish(&key, &entry("a", 1)).unwrap();
        assert_eq!(table.entries().unwrap().len(), 1);
    }

    #[test]
    fn the_entry_of_another_container_is_neither_replaced_nor_removed() {
        let (_dir, table) = table();
        let key = RoutingKey::User(7);
        table.publish(&key, &entry("a", 1)).unwrap();
        for other in [entry("a", 2), entry("b", 1)] {
            assert!(matches!(
                table.publish(&key, &other),
                Err(RoutingError::Owned { .. })
            ));
            assert!(matches!(
                table.withdraw(&key, &other),
                Err(RoutingError::Owned { .. })
            ));
        }
        assert_eq!(table.entries().unwrap().len(), 1);
    }

    #[test]
    fn the_entries_of_an_instance_can_be_removed_together() {
        let (_dir, table) = table();
        for n in 0..4 {
            table.publish(&RoutingKey::Pid(n), &entry("a", n)).unwrap();
            table.publish(&RoutingKey::User(n), &entry("a", n)).unwrap();
        }
        table.publish(&RoutingKey::Pid(9), &entry("b", 1)).unwrap();
        assert_eq!(table.withdraw_container("a", 1).unwrap(), 2);
        assert_eq!(table.withdraw_instance("a").unwrap(), 6);
        assert_eq!(table.entries().unwrap().len(), 1);
    }

    #[test]
    fn publishing_and_withdrawing_side_by_side_lose_nothing() {
        let (_dir, table) = table();
        std::thread::scope(|scope| {
            for n in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    let path = format!("/keyns/{n}").into_bytes();
                    let entry = RoutingEntry {
                        cgroup: Some(path.clone()),
                        ..entry("a", n)
                    };
                    let key = RoutingKey::Cgroup(path);
                    for _ in 0..200 {
                        // As an instance that starts while another one's last container ends.
                        RoutingTable::open(&table.directory).unwrap();
                        table.publish(&key, &entry).unwrap();
                        assert!(table.directory.join(key.file_name()).exists());
                        table.withdraw(&key, &entry).unwrap();
                    }
                });
            }
        });
        assert!(!table.directory.exists());
    }

    #[test]
    fn a_pinned_namespace_takes_the_place_of_a_stale_entry() {
        let (_dir, table) = table();
        let key = RoutingKey::Pid(7);
        table.publish(&key, &entry("dead", 1)).unwrap();
        table.claim(&key, &entry("a", 2)).unwrap();
        assert_eq!(table.entries().unwrap()[0].content, Ok(entry("a", 2)));
    }

    #[test]
    fn a_cgroup_entry_names_the_cgroup_it_is_filed_under() {
        let (_dir, table) = table();
        let key = RoutingKey::Cgroup(b"/keyns/1".to_vec());
        assert!(table.publish(&key, &entry("a", 1)).is_err());
        let named = RoutingEntry {
            cgroup: Some(b"/keyns/1".to_vec()),
            ..entry("a", 1)
        };
        table.publish(&key, &named).unwrap();
        assert!(table.publish(&RoutingKey::Pid(1), &named).is_err());
        assert_eq!(table.entries().unwrap()[0].name, key.file_name());
        table.withdraw(&key, &named).unwrap();
        assert!(!table.directory.exists());
    }

    #[test]
    fn damaged_entries_are_listed_as_such_and_other_files_are_not() {
        let (_dir, table) = table();
        fs::create_dir_all(&table.directory).unwrap();
        fs::write(table.directory.join("pid-1"), "rubbish").unwrap();
        fs::write(table.directory.join("notes"), "").unwrap();
        fs::write(table.directory.join(".1-1.new"), "").unwrap();
        let listed = table.entries().unwrap();
        assert_eq!(listed.len(), 1);
        assert!(listed[0].content.is_err());
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            RoutingTable::open(dir.path()),
            Err(RoutingError::Unsafe { .. })
        ));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(matches!(
            RoutingTable::open(&link),
            Err(RoutingError::Unsafe { .. })
        ));
    }

    #[test]
    fn a_container_with_an_unusable_socket_is_not_published() {
        let (_dir, table) = table();
        let long = format!("/{}", "x".repeat(107)).into();
        let bad = RoutingEntry {
            socket: long,
            ..entry("a", 1)
        };
        let refused = table.publish(&RoutingKey::Pid(1), &bad);
        assert!(matches!(
            refused,
            Err(RoutingError::Malformed { container: 1, .. })
        ));
    }
}
