//! Places in which programs wait that do not know of each other: at most so many at a time.
//!
//! A place is one byte of a file, and taken by a lock on it (`F_OFD_SETLK`, fcntl(2)). The kernel gives
//! it back when its holder ends in any way, so that nothing has to be counted or cleaned up.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::call::check;

/// The file, beside the socket of a daemon, whose bytes are places for those that wait for it.
pub const FILE_NAME: &str = "waiting";

/// A place that is taken until this is dropped. Programs that are executed do not inherit it.
#[derive(Debug)]
pub struct WaitingPlace {
    // Closing it gives the place back.
    _file: OwnedFd,
}

impl WaitingPlace {
    /// Takes a free one of the places in the file at `path`, which is made if it is absent; `None` when
    /// all are taken. Where the search begins depends on the process, so that many at once do not all
    /// try the same.
    ///
    /// # Errors
    /// `open(2)`: a symbolic link is `ELOOP`. `fcntl(2)`: `ENOLCK` when there are too many locks.
    pub fn take(path: &Path, places: Range<u16>) -> io::Result<Option<Self>> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // Safety: the path ends in NUL.
        let fd = check(unsafe { libc::open(path.as_ptr(), flags, 0o600) }.into())?;
        // Safety: the descriptor is new and nobody else knows it.
        let file = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let count = u32::from(places.end.saturating_sub(places.start));
        for n in 0..count {
            let offset = std::process::id().wrapping_add(n) % count;
            if lock(&file, u32::from(places.start) + offset)? {
                return Ok(Some(Self { _file: file }));
            }
        }
        Ok(None)
    }
}

/// Locks one byte; false if somebody else has it.
fn lock(file: &OwnedFd, byte: u32) -> io::Result<bool> {
    // The same on all architectures, but not in all versions of the libc crate.
    const F_OFD_SETLK: libc::c_int = 37;
    // Safety: all bits zero is a valid `flock`; its `l_pid` must be 0 here.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte.into();
    lock.l_len = 1;
    // Safety: the descriptor is open and the structure is initialised.
    match check(unsafe { libc::fcntl(file.as_raw_fd(), F_OFD_SETLK, &raw mut lock) }.into()) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> std::path::PathBuf {
        std::env::temp_dir().join(format!("keyns-places-{}", std::process::id()))
    }

    #[test]
    fn every_place_is_taken_once_and_free_again_when_its_holder_is_gone() {
        let path = path();
        let take = |places| WaitingPlace::take(&path, places).unwrap();
        let mut held: Vec<_> = (0..8).map(|_| take(3..11).unwrap()).collect();
        assert!(take(3..11).is_none());
        assert!(take(0..3).is_some(), "others are others");
        assert!(take(5..5).is_none());
        held.pop();
        held.push(take(3..11).unwrap());
        assert!(take(3..11).is_none());
        std::fs::remove_file(&path).unwrap();
        let nowhere = path.join("absent");
        assert!(WaitingPlace::take(&nowhere, 0..8).is_err());
    }
}
