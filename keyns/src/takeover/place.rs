//! Files around `/sbin/request-key`, and the locks of those who change them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::engine::shared;

/// What went wrong, on which file.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// A mount made here would not be seen where the kernel starts its helpers.
    #[error(
        "the kernel starts /sbin/request-key in another mount namespace or root directory than \
         this process has, so that it cannot be taken over from here"
    )]
    Elsewhere,
    /// Somebody else's program is in place, and in use.
    #[error("/sbin/request-key is already taken over with another keyns-upcall, by {by}")]
    Held {
        /// Processes that use it, as far as they are known.
        by: String,
    },
    /// A take-over is in use, which a permanent change must wait for.
    #[error("/sbin/request-key is taken over at the moment, by {by}")]
    InUse {
        /// Processes that use it, as far as they are known.
        by: String,
    },
    /// `keyns-upcall` is installed permanently; there is nothing to take over.
    #[error("keyns-upcall is installed behind /sbin/request-key permanently")]
    Installed,
    /// The mount was made and `/sbin/request-key` still leads to something else.
    #[error("{path} does not lead to keyns-upcall, although it was put there")]
    Ineffective {
        /// The program.
        path: PathBuf,
    },
    /// A program of the system failed.
    #[error("{command} failed: {output}")]
    Command {
        /// The command line.
        command: String,
        /// What it said.
        output: String,
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

pub(super) type Result<T> = std::result::Result<T, TakeOverError>;

pub(super) fn failed<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> TakeOverError {
    let path = path.to_path_buf();
    move |source| TakeOverError::Io {
        action,
        path,
        source: source.into(),
    }
}

/// The directory that stands for `/`; another one than `/` only in tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self("/".into())
    }
}

impl Root {
    /// Uses another directory.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn is_system(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// A file of `/run/keyns`.
    pub(super) fn run(&self, name: &str) -> PathBuf {
        self.0.join("run/keyns").join(name)
    }

    /// A file of `/var/lib/keyns`, which a reboot does not lose.
    pub(super) fn lasting(&self, name: &str) -> PathBuf {
        self.0.join("var/lib/keyns").join(name)
    }

    /// What the permanent installation remembers.
    pub(super) fn state(&self) -> PathBuf {
        self.lasting("request-key.json")
    }

    /// The file the kernel executes as `/sbin/request-key`, links resolved; it need not exist.
    ///
    /// # Errors
    /// `/sbin` does not exist, or the name is a link that leads nowhere.
    pub fn program(&self) -> Result<PathBuf> {
        let directory = self.0.join("sbin");
        let directory = fs::canonicalize(&directory).map_err(failed("resolve", &directory))?;
        let program = directory.join("request-key");
        match fs::canonicalize(&program) {
            Ok(resolved) => Ok(resolved),
            Err(e)
                if e.kind() == io::ErrorKind::NotFound
                    && fs::symlink_metadata(&program).is_err() =>
            {
                Ok(program)
            }
            Err(e) => Err(failed("resolve", &program)(e)),
        }
    }
}

/// Size and FNV-1a of a file: enough to recognise it again, not to trust it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    size: u64,
    fnv1a: u64,
}

impl Digest {
    /// Reads the whole file.
    ///
    /// # Errors
    /// [`TakeOverError::Io`].
    pub fn of(path: &Path) -> Result<Self> {
        let mut content = Vec::new();
        let read = File::open(path).and_then(|mut f| f.read_to_end(&mut content));
        read.map_err(failed("read", path))?;
        let fnv1a = content
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Ok(Self {
            size: content.len() as u64,
            fnv1a,
        })
    }

    /// Same, `None` where there is no file.
    pub(super) fn of_any(path: &Path) -> Result<Option<Self>> {
        if exists(path)? {
            Self::of(path).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x} ({} bytes)", self.fnv1a, self.size)
    }
}

/// Device and inode, if there is such a file; links are followed.
pub(super) fn identity(path: &Path) -> Result<Option<(u64, u64)>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("look at", path)(e)),
    }
}

pub(super) fn exists(path: &Path) -> Result<bool> {
    identity(path).map(|found| found.is_some())
}

/// Makes the directory and those above it, 0755.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(failed("make", path))
}

/// Copies a program as a whole: readers see the former file or the new one. It is on disk before it
/// gets its name.
pub(super) fn copy_program(from: &Path, temporary: &Path) -> Result<()> {
    remove_file(temporary)?;
    let copy = || -> io::Result<()> {
        let mut source = File::open(from)?;
        let mut options = OpenOptions::new();
        let mut target = options
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(temporary)?;
        io::copy(&mut source, &mut target)?;
        // The mode above is subject to the umask.
        target.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        target.sync_all()
    };
    copy().map_err(|e| {
        let _ = fs::remove_file(temporary);
        failed("copy", from)(e)
    })
}

/// Writes a small file as a whole. Once it returns, the disk has it under its name.
pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = unfinished(path);
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(failed("write", path))
}

/// What an interrupted [`write_file`] has left, at most.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Removes a file; absent is fine.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

/// The two locks. Both end with the process, however it ends.
///
/// `takeover.lock` is held exclusively while anything is changed. `takeover.users` is held shared
/// by everybody who relies on a take-over; whoever gets it exclusively knows that what is in place
/// was left behind.
#[derive(Debug)]
pub(super) struct Change {
    lock: PathBuf,
    _held: File,
    users: PathBuf,
    /// Where lasting records are, other daemons' states among them.
    lasting: PathBuf,
}

impl Change {
    /// Waits until nobody else changes anything.
    pub(super) fn begin(root: &Root) -> Result<Self> {
        let lock = root.run("takeover.lock");
        loop {
            make_directory(&root.run(""))?;
            let held = match open_lock(&lock) {
                Err(TakeOverError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    continue;
                }
                other => other?,
            };
            flock(&held, FlockOperation::LockExclusive).map_err(failed("lock", &lock))?;
            let found = held.metadata().map_err(failed("look at", &lock))?;
            // The holder before may have removed the file at its end; then the lock is nobody's.
            if identity(&lock)? == Some((found.dev(), found.ino())) {
                return Ok(Self {
                    lock,
                    _held: held,
                    users: root.run("takeover.users"),
                    lasting: root.0.join("var/lib/keyns"),
                });
            }
        }
    }

    /// Ends the change; if nobody relies on a take-over, the locks go, and empty directories.
    pub(super) fn end(self) -> Result<()> {
        if !self.is_unused()? {
            return Ok(());
        }
        remove_file(&self.users)?;
        remove_file(&self.lock)?;
        // Not empty: a daemon uses it too. One that has ended meanwhile left what all share.
        if let Some(shared) = self.lock.parent() {
            let _ = shared::retire(shared);
        }
        let _ = fs::remove_dir(&self.lasting);
        Ok(())
    }

    /// Whether nobody relies on a take-over.
    pub(super) fn is_unused(&self) -> Result<bool> {
        let file = open_lock(&self.users)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(e) => Err(failed("lock", &self.users)(e)),
        }
    }

    /// Becomes a user until the file is dropped.
    pub(super) fn join(&self) -> Result<File> {
        let file = open_lock(&self.users)?;
        flock(&file, FlockOperation::LockShared).map_err(failed("lock", &self.users))?;
        Ok(file)
    }

    /// The processes that hold the users' lock, for messages.
    pub(super) fn users(&self) -> String {
        let found = identity(&self.users).ok().flatten().map(|(_, inode)| inode);
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let holders: Vec<String> = locks
            .lines()
            .filter_map(|line| {
                // `1: FLOCK ADVISORY READ 123 fe:00:456 0 EOF`
                let mut columns = line.split_ascii_whitespace();
                let pid = columns.nth(4)?;
                let inode = columns.next()?.rsplit(':').next()?.parse().ok();
                (inode == found).then(|| format!("process {pid}"))
            })
            .collect();
        if holders.is_empty() {
            "an unknown process".into()
        } else {
            holders.join(", ")
        }
    }
}

fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options.open(path).map_err(failed("open", path))
}
