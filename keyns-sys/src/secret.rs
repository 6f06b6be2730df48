//! Bytes that are wiped when they are dropped and never printed.

#![allow(unsafe_code)]

use std::fmt;

/// A payload or callout information on its way through this process.
///
/// `Debug` shows the length only. The content is overwritten on drop; copies made by the caller, or
/// by a `Vec` that grew before it was handed over, are not.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes the bytes over without copying them.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// A buffer of `length` zero bytes to be filled through [`as_mut_slice`](Self::as_mut_slice).
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        Self(vec![0; length])
    }

    /// The content.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The content, to be written to in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The first `length` bytes; the rest is wiped with them when they are dropped.
    #[must_use]
    pub fn truncated(mut self, length: usize) -> Self {
        self.0.truncate(length);
        self
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        // Safety: the pointer and the capacity describe one allocation this value owns alone;
        // bytes past the length may be uninitialised, which writing does not mind.
        unsafe { libc::explicit_bzero(self.0.as_mut_ptr().cast(), self.0.capacity()) }
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::SecretBytes;

    #[test]
    fn debug_shows_the_length_only() {
        let secret = SecretBytes::from(&b"hunter2"[..]);
        assert_eq!(format!("{secret:?}"), "<7 bytes>");
    }
}
