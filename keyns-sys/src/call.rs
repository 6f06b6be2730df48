//! The one way a raw system call result becomes an `io::Result`.

use std::io;

/// Turns the return value of `libc::syscall` into a result: −1 means `errno`.
pub(crate) fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}
