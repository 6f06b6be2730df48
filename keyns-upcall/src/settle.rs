//! The end of a request: a payload or an error for the key under construction.
//!
//! Authority over the target makes the requester's keyrings searchable with possession, so it is
//! assumed for the one call that needs it and dropped again. That call names the target and no other
//! key: to look one up, the kernel would search those keyrings, which processes that share them can
//! widen while nobody can kill the searcher.

use std::io;

use keyns_sys::KeySerial;
use keyns_sys::key;
use keyns_sys::upcall_wire::Rejection;

/// Errno and seconds of a rejection made here.
#[derive(Clone, Copy)]
pub(crate) struct Refusal(pub(crate) i32, pub(crate) u32);

/// Errors as `request_key(2)` returns them; all Linux architectures share these numbers.
pub(crate) mod errno {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const EINTR: i32 = 4;
    pub(crate) const EIO: i32 = 5;
    pub(crate) const EAGAIN: i32 = 11;
    pub(crate) const EBUSY: i32 = 16;
    pub(crate) const EDEADLK: i32 = 35;
    pub(crate) const ETIMEDOUT: i32 = 110;
    pub(crate) const EDQUOT: i32 = 122;
    pub(crate) const ENOKEY: i32 = 126;
    pub(crate) const EKEYREVOKED: i32 = 128;
}

/// A request of the host, and no program to serve it: the error and the time the kernel would use.
pub(crate) const NO_ORIGINAL: Refusal = Refusal(errno::ENOKEY, 60);
/// A request that led to itself, or seems to.
pub(crate) const LOOP: Refusal = Refusal(errno::EDEADLK, 1);
/// It could not be found out who asked.
const UNDECIDABLE: Refusal = Refusal(errno::EAGAIN, 1);

/// Gives the target its payload.
///
/// # Errors
/// What the kernel says; `EINVAL` when the type refuses the payload.
pub(crate) fn instantiate(target: KeySerial, payload: &[u8]) -> io::Result<()> {
    with_authority(target, || {
        key::instantiate(target, payload, KeySerial::NONE)
    })
}

/// Makes the target negative.
///
/// # Errors
/// What the kernel says; `EBUSY` and `ENOKEY` when the target was completed already.
pub(crate) fn reject(target: KeySerial, refusal: Refusal) -> io::Result<()> {
    let Refusal(errno, seconds) = refusal;
    // The kernel ends the time at a full second of the clock, so one second may be a millisecond;
    // and a requester that wakes after the end gets ENOKEY, whatever the error was.
    let seconds = seconds + u32::from(errno != errno::ENOKEY);
    with_authority(target, || {
        key::reject(target, seconds, errno, KeySerial::NONE)
    })
}

/// Same with the exit status of the program. There is nobody to tell why it failed: the kernel
/// starts it without a terminal, and its descriptors 0 to 2 may be anything.
pub(crate) fn reject_or_fail(target: KeySerial, refusal: Refusal) -> i32 {
    i32::from(reject(target, refusal).is_err())
}

/// Rejects because it could not be decided who asked.
pub(crate) fn undecidable(target: KeySerial) -> i32 {
    reject_or_fail(target, UNDECIDABLE)
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self(rejection.errno(), rejection.seconds())
    }
}

fn with_authority(target: KeySerial, call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    key::assume_authority(target)?;
    let outcome = call();
    // Nothing is left to do should this fail: the process ends, or assumes it again.
    let _ = key::assume_authority(KeySerial::NONE);
    outcome
}
