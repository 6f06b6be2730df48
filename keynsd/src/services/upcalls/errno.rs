//! The errors this service gives, and for how long the kernel repeats them.

use keyns_sys::upcall_wire::Rejection;

pub(crate) const EPERM: i32 = 1;
pub(crate) const EINTR: i32 = 4;
pub(crate) const EAGAIN: i32 = 11;
pub(crate) const EDEADLK: i32 = 35;
pub(crate) const EOPNOTSUPP: i32 = 95;
pub(crate) const EDQUOT: i32 = 122;
pub(crate) const ETIMEDOUT: i32 = 110;
pub(crate) const ENOKEY: i32 = 126;

/// `errno` for so many seconds; for the constants above, which the kernel all takes.
pub(crate) fn rejection(errno: i32, seconds: u32) -> Rejection {
    Rejection::new(errno, seconds).unwrap_or(Rejection::NO_KEY)
}
