//! What a pidfd tells by itself about its process or thread, without `/proc` (`fs/pidfs.c`).
//!
//! Looking a process up in `/proc` for the first time makes the kernel build an inode and a name for
//! everything on the way; a request on the descriptor costs a tenth of that, and it cannot be about
//! another process.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::call::check;
use crate::requester::{Namespace, NsKind};

/// `_IO(0xFF, number)` of `<linux/pidfd.h>`.
const fn without_argument(number: libc::c_ulong) -> libc::c_ulong {
    0xFF << 8 | number
}

const PIDFD_GET_NET_NAMESPACE: libc::c_ulong = without_argument(4);
const PIDFD_GET_PID_NAMESPACE: libc::c_ulong = without_argument(5);
const PIDFD_GET_USER_NAMESPACE: libc::c_ulong = without_argument(9);
/// `_IOWR(0xFF, 11, struct pidfd_info)` with the first version of the structure.
const PIDFD_GET_INFO: libc::c_ulong =
    0xC000_0000 | (size_of::<Info>() as libc::c_ulong) << 16 | 0xFF << 8 | 11;
const PIDFD_INFO_PID: u64 = 1;
const PIDFD_INFO_CREDS: u64 = 2;

/// `struct pidfd_info`, version 0.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    /// Real, effective, saved and file system uid, each with the gid of the same kind.
    ids: [u32; 8],
    spare: u32,
}

const _: () = assert!(size_of::<Info>() == 64);

/// A namespace of the process or thread.
///
/// # Errors
/// `ENOTTY` before Linux 6.11, `EOPNOTSUPP` for a kind that the kernel does not have, `ESRCH` when the
/// process has ended, `EPERM` when the caller may not look at it (ptrace(2), `PTRACE_MODE_READ`).
pub fn namespace(pidfd: BorrowedFd<'_>, kind: NsKind) -> io::Result<Namespace> {
    let request = match kind {
        NsKind::Pid => PIDFD_GET_PID_NAMESPACE,
        NsKind::User => PIDFD_GET_USER_NAMESPACE,
        NsKind::Net => PIDFD_GET_NET_NAMESPACE,
    };
    // Safety: the request takes no argument and returns a new descriptor or −1.
    let fd = check(unsafe { libc::syscall(libc::SYS_ioctl, pidfd.as_raw_fd(), request, 0) })?;
    // Safety: the descriptor is new and nobody else knows it.
    Ok(Namespace::from(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

/// Who a thread is, with ids of the caller's PID and user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the thread; for a pidfd of a process, of its first one.
    pub tid: u32,
    /// Id of its process.
    pub tgid: u32,
    /// Real, effective, saved and file system uid.
    pub uids: [u32; 4],
    /// Real, effective, saved and file system gid.
    pub gids: [u32; 4],
}

/// What the kernel says of the thread or process.
///
/// # Errors
/// `ENOTTY` before Linux 6.13, `ESRCH` when it has ended.
pub fn identity(pidfd: BorrowedFd<'_>) -> io::Result<Identity> {
    const WANTED: u64 = PIDFD_INFO_PID | PIDFD_INFO_CREDS;
    let mut info = Info {
        mask: WANTED,
        ..Info::default()
    };
    // Safety: the structure is exclusively borrowed, and its size is part of the request.
    let told = check(unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            pidfd.as_raw_fd(),
            PIDFD_GET_INFO,
            &raw mut info,
        )
    });
    match told {
        // Linux 6.11 and 6.12 refuse any argument before they look at the request.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            return Err(io::Error::from_raw_os_error(libc::ENOTTY));
        }
        other => other?,
    };
    if info.mask & WANTED != WANTED {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let [ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid] = info.ids;
    Ok(Identity {
        tid: info.pid,
        tgid: info.tgid,
        uids: [ruid, euid, suid, fsuid],
        gids: [rgid, egid, sgid, fsgid],
    })
}

/// Whether the error means that this kernel does not know the request.
#[must_use]
pub fn is_unknown(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTTY)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::requester::{ThreadDir, pidfd_of_thread};

    #[test]
    fn a_pidfd_tells_the_same_as_proc() {
        // Safety: takes nothing.
        let tid = unsafe { libc::gettid() } as u32;
        let pidfd = pidfd_of_thread(tid).unwrap();
        match identity(pidfd.as_fd()) {
            Err(error) if is_unknown(&error) => {}
            other => {
                let identity = other.unwrap();
                assert_eq!((identity.tid, identity.tgid), (tid, std::process::id()));
                assert_eq!(identity.uids[1], crate::cred::effective_uid());
                assert_eq!(identity.gids[1], crate::cred::effective_gid());
            }
        }
        let directory = ThreadDir::open(tid).unwrap();
        for kind in [NsKind::Pid, NsKind::User, NsKind::Net] {
            match namespace(pidfd.as_fd(), kind) {
                Err(error) if is_unknown(&error) => {}
                other => assert_eq!(
                    other.unwrap().inode().unwrap(),
                    directory.namespace_inode(kind).unwrap()
                ),
            }
        }
    }

    #[test]
    fn a_descriptor_of_another_kind_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(is_unknown(&identity(file.as_fd()).unwrap_err()));
        assert!(is_unknown(
            &namespace(file.as_fd(), NsKind::Pid).unwrap_err()
        ));
    }

    #[test]
    fn of_a_process_that_ended_nothing_is_told() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pidfd = pidfd_of_thread(child.id()).unwrap();
        child.wait().unwrap();
        assert!(identity(pidfd.as_fd()).is_err());
        assert!(namespace(pidfd.as_fd(), NsKind::User).is_err());
    }
}
