//! The end of a request: a payload or an error for the key under construction.
//!
//! Authority over the target makes the requester's keyrings searchable with possession, so it is
//! assumed for the one call that needs it and dropped again. That call names the target and no other
//! key: to look one up, the kernel would search those keyrings, which processes that share them can
//! widen while nobody can kill the searcher.
//!
//! Every payload of an `encrypted` key names another one, its master key. So none is given to the
//! kernel: with authority it would be taken from the requester's keyrings, and the kernel looks for it
//! while it holds the lock without which no key of the machine can be completed. A master key that is
//! itself being asked for would never come, and no request end any more.

use std::io;

use crate::key;
use crate::serial::KeySerial;
use crate::upcall_wire::Rejection;

/// Errno and seconds of a rejection made here.
#[derive(Clone, Copy)]
pub struct Refusal(
    /// Errno.
    pub i32,
    /// Seconds.
    pub u32,
);

/// Errors as `request_key(2)` returns them; all Linux architectures share these numbers.
pub mod errno {
    /// Not permitted.
    pub const EPERM: i32 = 1;
    /// Interrupted.
    pub const EINTR: i32 = 4;
    /// Any other.
    pub const EIO: i32 = 5;
    /// Try again.
    pub const EAGAIN: i32 = 11;
    /// The key is complete.
    pub const EBUSY: i32 = 16;
    /// It would wait for itself.
    pub const EDEADLK: i32 = 35;
    /// Not for keys of this type.
    pub const EOPNOTSUPP: i32 = 95;
    /// Too late.
    pub const ETIMEDOUT: i32 = 110;
    /// Over the quota.
    pub const EDQUOT: i32 = 122;
    /// No key.
    pub const ENOKEY: i32 = 126;
    /// The key was revoked.
    pub const EKEYREVOKED: i32 = 128;
}

/// A request of the host, and no program to serve it: the error and the time the kernel would use.
pub const NO_ORIGINAL: Refusal = Refusal(errno::ENOKEY, 60);
/// A request that led to itself, or seems to.
pub const LOOP: Refusal = Refusal(errno::EDEADLK, 1);
/// It could not be found out who asked.
const UNDECIDABLE: Refusal = Refusal(errno::EAGAIN, 1);

/// Types whose payloads name other keys.
const REFERRING: [&[u8]; 1] = [b"encrypted"];

/// What became of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The request is over: 0 with this payload, another errno because somebody ended it before.
    Over(i32),
    /// It was not taken; another one may be.
    Refused(i32),
}

/// The step that failed. The same error means another thing for each.
#[derive(Debug)]
enum Failure {
    /// The authority over the target could not be had.
    Authority(io::Error),
    /// The kernel or the type of the key refused.
    Call(io::Error),
}

/// Gives the target, a key of this type, its payload.
///
/// `Refused` has what the kernel says: `EINVAL` when the type refuses the payload, `EDQUOT` when it is
/// over the requester's quota; `EOPNOTSUPP` for a type whose payloads name other keys.
pub fn instantiate(target: KeySerial, type_name: &[u8], payload: &[u8]) -> Given {
    if REFERRING.contains(&type_name) {
        return Given::Refused(errno::EOPNOTSUPP);
    }
    Given::from(with_authority(target, || {
        key::instantiate(target, payload, KeySerial::NONE)
    }))
}

impl From<Result<(), Failure>> for Given {
    fn from(outcome: Result<(), Failure>) -> Self {
        match outcome {
            Ok(()) => Self::Over(0),
            // The authorisation key ends with the construction of the target.
            Err(Failure::Authority(e)) => match code(&e) {
                over @ (errno::ENOKEY | errno::EKEYREVOKED) => Self::Over(over),
                other => Self::Refused(other),
            },
            // Only this one comes from the target's state. Whatever else, ENOKEY as well, is what the
            // type thinks of the payload, and the target is still under construction.
            Err(Failure::Call(e)) => match code(&e) {
                errno::EBUSY => Self::Over(errno::EBUSY),
                other => Self::Refused(other),
            },
        }
    }
}

fn code(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(errno::EIO)
}

/// Makes the target negative.
///
/// # Errors
/// What the kernel says; `EBUSY` and `ENOKEY` when the target was completed already.
pub fn reject(target: KeySerial, refusal: Refusal) -> io::Result<()> {
    let Refusal(errno, seconds) = refusal;
    // The kernel ends the time at a full second of the clock, so one second may be a millisecond;
    // and a requester that wakes after the end gets ENOKEY, whatever the error was.
    let seconds = seconds + u32::from(errno != errno::ENOKEY);
    with_authority(target, || {
        key::reject(target, seconds, errno, KeySerial::NONE)
    })
    .map_err(|failure| match failure {
        Failure::Authority(e) | Failure::Call(e) => e,
    })
}

/// Same with the exit status of the program. There is nobody to tell why it failed: the kernel
/// starts it without a terminal, and its descriptors 0 to 2 may be anything.
pub fn reject_or_fail(target: KeySerial, refusal: Refusal) -> i32 {
    i32::from(reject(target, refusal).is_err())
}

/// Rejects because it could not be decided who asked.
pub fn undecidable(target: KeySerial) -> i32 {
    reject_or_fail(target, UNDECIDABLE)
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self(rejection.errno(), rejection.seconds())
    }
}

fn with_authority(target: KeySerial, call: impl FnOnce() -> io::Result<()>) -> Result<(), Failure> {
    key::assume_authority(target).map_err(Failure::Authority)?;
    let outcome = call();
    // Nothing is left to do should this fail: the process ends, or assumes it again.
    let _ = key::assume_authority(KeySerial::NONE);
    outcome.map_err(Failure::Call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(failure: fn(io::Error) -> Failure, errno: i32) -> Given {
        Given::from(Err(failure(io::Error::from_raw_os_error(errno))))
    }

    #[test]
    fn without_authority_a_target_that_is_complete_is_over() {
        for over in [errno::ENOKEY, errno::EKEYREVOKED] {
            assert_eq!(given(Failure::Authority, over), Given::Over(over));
        }
        let busy = given(Failure::Authority, errno::EBUSY);
        assert_eq!(busy, Given::Refused(errno::EBUSY));
    }

    #[test]
    fn what_a_type_says_of_a_payload_does_not_end_the_request() {
        for refused in [errno::ENOKEY, errno::EKEYREVOKED, errno::EDQUOT] {
            assert_eq!(given(Failure::Call, refused), Given::Refused(refused));
        }
        let before = given(Failure::Call, errno::EBUSY);
        assert_eq!(before, Given::Over(errno::EBUSY));
    }

    #[test]
    fn a_key_that_is_not_under_construction_is_over() {
        let key = key::add_key(c"user", c"keyns-settle", b"x", KeySerial::PROCESS).unwrap();
        assert!(matches!(instantiate(key, b"user", b"y"), Given::Over(_)));
        assert_eq!(
            instantiate(key, b"encrypted", b"load user:master 32 00"),
            Given::Refused(errno::EOPNOTSUPP)
        );
        assert_eq!(key::read(key).unwrap(), b"x");
    }
}
