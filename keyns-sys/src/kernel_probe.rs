//! Whether the running kernel knows a socket option.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Whether the peer of a Unix socket can be had as a pidfd (`SO_PEERPIDFD`, Linux 6.5).
///
/// # Errors
/// Those of making a socket pair, and of the option for any reason but its absence.
pub fn has_peer_pidfd() -> io::Result<bool> {
    let (socket, _peer) = UnixStream::pair()?;
    let mut fd: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // Safety: the kernel writes at most `length` bytes into `fd`, which has that size.
    let ret = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    if ret == 0 {
        // Safety: the kernel just made this descriptor for us, nobody else knows it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOPROTOOPT) {
        Ok(false)
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_follows_from_the_kernel_version() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().unwrap().parse::<u32>().unwrap();
        let new_enough = (next(), next()) >= (6, 5);
        assert_eq!(super::has_peer_pidfd().unwrap(), new_enough);
    }
}
