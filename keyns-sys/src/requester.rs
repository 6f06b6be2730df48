//! Facts about a requesting thread, read race-free from kernel objects.
//!
//! A [`ThreadDir`] is a descriptor on `/proc/<tid>`. It stays bound to that very thread: when the
//! thread is gone every look-up through it fails with `ESRCH` or `ENOENT`, whoever has the number
//! by then.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::call::check;

/// Flags for a directory that is not a link, to look names up in.
pub const DIRECTORY_ITSELF: i32 = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;

/// A descriptor on `/proc/<tid>`.
#[derive(Debug)]
pub struct ThreadDir(OwnedFd);

/// The namespaces of a thread that can be told apart by inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NsKind {
    /// PID namespace of the thread itself, not of its children.
    Pid,
    /// User namespace of its credentials.
    User,
    /// Network namespace.
    Net,
}

impl NsKind {
    /// The inode of the initial one (`PROC_PID_INIT_INO` and `PROC_USER_INIT_INO`), the same since
    /// Linux 3.8; network namespaces have none of the kind.
    #[must_use]
    pub const fn initial_inode(self) -> Option<u64> {
        match self {
            Self::Pid => Some(0xEFFF_FFFC),
            Self::User => Some(0xEFFF_FFFD),
            Self::Net => None,
        }
    }

    const fn link(self) -> &'static CStr {
        match self {
            Self::Pid => c"ns/pid",
            Self::User => c"ns/user",
            Self::Net => c"ns/net",
        }
    }
}

/// A descriptor on a namespace, which keeps its inode from being used again.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl ThreadDir {
    /// Opens `/proc/<tid>`, which the kernel resolves for thread ids too.
    ///
    /// # Errors
    /// `ENOENT` when there is no such thread.
    pub fn open(tid: u32) -> io::Result<Self> {
        let path = CString::new(format!("/proc/{tid}"))?;
        open_at(None, &path, libc::O_PATH | libc::O_DIRECTORY).map(Self)
    }

    /// The whole content of one file, cut at `most` bytes.
    ///
    /// # Errors
    /// `ESRCH` or `ENOENT` when the thread is gone.
    pub fn read(&self, name: &CStr, most: usize) -> io::Result<Vec<u8>> {
        let file = open_at(Some(self.0.as_fd()), name, libc::O_RDONLY)?;
        read_all(file.as_fd(), most)
    }

    /// The target of a symbolic link; at most 4096 bytes, longer ones are cut.
    ///
    /// # Errors
    /// `ENOENT` for the `exe` of a kernel thread, `ESRCH` when the thread is gone.
    pub fn read_link(&self, name: &CStr) -> io::Result<Vec<u8>> {
        read_link_at(self.0.as_fd(), name, 4096)
    }

    /// The inode of a namespace, without opening it: `pid:[4026531836]`.
    ///
    /// # Errors
    /// As for [`read_link`](Self::read_link); `InvalidData` if the kernel's format is another.
    pub fn namespace_inode(&self, kind: NsKind) -> io::Result<u64> {
        namespace_number(&read_link_at(self.0.as_fd(), kind.link(), 64)?)
    }

    /// Opens a namespace.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn namespace(&self, kind: NsKind) -> io::Result<Namespace> {
        open_at(Some(self.0.as_fd()), kind.link(), libc::O_RDONLY).map(Namespace)
    }
}

impl AsFd for ThreadDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Namespace {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Namespace {
    /// The inode that names this namespace as long as anything holds it.
    ///
    /// # Errors
    /// `fstat(2)`; none is expected.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(status(self.0.as_fd())?.inode)
    }

    /// The parent of a PID or user namespace (`NS_GET_PARENT`, ioctl_nsfs(2)).
    ///
    /// # Errors
    /// `EPERM` for the initial namespace and for parents outside the caller's own scope.
    pub fn parent(&self) -> io::Result<Self> {
        const NS_GET_PARENT: libc::c_ulong = 0xb702;
        // Safety: the request takes no argument and returns a new descriptor or −1.
        let fd =
            check(unsafe { libc::syscall(libc::SYS_ioctl, self.0.as_raw_fd(), NS_GET_PARENT, 0) })?;
        // Safety: the descriptor is new and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }
}

/// The inode of one of the calling thread's own namespaces.
///
/// # Errors
/// `ENOENT` without `/proc`.
pub fn own_namespace_inode(kind: NsKind) -> io::Result<u64> {
    let own = open_at(None, c"/proc/thread-self", libc::O_PATH | libc::O_DIRECTORY)?;
    namespace_number(&read_link_at(own.as_fd(), kind.link(), 64)?)
}

fn namespace_number(link: &[u8]) -> io::Result<u64> {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    link.split(|b| *b == b'[')
        .nth(1)
        .and_then(|rest| rest.strip_suffix(b"]"))
        .and_then(number)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// A pidfd of the thread itself (`pidfd_open(2)` with `PIDFD_THREAD`).
///
/// # Errors
/// `EINVAL` before Linux 6.9, `ESRCH` when there is no such thread.
pub fn pidfd_of_thread(tid: u32) -> io::Result<OwnedFd> {
    const PIDFD_THREAD: libc::c_int = libc::O_EXCL;
    let tid =
        libc::pid_t::try_from(tid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // Safety: plain numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, tid, PIDFD_THREAD) })?;
    // Safety: the descriptor is new and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Opens a file for reading with the file system uid of somebody else.
///
/// `/proc/keys` shows what the credentials recorded at `open(2)` may see. The calling thread's uid
/// is restored before this returns.
///
/// # Errors
/// `openat(2)`; `PermissionDenied` when the kernel did not change the uid.
pub fn open_with_fsuid(path: &CStr, fsuid: u32) -> io::Result<OwnedFd> {
    let former = set_fsuid(fsuid);
    let changed = set_fsuid(fsuid) == fsuid;
    let opened = if changed {
        open_at(None, path, libc::O_RDONLY)
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    };
    set_fsuid(former);
    opened
}

/// Sets the thread's file system uid and returns the one before; failure shows in the next call.
fn set_fsuid(uid: u32) -> u32 {
    // Safety: plain number; the raw call changes the calling thread only.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) as u32 }
}

/// `openat(2)` with `O_CLOEXEC`; without `dir` relative to the working directory.
///
/// # Errors
/// `openat(2)`.
pub fn open_at(dir: Option<BorrowedFd<'_>>, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    let dir = dir.map_or(libc::AT_FDCWD, |d| d.as_raw_fd());
    // Safety: the path ends in NUL; no mode is needed without O_CREAT, which callers do not pass.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_openat,
            dir,
            path.as_ptr(),
            flags | libc::O_CLOEXEC,
            0,
        )
    })?;
    // Safety: the descriptor is new and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `readlinkat(2)`, cut at `most` bytes.
fn read_link_at(dir: BorrowedFd<'_>, path: &CStr, most: usize) -> io::Result<Vec<u8>> {
    let mut target = vec![0u8; most];
    // Safety: the buffer has the length given.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_readlinkat,
            dir.as_raw_fd(),
            path.as_ptr(),
            target.as_mut_ptr(),
            target.len(),
        )
    })?;
    target.truncate(length as usize);
    Ok(target)
}

/// One `read(2)`, repeated when a signal interrupts it.
///
/// # Errors
/// `read(2)`.
pub fn read_some(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // Safety: the buffer is exclusively borrowed and has the length given.
        let got = check(unsafe {
            libc::syscall(
                libc::SYS_read,
                fd.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        });
        match got {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(|n| n as usize),
        }
    }
}

/// Reads to the end, or until there are `most` bytes.
///
/// # Errors
/// `read(2)`.
pub fn read_all(fd: BorrowedFd<'_>, most: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut buffer = [0u8; 2048];
    while content.len() < most {
        let got = read_some(fd, &mut buffer)?;
        if got == 0 {
            break;
        }
        content.extend_from_slice(buffer.get(..got).unwrap_or_default());
    }
    content.truncate(most);
    Ok(content)
}

/// What tells one file from another, and a little about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Device number of the file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Type and permission bits.
    pub mode: u32,
}

/// `fstat(2)`.
///
/// # Errors
/// `EBADF` only, which a `BorrowedFd` excludes.
pub fn status(fd: BorrowedFd<'_>) -> io::Result<FileStatus> {
    // Safety: all bits zero is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // Safety: the descriptor is open and the structure is exclusively borrowed.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) }.into())?;
    Ok(stat.into())
}

/// `stat(2)`; links are followed.
///
/// # Errors
/// `stat(2)`.
pub fn status_of(path: &CStr) -> io::Result<FileStatus> {
    // Safety: all bits zero is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // Safety: the path ends in NUL and the structure is exclusively borrowed.
    check(unsafe { libc::stat(path.as_ptr(), &raw mut stat) }.into())?;
    Ok(stat.into())
}

impl From<libc::stat> for FileStatus {
    fn from(stat: libc::stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size.try_into().unwrap_or(0),
            mode: stat.st_mode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_seen_through_its_own_directory() {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // Safety: gettid has no argument.
            tell.send(unsafe { libc::gettid() } as u32).unwrap();
            let _ = stopped.recv();
        });
        let tid = told.recv().unwrap();
        assert_ne!(tid, std::process::id());
        let dir = ThreadDir::open(tid).unwrap();
        let text = dir.read(c"status", 4096).unwrap();
        let tgid = format!("\nTgid:\t{}\n", std::process::id());
        assert!(String::from_utf8_lossy(&text).contains(&tgid));
        drop(stop);
        thread.join().unwrap();
        while ThreadDir::open(tid).is_ok() {
            std::thread::yield_now();
        }
        assert!(dir.read(c"status", 4096).is_err());
    }

    #[test]
    fn the_initial_namespaces_have_their_known_inodes() {
        let init = ThreadDir::open(2).unwrap();
        for kind in [NsKind::Pid, NsKind::User] {
            assert_eq!(init.namespace_inode(kind).ok(), kind.initial_inode());
        }
    }

    #[test]
    fn link_and_descriptor_name_the_same_namespace() {
        let dir = ThreadDir::open(std::process::id()).unwrap();
        for kind in [NsKind::Pid, NsKind::User, NsKind::Net] {
            let inode = dir.namespace_inode(kind).unwrap();
            assert_eq!(dir.namespace(kind).unwrap().inode().unwrap(), inode);
            assert_eq!(own_namespace_inode(kind).unwrap(), inode);
        }
    }
}
