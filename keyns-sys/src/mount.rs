//! `mount_setattr(2)`.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::call::check;

/// No writing (`MOUNT_ATTR_RDONLY`).
pub const RDONLY: u64 = 0x1;
/// No set-user-id programs (`MOUNT_ATTR_NOSUID`).
pub const NOSUID: u64 = 0x2;
/// No device nodes (`MOUNT_ATTR_NODEV`).
pub const NODEV: u64 = 0x4;
/// No programs (`MOUNT_ATTR_NOEXEC`).
pub const NOEXEC: u64 = 0x8;

/// `struct mount_attr`, first version (32 bytes, Linux 5.12).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const _: () = assert!(size_of::<MountAttr>() == 32);

/// Adds `attributes` to a mount, given by a descriptor of its root; those it has stay.
///
/// # Errors
/// `mount_setattr(2)`: `EINVAL` for what is no mount, `EPERM` without `CAP_SYS_ADMIN`.
pub fn restrict(mount: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    let attr = MountAttr {
        set: attributes,
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // Safety: the path is empty and ends in NUL; `attr` has the layout and size that are announced.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}
