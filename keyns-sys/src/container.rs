//! Container objects: the five system calls of kernels that have them, and how they get a root.
//!
//! A container is a descriptor. Numbers come from the kernel's own file ([`ContainerAbi`]); where it
//! has no such call, every function here answers `ENOSYS` and calls nothing.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::call::check;
use crate::container_abi::ContainerAbi;
use crate::process::{Fork, SingleThreaded};

/// What a container has of its own, and how it ends (`CONTAINER_NEW_*`).
pub mod flags {
    /// A copy of the creator's mount namespace.
    pub const NEW_FS_NS: u32 = 0x001;
    /// No mount namespace until a root is set.
    pub const NEW_EMPTY_FS_NS: u32 = 0x002;
    /// A cgroup namespace.
    pub const NEW_CGROUP_NS: u32 = 0x004;
    /// A UTS namespace.
    pub const NEW_UTS_NS: u32 = 0x008;
    /// An IPC namespace.
    pub const NEW_IPC_NS: u32 = 0x010;
    /// A user namespace owned by the creator; the other new namespaces belong to it.
    pub const NEW_USER_NS: u32 = 0x020;
    /// A PID namespace; the first process forked into the container is its process 1.
    pub const NEW_PID_NS: u32 = 0x040;
    /// A network namespace.
    pub const NEW_NET_NS: u32 = 0x080;
    /// The last close of the descriptor kills the container.
    pub const KILL_ON_CLOSE: u32 = 0x100;
    /// The descriptor is close-on-exec.
    pub const FD_CLOEXEC: u32 = 0x200;
}

const WAIT_NOHANG: u32 = 1;
const WAIT_DRAINED: u32 = 2;
const KILL_ALL: u32 = 1;

const _: () = assert!(size_of::<libc::siginfo_t>() == 128);

/// How the first process of a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it; or a container was killed before it had one.
    Killed(i32),
}

/// Makes a container (`container_create`); the descriptor is close-on-exec.
///
/// # Errors
/// `ENOSYS` where the kernel has no containers; `EINVAL` (flags, name, a namespace type that was not
/// compiled in), `ENAMETOOLONG`, `EEXIST` (a living sibling has the name), `EPERM`, `ENOSPC` (limits
/// of containers or namespaces), `ECANCELED` (the caller's own container is dead), `ENOMEM`,
/// `EMFILE`, `ENFILE`.
pub fn create(abi: &ContainerAbi, name: &CStr, flags: u32) -> io::Result<OwnedFd> {
    let number = known(abi.create)?;
    let flags = flags | flags::FD_CLOEXEC;
    if flags & !abi.flag_mask != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // Safety: the name ends in NUL; else plain numbers. The number is one that Linux has not given
    // to another call.
    let fd = check(unsafe { libc::syscall(number, name.as_ptr(), flags, 0usize, 0usize, 0usize) })?;
    // Safety: a fresh descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Forks a child into a container (`fork_into_container`): with its namespaces, its credentials and
/// no keyrings at all. The child has the caller's memory and descriptors; it is undumpable until it
/// executes something.
///
/// # Errors
/// `ENOSYS`; `EBADF`, `EINVAL` (no container), `EPERM` (not an ancestor, or not privileged),
/// `ECANCELED` (dead), `ENOENT` (no root yet), `EAGAIN` (limits), `ENOMEM` (also: its PID namespace
/// has lost its process 1).
pub fn fork_into(
    _: &SingleThreaded,
    abi: &ContainerAbi,
    container: BorrowedFd<'_>,
) -> io::Result<Fork> {
    let number = known(abi.fork)?;
    // Safety: plain numbers. Parent and child have separate memory; the proof says that no other
    // thread of the parent can have left a lock in the child's copy.
    let pid = check(unsafe { libc::syscall(number, container.as_raw_fd(), 0u32) })?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // Safety: plain numbers. The child cannot have been waited for, so the id is its own.
    let pidfd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    Ok(Fork::Parent {
        pid: pid as u32,
        // Safety: a fresh descriptor that nobody else knows.
        pidfd: unsafe { OwnedFd::from_raw_fd(pidfd as i32) },
    })
}

/// How the container ended (`container_wait` without waiting); `None` while it lives. With `drained`
/// it lives as long as any process is left in it.
///
/// # Errors
/// `ENOSYS`, `EBADF`, `EINVAL`; `ECHILD` when nothing was ever started in it.
pub fn ended(
    abi: &ContainerAbi,
    container: BorrowedFd<'_>,
    drained: bool,
) -> io::Result<Option<End>> {
    let number = known(abi.wait)?;
    let flags = WAIT_NOHANG | if drained { WAIT_DRAINED } else { 0 };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // Safety: the kernel writes one `siginfo_t`, whose size is asserted above.
    let waited =
        check(unsafe { libc::syscall(number, container.as_raw_fd(), flags, info.as_mut_ptr()) });
    match waited {
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(None),
        other => other?,
    };
    // Safety: zeroed before, and every bit pattern is a valid `siginfo_t`.
    let info = unsafe { info.assume_init() };
    // Safety: the kernel has filled it in as for SIGCHLD, of which the status is a part.
    let status = unsafe { info.si_status() };
    Ok(Some(match info.si_code {
        libc::CLD_EXITED => End::Exited(status),
        _ => End::Killed(status),
    }))
}

/// Sends a signal to the container's first process, or with `all` to every process in it and in
/// those nested in it (`container_kill`). `SIGKILL` ends a container in which nothing runs.
///
/// # Errors
/// `ENOSYS`, `EBADF`, `EINVAL`, `EPERM`; `ESRCH` when there is no process.
pub fn kill(
    abi: &ContainerAbi,
    container: BorrowedFd<'_>,
    signal: i32,
    all: bool,
) -> io::Result<()> {
    let number = known(abi.kill)?;
    let flags = if all { KILL_ALL } else { 0 };
    // Safety: plain numbers.
    check(unsafe { libc::syscall(number, container.as_raw_fd(), signal, flags) }).map(drop)
}

/// Makes a socket in the container's network (`container_socket`), close-on-exec.
///
/// # Errors
/// `ENOSYS`, `EBADF`, `EINVAL`, `EPERM`, `ECANCELED`, and those of `socket(2)`.
pub fn socket(
    abi: &ContainerAbi,
    container: BorrowedFd<'_>,
    domain: i32,
    type_: i32,
    protocol: i32,
) -> io::Result<OwnedFd> {
    let number = known(abi.socket)?;
    let type_ = type_ | libc::SOCK_CLOEXEC;
    // Safety: plain numbers.
    let fd = check(unsafe {
        libc::syscall(number, container.as_raw_fd(), domain, type_, protocol, 0u32)
    })?;
    // Safety: a fresh descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes a file system context one for a container (`FSCONFIG_SET_CONTAINER`): its processes are who
/// procfs shows. Before anything else is configured, and once.
///
/// # Errors
/// `ENOSYS` where the kernel has no such command; `EBADF`, `EINVAL`, `EPERM`, `EBUSY` (too late),
/// `ECANCELED` (dead), `EOPNOTSUPP` (a file system that shows nothing of a container).
pub fn make_file_system_for(
    abi: &ContainerAbi,
    context: BorrowedFd<'_>,
    container: BorrowedFd<'_>,
) -> io::Result<()> {
    let command = known(abi.fsconfig_set_container)?;
    let none = std::ptr::null::<libc::c_char>();
    // Safety: this command takes a descriptor and neither key nor value.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command as libc::c_uint,
            none,
            none,
            container.as_raw_fd(),
        )
    })
    .map(drop)
}

/// Makes a detached tree of mounts the root of a container that has none yet
/// (`move_mount(2)`, `MOVE_MOUNT_T_CONTAINER_ROOT`).
///
/// # Errors
/// `ENOSYS` where the kernel cannot; `EPERM`, `EINVAL` (the tree is attached), `ENOTDIR`, `EBUSY` (it
/// has a root), `ECANCELED` (dead), `ENOSPC`, `ENOMEM`.
pub fn set_root(
    abi: &ContainerAbi,
    tree: BorrowedFd<'_>,
    container: BorrowedFd<'_>,
) -> io::Result<()> {
    move_mount(tree, container, c"/", known(abi.move_mount_root)? as u32)
}

/// Mounts a detached tree at a path below a container's root, which no link in it leads out of.
///
/// # Errors
/// `ENOSYS` where the kernel cannot; those of `move_mount(2)`; `EPERM`, `ENOENT` (no root yet).
pub fn mount_below(
    abi: &ContainerAbi,
    tree: BorrowedFd<'_>,
    container: BorrowedFd<'_>,
    path: &CStr,
) -> io::Result<()> {
    known(abi.move_mount_root)?;
    move_mount(tree, container, path, 0)
}

fn move_mount(
    tree: BorrowedFd<'_>,
    container: BorrowedFd<'_>,
    path: &CStr,
    flags: u32,
) -> io::Result<()> {
    const FROM_EMPTY_PATH: u32 = 0x4;

    // Safety: both paths end in NUL; else plain numbers.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            container.as_raw_fd(),
            path.as_ptr(),
            FROM_EMPTY_PATH | flags,
        )
    })
    .map(drop)
}

/// The number of a call, if the kernel has it.
fn known(number: Option<i64>) -> io::Result<libc::c_long> {
    number.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn without_a_number_nothing_is_called() {
        let abi = ContainerAbi::default();
        let file = std::fs::File::open("/dev/null").unwrap();
        let fd = file.as_fd();
        let absent = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
        absent(create(&abi, c"x", 0).unwrap_err());
        absent(ended(&abi, fd, false).unwrap_err());
        absent(kill(&abi, fd, 0, false).unwrap_err());
        absent(socket(&abi, fd, libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap_err());
    }
}
