//! The file system ids of the calling *thread*, by which the kernel judges ownership of keys, and
//! the ids that programs show in their place.
//!
//! The C library's `setuid` family changes every thread of the process; these are the raw calls,
//! which change the caller alone. They never report failure, so the result is read back.

#![allow(unsafe_code)]

use std::io;

use crate::call::check;

/// Sets the file system uid of the calling thread (`setfsuid(2)`); only the thread is affected.
///
/// # Errors
/// `EPERM` if the id is not what was asked for afterwards: without `CAP_SETUID` it has to be one of
/// the thread's own, and it has to be mapped in its user namespace. `EINVAL` for 4294967295.
pub fn set_fsuid(uid: u32) -> io::Result<()> {
    set(libc::SYS_setfsuid, uid)
}

/// Sets the file system gid of the calling thread (`setfsgid(2)`); only the thread is affected.
///
/// # Errors
/// As for [`set_fsuid`], with `CAP_SETGID`.
pub fn set_fsgid(gid: u32) -> io::Result<()> {
    set(libc::SYS_setfsgid, gid)
}

/// The file system uid of the calling thread.
#[must_use]
pub fn fsuid() -> u32 {
    exchange(libc::SYS_setfsuid, u32::MAX)
}

/// The file system gid of the calling thread.
#[must_use]
pub fn fsgid() -> u32 {
    exchange(libc::SYS_setfsgid, u32::MAX)
}

/// The effective uid of the process.
#[must_use]
pub fn effective_uid() -> u32 {
    // Safety: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// The effective gid of the process.
#[must_use]
pub fn effective_gid() -> u32 {
    // Safety: takes nothing and cannot fail.
    unsafe { libc::getegid() }
}

/// The supplementary groups of the process (getgroups(2)), at most 65536.
///
/// # Errors
/// `EINVAL` when the groups grew between two calls.
pub fn groups() -> io::Result<Vec<u32>> {
    let call = |size, list| {
        // Safety: the list is null with size 0, or has `size` entries.
        check(unsafe { libc::getgroups(size, list) }.into())
    };
    let count = call(0, std::ptr::null_mut())?;
    if count == 0 {
        return Ok(Vec::new());
    }
    // At most NGROUPS_MAX.
    let mut groups = vec![0; count as usize];
    let count = call(count as libc::c_int, groups.as_mut_ptr())?;
    groups.truncate(count as usize);
    Ok(groups)
}

/// The permitted capabilities of a thread, one bit each (capget(2), version 3).
///
/// # Errors
/// `ESRCH` when there is no such thread.
pub fn permitted(tid: u32) -> io::Result<u64> {
    /// `_LINUX_CAPABILITY_VERSION_3`: two sets of 32.
    const VERSION: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let pid =
        libc::c_int::try_from(tid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut header = Header {
        version: VERSION,
        pid,
    };
    let mut sets = [Sets::default(); 2];
    // Safety: both are exclusively borrowed, and version 3 fills two sets.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    Ok(u64::from(sets[1].permitted) << 32 | u64::from(sets[0].permitted))
}

fn set(call: libc::c_long, id: u32) -> io::Result<()> {
    // −1 is never valid, which is also what makes it good for reading.
    if id == u32::MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    exchange(call, id);
    if exchange(call, u32::MAX) == id {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

/// Returns the id before the call.
fn exchange(call: libc::c_long, id: u32) -> u32 {
    // Safety: both calls take one number, touch no memory of this process and cannot fail.
    unsafe { libc::syscall(call, id) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_change_for_one_thread_only_and_can_be_taken_back() {
        assert_eq!(fsuid(), 0, "run as root");
        std::thread::spawn(|| {
            set_fsuid(61_234).unwrap();
            set_fsgid(61_235).unwrap();
            assert_eq!((fsuid(), fsgid()), (61_234, 61_235));
            set_fsuid(0).unwrap();
            assert_eq!(fsuid(), 0);
        })
        .join()
        .unwrap();
        assert_eq!((fsuid(), fsgid()), (0, 0));
    }

    #[test]
    fn large_ids_are_not_mistaken_for_errors() {
        std::thread::spawn(|| {
            set_fsuid(u32::MAX - 1).unwrap();
            assert_eq!(fsuid(), u32::MAX - 1);
            assert_eq!(
                set_fsuid(u32::MAX).unwrap_err().raw_os_error(),
                Some(libc::EINVAL)
            );
            assert_eq!(fsuid(), u32::MAX - 1);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_id_that_is_not_allowed_is_an_error_not_a_silent_success() {
        std::thread::spawn(|| {
            // Safety: raw calls, so that only this thread loses its privilege.
            unsafe { libc::syscall(libc::SYS_setresuid, 61_234, 61_234, 61_234) };
            assert_eq!(fsuid(), 61_234);
            assert_eq!(set_fsuid(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        })
        .join()
        .unwrap();
    }
}
