//! What a program started by the kernel does to itself.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use crate::call::check;

/// The arguments of a program, where the kernel put them.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    count: usize,
    first: *const *const libc::c_char,
}

impl Arguments {
    /// Wraps what the C library passes to `main`.
    ///
    /// # Safety
    /// `first` must point to `count` strings that end in NUL, followed by a null pointer, which all
    /// stay unchanged as long as the process runs.
    #[must_use]
    pub unsafe fn new(count: libc::c_int, first: *const *const libc::c_char) -> Self {
        Self {
            count: usize::try_from(count).unwrap_or(0),
            first,
        }
    }

    /// Keeps owned strings for ever, for programs that make up their own arguments.
    #[must_use]
    pub fn leak(words: Vec<CString>) -> Self {
        let count = words.len();
        let pointers: Vec<_> = words
            .into_iter()
            .map(|w| w.into_raw().cast_const())
            .chain([ptr::null()])
            .collect();
        Self {
            count,
            first: Vec::leak(pointers).as_ptr(),
        }
    }

    /// How many there are, the program's name included.
    #[must_use]
    pub const fn count(self) -> usize {
        self.count
    }

    /// One of them.
    #[must_use]
    pub fn get(self, index: usize) -> Option<&'static CStr> {
        if index >= self.count {
            return None;
        }
        // Safety: the constructor promised a string there that lives as long as the process.
        Some(unsafe { CStr::from_ptr(*self.first.add(index)) })
    }
}

/// Makes `$run`, a `fn(Arguments) -> i32`, the entry point of a program with `#![no_main]`.
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
            $run(unsafe { $crate::helper_process::Arguments::new(count, arguments) })
        }
    };
}

/// Opens `/dev/null` on each of the descriptors 0, 1 and 2 that is closed.
///
/// The kernel starts its helpers with all three closed; without this the first files a helper opens
/// would become its standard output.
pub fn fill_standard_descriptors() {
    let entry = |fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    let mut entries = [entry(0), entry(1), entry(2)];
    // Safety: the array has three entries; nothing is waited for.
    if unsafe { libc::poll(entries.as_mut_ptr(), 3, 0) } == 0 {
        return;
    }
    for entry in entries.iter().filter(|e| e.revents & libc::POLLNVAL != 0) {
        debug_assert!((0..3).contains(&entry.fd));
        // Safety: the path ends in NUL. The lowest free descriptor is this one, and it is to stay
        // open for the whole life of the process, so nobody owns it.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    }
}

/// The path this program was executed by, as the kernel was told (`AT_EXECFN`).
#[must_use]
pub fn executed_as() -> Option<&'static CStr> {
    // Safety: any type may be asked for; 0 means that the kernel did not pass it.
    let address = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let path = ptr::with_exposed_provenance::<libc::c_char>(address as usize);
    // Safety: the kernel put a string that ends in NUL there, which stays as long as the process.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })
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

/// Undoes [`catch_termination`]: a program that is executed inherits the mask of blocked signals.
pub fn release_termination() {
    let none = empty_set();
    // Safety: the mask is initialised; the former one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// Replaces the process by a program with the arguments of this one.
///
/// Returns only when that failed.
#[must_use]
pub fn execute<const N: usize>(
    program: &CStr,
    arguments: Arguments,
    environment: [&CStr; N],
) -> io::Error {
    let mut pointers = [ptr::null(); 16];
    if N >= pointers.len() {
        return io::ErrorKind::InvalidInput.into();
    }
    for (pointer, text) in pointers.iter_mut().zip(environment) {
        *pointer = text.as_ptr();
    }
    // Safety: the path ends in NUL; both arrays end in a null pointer and point to strings that
    // outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.first, pointers.as_ptr()) };
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
