//! `clone3(2)` for single-threaded helpers, and what programs that are started get along.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::call::check;

/// Proof that the process had one thread when it was made.
///
/// A forked child of a multi-threaded process may only call async-signal-safe functions; the child
/// of a single-threaded one is an ordinary process. [`fork`] demands this proof, so that it needs
/// no unsafe block at its callers. Helpers make it first thing and start no threads.
#[derive(Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads of the calling process.
    ///
    /// # Errors
    /// `EBUSY` when there is more than one, or the error of reading `/proc/self/task`.
    pub fn prove() -> io::Result<Self> {
        if fs::read_dir("/proc/self/task")?.count() == 1 {
            Ok(Self(()))
        } else {
            Err(io::Error::from_raw_os_error(libc::EBUSY))
        }
    }
}

/// How [`fork`] makes the child.
#[derive(Debug, Default, Clone, Copy)]
pub struct ForkOptions<'a> {
    /// Put the child into this cgroup2 directory (`CLONE_INTO_CGROUP`).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Give the child a new PID namespace, in which it is process 1 (`CLONE_NEWPID`).
    pub new_pid_namespace: bool,
    /// Make the child a sibling: its parent is the caller's parent (`CLONE_PARENT`).
    pub sibling: bool,
}

/// Which side of a [`fork`] this is.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The caller.
    Parent {
        /// The child's id in the caller's PID namespace.
        pid: u32,
        /// A descriptor of the child (`pidfd_open(2)`).
        pidfd: OwnedFd,
    },
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes the program that `command` will start end, by `SIGKILL`, with the thread that starts it:
/// however that ends, and nobody who dies by a signal can do it himself (`PR_SET_PDEATHSIG`, prctl(2)).
///
/// It holds for this program, not for those that it starts, and no longer when it executes a set-user-id
/// program or changes its ids.
pub fn end_with_this_thread(command: &mut Command) {
    let parent = std::process::id();
    let before_exec = move || {
        let signal = libc::SIGKILL as libc::c_ulong;
        // Safety: plain numbers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }.into())?;
        // Safety: getppid has no argument.
        if u32::try_from(unsafe { libc::getppid() }) == Ok(parent) {
            return Ok(());
        }
        // It died before it could be asked for.
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    };
    // Safety: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(before_exec) };
}

/// `struct clone_args` of `clone3(2)`, version 2 (88 bytes, Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const _: () = assert!(size_of::<CloneArgs>() == 88);

/// Makes a child process.
///
/// # Errors
/// `clone3(2)`: `EAGAIN` (process limits), `EBUSY` or `EACCES` (cgroup), `EPERM`, `ENOMEM` (also:
/// the PID namespace has lost its process 1), `ENOSPC` (namespaces nested too deeply).
pub fn fork(_: &SingleThreaded, options: ForkOptions<'_>) -> io::Result<Fork> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: CLONE_PIDFD,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = options.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    if options.new_pid_namespace {
        args.flags |= CLONE_NEWPID;
    }
    if options.sibling {
        args.flags |= CLONE_PARENT;
        // A sibling reports with the caller's own exit signal; the kernel demands 0 here.
        args.exit_signal = 0;
    }
    // Safety: the arguments have the layout the kernel expects and live through the call. Without
    // CLONE_VM parent and child have separate memory; the proof says no other thread of the parent
    // can have left a lock in the child's copy.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // Safety: the kernel stored a fresh descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent {
        pid: pid as u32,
        pidfd,
    })
}

/// Closes every descriptor from `first` on, those in `keep` excepted (`close_range(2)`).
///
/// # Errors
/// `close_range(2)`: `ENOMEM`, `EMFILE`.
///
/// # Safety of the process
/// Owned descriptors elsewhere in the process are closed under their owners; only a child that is
/// about to execute or exit may call this, which the proof stands for.
pub fn close_all_but(_: &SingleThreaded, first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    keep.sort_unstable();
    let mut next = first;
    let close = |from: u32, to: u32| {
        if from > to {
            return Ok(());
        }
        // Safety: see above; plain numbers.
        check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) }).map(drop)
    };
    for fd in keep {
        if fd < next {
            continue;
        }
        if fd > 0 {
            close(next, fd - 1)?;
        }
        next = fd + 1;
    }
    close(next, u32::MAX)
}

/// Takes ownership of an inherited descriptor, e.g. standard input that the parent made a socket.
///
/// # Errors
/// `EBADF` when it is not open.
pub fn take_inherited(_: &SingleThreaded, fd: i32) -> io::Result<OwnedFd> {
    // Safety: F_GETFD only asks.
    check(unsafe { libc::c_long::from(libc::fcntl(fd, libc::F_GETFD)) })?;
    // Safety: open (asked above); a helper takes each inherited descriptor once, at its start.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Switches the loopback interface of the calling process' network namespace on
/// (`SIOCSIFFLAGS`, `netdevice(7)`).
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` over the namespace.
pub fn loopback_up() -> io::Result<()> {
    // Safety: plain numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // Safety: a fresh descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // Safety: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // Safety: the request is a valid `ifreq` that lives through the call.
    let ret = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as libc::Ioctl,
            &raw const request,
        )
    };
    check(libc::c_long::from(ret)).map(drop)
}

/// Gives every signal its default disposition, which a program executed next inherits
/// (`signal(7)`: ignored signals stay ignored over `execve(2)`).
pub fn reset_signals(_: &SingleThreaded) {
    for signal in 1..=64 {
        // Safety: the default disposition runs no code of this process. KILL, STOP and the C
        // library's own signals cannot be changed, which is no loss.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// How a child process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Waits for the end of any child (wait(2)) and returns its id.
///
/// # Errors
/// `ECHILD` when there is none.
pub fn wait_child() -> io::Result<(u32, Ending)> {
    wait(-1)
}

/// Waits for the end of one child, or of any if `child` is −1 (waitpid(2)).
pub(crate) fn wait(child: libc::pid_t) -> io::Result<(u32, Ending)> {
    loop {
        let mut status = 0;
        // Safety: the status is exclusively borrowed.
        match check(unsafe { libc::waitpid(child, &raw mut status, 0) }.into()) {
            Ok(pid) if libc::WIFEXITED(status) => {
                return Ok((pid as u32, Ending::Exited(libc::WEXITSTATUS(status))));
            }
            Ok(pid) => return Ok((pid as u32, Ending::Killed(libc::WTERMSIG(status)))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends `SIGTERM` to a process (`pidfd_send_signal(2)`).
///
/// # Errors
/// `ESRCH` when it has ended and was waited for, `EPERM`.
pub fn terminate(process: BorrowedFd<'_>) -> io::Result<()> {
    // Safety: plain numbers and a null pointer, which stands for the usual signal information.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGTERM,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_program_ends_with_the_thread_that_started_it() {
        let started = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            end_with_this_thread(command.arg("60"));
            command.spawn().unwrap()
        });
        let mut child = started.join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
