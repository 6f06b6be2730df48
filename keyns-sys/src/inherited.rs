//! Descriptors that a process was started with, beyond the three standard streams.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor after the standard streams (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
const FIRST: RawFd = 3;

/// Takes the `count` descriptors from 3 on, which whoever started this process has left there, and makes
/// them close-on-exec. A number that is not open, or is close-on-exec already, gives `None`: what was
/// inherited has survived an execve(2), so that the latter is one that this process opened itself.
///
/// Whoever calls this has opened no descriptor that is to be inherited.
///
/// # Errors
/// `AlreadyExists` when they were taken before; those of fcntl(2).
pub fn take(count: u16) -> io::Result<Vec<Option<OwnedFd>>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    (FIRST..FIRST + RawFd::from(count)).map(take_one).collect()
}

fn take_one(fd: RawFd) -> io::Result<Option<OwnedFd>> {
    // Safety: a number that is not open is an error and nothing else.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return Ok(None);
    }
    // Safety: as above.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // Safety: it is open and was inherited, so that nobody in this process owns it, and it is given
    // away once.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}
