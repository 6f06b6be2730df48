//! Payloads in memory files.
//!
//! Only memory files are read: to read or close any other file can take as long as its server likes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keyns_interfaces::Payload;
use rustix::fs::{MemfdFlags, SealFlags};

/// The largest payload that any key type takes, and one byte more.
const LIMIT: usize = 1 << 20;

/// All of a memory file, from its beginning.
///
/// # Errors
/// `InvalidInput` for another kind of file or one that is still being changed; what pread(2) says.
pub(super) fn read(file: BorrowedFd<'_>) -> io::Result<Payload> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    let seals = rustix::fs::fcntl_get_seals(file)
        .map_err(|_| invalid("it is no memory file (memfd_create(2))"))?;
    if !seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE) {
        return Err(invalid(
            "it is not sealed against being written, shrunk and grown",
        ));
    }
    let size = usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(usize::MAX);
    if size > LIMIT {
        return Err(invalid("it is larger than any payload"));
    }
    let mut bytes = zeroize::Zeroizing::new(vec![0; size]);
    let mut done = 0;
    while done < size {
        let rest = bytes.get_mut(done..).unwrap_or_default();
        match rustix::io::pread(file, rest, done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => done += more,
        }
    }
    Ok(Payload::new(std::mem::take(&mut *bytes)))
}

/// A memory file that holds `payload` and cannot be changed.
///
/// # Errors
/// Those of memfd_create(2), write(2) and fcntl(2).
pub(super) fn sealed(payload: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("keyns-payload", flags)?;
    let mut rest = payload;
    let mut done = 0;
    while !rest.is_empty() {
        let written = rustix::io::pwrite(file.as_fd(), rest, done)?;
        done += written as u64;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_can_be_read_again() {
        for payload in [&b""[..], b"secret", &[7; 70_000]] {
            let file = sealed(payload).unwrap();
            assert_eq!(read(file.as_fd()).unwrap().bytes(), payload);
            assert!(rustix::io::pwrite(&file, b"x", 0).is_err());
        }
    }

    #[test]
    fn nothing_but_sealed_memory_is_read() {
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        assert!(read(pipe.as_fd()).is_err());
        let open = rustix::fs::memfd_create("open", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(read(open.as_fd()).is_err());
        let file = tempfile::tempfile().unwrap();
        assert!(read(file.as_fd()).is_err());
        let large = rustix::fs::memfd_create("large", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&large, LIMIT as u64 + 1).unwrap();
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&large, all).unwrap();
        assert!(read(large.as_fd()).is_err());
    }
}
