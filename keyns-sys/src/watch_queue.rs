//! Notifications about keys: a pipe that the kernel writes records to
//! (`CONFIG_WATCH_QUEUE`, `include/uapi/linux/watch_queue.h`).

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::call::check;
use crate::serial::KeySerial;

const WATCH_KEY: i32 = 32;
/// `_IO('W', 0x60)`.
const SET_SIZE: u32 = 0x5760;
/// `_IO('W', 0x61)`.
const SET_FILTER: u32 = 0x5761;
/// `_IO('W', 0x62)`, which no released kernel has.
const SYNC: u32 = 0x5762;
/// `WATCH_TYPE_KEY_NOTIFY`.
const TYPE_KEY: u32 = 1;

/// `struct watch_notification_filter` with one `struct watch_notification_type_filter`.
#[repr(C)]
struct RawFilter {
    count: u32,
    reserved: u32,
    type_: u32,
    info_filter: u32,
    info_mask: u32,
    subtypes: [u32; 8],
}

const _: () = assert!(size_of::<RawFilter>() == 52);

/// Makes a pipe for notifications and returns the ends to read from and to watch with
/// (`pipe2(O_NOTIFICATION_PIPE | O_NONBLOCK)`); a program that is executed inherits both.
///
/// # Errors
/// `ENOPKG` on kernels without watch queues, `EMFILE`, `ENFILE`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // Safety: the array has two entries. O_NOTIFICATION_PIPE is O_EXCL.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_EXCL | libc::O_NONBLOCK) }.into())?;
    let [read, write] = ends;
    // Safety: both are fresh and known to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(read), OwnedFd::from_raw_fd(write)) })
}

/// How many records the queue holds (`IOC_WATCH_QUEUE_SET_SIZE`), 1 to 512.
///
/// # Errors
/// `EINVAL`, `EBUSY` when it has been set, `EPERM` beyond the user's share of pipe buffers.
pub fn set_size(queue: BorrowedFd<'_>, records: u32) -> io::Result<()> {
    // Safety: this request takes a number.
    let ret = unsafe { libc::ioctl(queue.as_raw_fd(), SET_SIZE as libc::Ioctl, records) };
    check(ret.into()).map(drop)
}

/// Lets only these kinds of key notifications through, one bit each
/// (`IOC_WATCH_QUEUE_SET_FILTER`, `enum key_notification_subtype`).
///
/// # Errors
/// `EINVAL`, `ENOMEM`.
pub fn set_filter(queue: BorrowedFd<'_>, subtypes: u32) -> io::Result<()> {
    let filter = RawFilter {
        count: 1,
        reserved: 0,
        type_: TYPE_KEY,
        info_filter: 0,
        info_mask: 0,
        subtypes: [subtypes, 0, 0, 0, 0, 0, 0, 0],
    };
    // Safety: the structure has the asserted layout and is only read.
    let ret = unsafe {
        libc::ioctl(
            queue.as_raw_fd(),
            SET_FILTER as libc::Ioctl,
            &raw const filter,
        )
    };
    check(ret.into()).map(drop)
}

/// Reports changes of a key to a queue under the number `id` (0 to 255), or with −1 no longer
/// (`KEYCTL_WATCH_KEY`); needs VIEW.
///
/// # Errors
/// `EOPNOTSUPP` on kernels without notifications, `EBADF`, `EINVAL` (no queue), `EBUSY` (watched
/// already), `EBADSLT` (not watched), `EACCES`, `ENOKEY`.
pub fn watch_key(key: KeySerial, queue: RawFd, id: i32) -> io::Result<()> {
    // Safety: plain numbers.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            WATCH_KEY,
            key.raw(),
            queue as libc::c_long,
            id as libc::c_long,
        )
    })
    .map(drop)
}

/// Asks the kernel to finish what it is about to report.
///
/// # Errors
/// `ENOTTY`: no released kernel can. `EBADF`.
pub fn sync(queue: RawFd) -> io::Result<()> {
    // Safety: this request takes nothing.
    check(unsafe { libc::ioctl(queue, SYNC as libc::Ioctl, 0) }.into()).map(drop)
}

/// How many bytes wait to be read (`FIONREAD`).
///
/// # Errors
/// `EBADF`, `ENOTTY`.
pub fn waiting(queue: RawFd) -> io::Result<i32> {
    let mut count: libc::c_int = 0;
    // Safety: the request writes one `int`.
    check(unsafe { libc::ioctl(queue, libc::FIONREAD, &raw mut count) }.into())?;
    Ok(count)
}

/// Moves a descriptor to a number of the caller's choice, whatever was open there (dup2(2)).
///
/// The number is not owned: it stays open until the process ends.
///
/// # Errors
/// `EBADF` for a number beyond the limit.
pub fn move_to(fd: OwnedFd, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        std::mem::forget(fd);
        return Ok(());
    }
    // Safety: a program that asks for a number of its own has nothing else open there.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into()).map(drop)
}

/// Waits until one of two descriptors can be read or is hung up (poll(2)), and says which.
///
/// # Errors
/// `EINTR`, `ENOMEM`.
pub fn either(first: BorrowedFd<'_>, second: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    let entry = |fd: BorrowedFd<'_>| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut entries = [entry(first), entry(second)];
    // Safety: the array has two entries.
    check(unsafe { libc::poll(entries.as_mut_ptr(), 2, -1) }.into())?;
    let [first, second] = entries;
    Ok((first.revents != 0, second.revents != 0))
}

/// Reads once (read(2)).
///
/// # Errors
/// `EAGAIN` when nothing is there, `ENOBUFS` for a buffer smaller than a record.
pub fn read(queue: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // Safety: the kernel writes at most `buffer.len()` bytes into the buffer.
    let read = unsafe { libc::read(queue.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    check(read as libc::c_long).map(|n| n as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;
    use std::os::fd::AsFd as _;

    /// Bit 0 of the second byte: the kernel can notify.
    fn supported() -> bool {
        key::capabilities()
            .unwrap()
            .get(1)
            .is_some_and(|b| b & 4 != 0)
    }

    #[test]
    fn a_change_is_reported_exactly_where_the_kernel_says_it_can() {
        if !supported() {
            assert_eq!(
                pipe().unwrap_err().raw_os_error(),
                Some(libc::ENOPKG),
                "no queue"
            );
            let refused = watch_key(KeySerial::THREAD, 0, 1).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
            return;
        }
        let (read_end, write_end) = pipe().unwrap();
        set_size(write_end.as_fd(), 16).unwrap();
        set_filter(write_end.as_fd(), 1 << 1).unwrap();
        let k = key::add_key(c"user", c"keyns-test-watched", b"1", KeySerial::THREAD).unwrap();
        watch_key(k, write_end.as_raw_fd(), 1).unwrap();
        key::update(k, b"2").unwrap();
        let mut record = [0; 128];
        assert_eq!(read(read_end.as_fd(), &mut record).unwrap(), 16);
        watch_key(k, write_end.as_raw_fd(), -1).unwrap();
    }

    #[test]
    fn the_bytes_that_wait_are_counted() {
        use std::io::Write as _;
        let (read_end, mut write_end) = std::io::pipe().unwrap();
        write_end.write_all(b"four").unwrap();
        assert_eq!(waiting(read_end.as_raw_fd()).unwrap(), 4);
        assert_eq!(
            sync(read_end.as_raw_fd()).unwrap_err().raw_os_error(),
            Some(libc::ENOTTY)
        );
        assert_eq!(waiting(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));
        let (other, _open) = std::io::pipe().unwrap();
        assert_eq!(
            either(other.as_fd(), read_end.as_fd()).unwrap(),
            (false, true)
        );
    }
}
