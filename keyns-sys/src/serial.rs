//! Key serial numbers and the special negative ids.

use std::fmt;

/// A key serial number, or one of the special ids the kernel resolves for the calling thread.
///
/// Serials are positive; special ids are −1 to −8 (`include/uapi/linux/keyctl.h`). Zero means "no
/// key" in a few operations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct KeySerial(i32);

impl KeySerial {
    /// No key: "the keyring recorded in the authorisation key" or "none", by operation.
    pub const NONE: Self = Self(0);
    /// The calling thread's keyring, `@t`.
    pub const THREAD: Self = Self(-1);
    /// The calling process' keyring, `@p`.
    pub const PROCESS: Self = Self(-2);
    /// The calling thread's session keyring, `@s`.
    pub const SESSION: Self = Self(-3);
    /// The keyring of the calling thread's real uid, `@u`.
    pub const USER: Self = Self(-4);
    /// The default session keyring of the calling thread's real uid, `@us`.
    pub const USER_SESSION: Self = Self(-5);
    /// The keyring of the calling thread's gid, `@g` (never implemented by the kernel).
    pub const GROUP: Self = Self(-6);
    /// The assumed authorisation key, `@a`.
    pub const AUTH_KEY: Self = Self(-7);
    /// The destination keyring of the request being served.
    pub const REQUESTOR: Self = Self(-8);

    /// Wraps a number as the kernel gave it or a user typed it.
    #[must_use]
    pub const fn new(raw: i32) -> Self {
        Self(raw)
    }

    /// The number the system calls take.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// Whether this is a special id (negative) that means something else in every thread.
    #[must_use]
    pub const fn is_special(self) -> bool {
        self.0 < 0
    }
}

impl fmt::Display for KeySerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for KeySerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySerial({})", self.0)
    }
}
