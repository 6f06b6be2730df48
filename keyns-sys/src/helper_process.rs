//! What a program started by the kernel does to itself.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use crate::call::check;

/// Makes `$run`, a `fn(Vec<CString>) -> i32`, the entry point of a program with `#![no_main]`.
///
/// The standard library's own start-up sets up signal handlers and an alternative stack, which
/// would be a fifth of the life of a helper that only executes another program.
#[macro_export]
macro_rules! helper_entry {
    ($run:path) => {
        /// Called by the C library's start-up code.
        // Safety: a program has one entry point, and the C library calls it with this signature.
        #[unsafe(no_mangle)]
        extern "C" fn main(
            count: ::core::ffi::c_int,
            arguments: *const *const ::core::ffi::c_char,
        ) -> ::core::ffi::c_int {
            // Safety: both values are what the C library passed.
            $run(unsafe { $crate::helper_process::arguments(count, arguments) })
        }
    };
}

/// Copies the arguments of `main`.
///
/// # Safety
/// `arguments` must point to at least `count` strings that end in NUL.
#[must_use]
pub unsafe fn arguments(count: libc::c_int, arguments: *const *const libc::c_char) -> Vec<CString> {
    (0..usize::try_from(count).unwrap_or(0))
        .map(|n| {
            // Safety: the caller promises that many strings.
            unsafe { CStr::from_ptr(*arguments.add(n)) }.to_owned()
        })
        .collect()
}

/// Opens `/dev/null` on each of the descriptors 0, 1 and 2 that is closed.
///
/// The kernel starts its helpers with all three closed; without this the first files a helper opens
/// would become its standard output.
pub fn fill_standard_descriptors() {
    for fd in 0..3 {
        // Safety: F_GETFD only looks at the descriptor.
        let closed = unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1;
        if closed {
            // Safety: the path ends in NUL. The lowest free descriptor is `fd`, and it is to stay
            // open for the whole life of the process, so nobody owns it.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
}

/// Makes the process non-dumpable: no core file, no tracing by others of its uid.
///
/// # Errors
/// None is expected (`PR_SET_DUMPABLE`, prctl(2)).
pub fn forbid_dumps() -> io::Result<()> {
    // Safety: plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }.into()).map(drop)
}

/// Blocks `SIGTERM` for the calling thread and returns a descriptor that is readable once one came.
///
/// # Errors
/// `signalfd(2)`.
pub fn catch_termination() -> io::Result<OwnedFd> {
    let mut set = empty_set();
    // Safety: the set is initialised and SIGTERM is a valid signal.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGTERM) };
    // Safety: the set is initialised; the former mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) }.into())?;
    // Safety: the set is initialised; −1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(fd.into())?;
    // Safety: the descriptor is new and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn empty_set() -> libc::sigset_t {
    // Safety: all bits zero is a valid `sigset_t`, and sigemptyset writes only to it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}

/// Replaces the process by a program, with no signal blocked and `SIGPIPE` as the kernel gave it.
///
/// Returns only when that failed.
#[must_use]
pub fn execute(program: &CStr, arguments: &[CString], environment: &[&CStr]) -> io::Error {
    let mut argv: Vec<_> = arguments.iter().map(|a| a.as_ptr()).collect();
    argv.push(ptr::null());
    let mut envp: Vec<_> = environment.iter().map(|e| e.as_ptr()).collect();
    envp.push(ptr::null());
    let none = empty_set();
    // Safety: the mask is initialised; SIG_DFL is a valid disposition; the path ends in NUL and
    // both vectors are null-terminated arrays of pointers to strings that outlive the call.
    unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr());
    }
    io::Error::last_os_error()
}

/// Time since boot that no clock setting changes (`CLOCK_MONOTONIC`).
#[must_use]
pub fn monotonic_now() -> Duration {
    // Safety: all bits zero is a valid `timespec`.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // Safety: the structure is exclusively borrowed; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
