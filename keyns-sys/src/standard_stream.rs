//! Descriptors 0, 1 and 2 without the buffers, locks and kindness of the standard library.
//!
//! Its streams take a closed descriptor for one that swallows everything; a program that has to fail
//! then, or to write with a single call, asks the kernel itself.

#![allow(unsafe_code)]

use std::io;

use crate::call::check;

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Stream {
    /// Descriptor 0.
    Input = 0,
    /// Descriptor 1.
    Output = 1,
    /// Descriptor 2.
    Error = 2,
}

impl Stream {
    /// Reads once (read(2)); 0 at the end.
    ///
    /// # Errors
    /// read(2): `EBADF`, `EISDIR`, `EAGAIN`, `EINTR`, `EIO`.
    pub fn read(self, buffer: &mut [u8]) -> io::Result<usize> {
        // Safety: the kernel writes at most `buffer.len()` bytes into the buffer.
        let read = unsafe { libc::read(self as i32, buffer.as_mut_ptr().cast(), buffer.len()) };
        check(read as libc::c_long).map(|n| n as usize)
    }

    /// Writes once (write(2)) and says how much was written.
    ///
    /// # Errors
    /// write(2): `EBADF`, `EPIPE`, `ENOSPC`, `EAGAIN`, `EINTR`, `EIO`.
    pub fn write(self, bytes: &[u8]) -> io::Result<usize> {
        // Safety: the kernel reads at most `bytes.len()` bytes from the slice.
        let written = unsafe { libc::write(self as i32, bytes.as_ptr().cast(), bytes.len()) };
        check(written as libc::c_long).map(|n| n as usize)
    }

    /// Writes everything, again after an interruption.
    ///
    /// # Errors
    /// As [`write`](Self::write) but `EINTR`; what was written until then is not told.
    pub fn write_all(self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether it is a terminal (isatty(3)).
    #[must_use]
    pub fn is_terminal(self) -> bool {
        // Safety: any number may be asked about.
        unsafe { libc::isatty(self as i32) == 1 }
    }
}
