//! Bind mounts over single files.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};

use super::place::{Result, TakeOverError, failed, identity};

/// Whether mounts and files of this process are those the kernel's helpers see.
///
/// Kernel threads keep the mount namespace and root directory of the first process; thread 2 is
/// their parent and can be looked at where process 1 is shielded.
///
/// # Errors
/// [`TakeOverError::Elsewhere`] when they differ or that cannot be found out.
pub(super) fn require_kernels_view() -> Result<()> {
    /// The inode the kernel gives the initial PID namespace (`PROC_PID_INIT_INO`): only there
    /// thread 2 is the one meant.
    const INITIAL: &str = "pid:[4026531836]";
    let link = |path: &str| fs::read_link(path).ok();
    let initial = link("/proc/self/ns/pid").is_some_and(|l| l == Path::new(INITIAL));
    let kernel = link("/proc/2/ns/mnt");
    let root = |path: &str| identity(Path::new(path)).ok().flatten();
    let same = kernel.is_some()
        && kernel == link("/proc/self/ns/mnt")
        && root("/proc/2/root").is_some()
        && root("/proc/2/root") == root("/");
    if initial && same {
        Ok(())
    } else {
        Err(TakeOverError::Elsewhere)
    }
}

/// A mount on exactly one path.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// What was mounted, as a path within its file system.
    root: PathBuf,
    point: PathBuf,
}

fn mounts_on(point: &Path) -> Result<Vec<Mount>> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read(path).map_err(failed("read", path))?;
    Ok(parse(&text)
        .into_iter()
        .filter(|m| m.point == point)
        .collect())
}

fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescape(field)));
    mountinfo
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|b| *b == b' ').skip(3);
            Some(Mount {
                root: path(fields.next()?),
                point: path(fields.next()?),
            })
        })
        .collect()
}

/// Undoes `\040` and the like (`mangle_path`).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .split_at_checked(3)
            .filter(|_| *first == b'\\')
            .and_then(|(code, after)| {
                Some((
                    u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok()?,
                    after,
                ))
            });
        let (byte, after) = octal.unwrap_or((*first, tail));
        plain.push(byte);
        rest = after;
    }
    plain
}

/// Binds one file over another.
pub(super) fn bind(from: &Path, over: &Path) -> Result<()> {
    mount_bind(from, over).map_err(failed("mount on", over))
}

/// Binds a program over itself, read-only and executable whatever its file system is mounted with:
/// Debian mounts `/run` with `noexec`, and a bind mount takes the flags of its source along.
pub(super) fn bind_executable(program: &Path) -> Result<()> {
    bind(program, program)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(program, flags, "").map_err(failed("remount", program))
}

/// Takes away every mount on `point`.
pub(super) fn unbind_all(point: &Path) -> Result<()> {
    while !mounts_on(point)?.is_empty() {
        // Detached: a request may be running the program just now.
        unmount(point, UnmountFlags::DETACH).map_err(failed("unmount", point))?;
    }
    Ok(())
}

/// Takes away the mounts on `point` that show a file called `name`, and no others.
///
/// # Errors
/// Also when one of ours lies beneath a mount of somebody else, which must go first.
pub(super) fn unbind(point: &Path, name: &str) -> Result<()> {
    loop {
        let mounts = mounts_on(point)?;
        let ours = |mount: &Mount| {
            let shown = mount.root.file_name().is_some_and(|n| n == name);
            // A source that was removed: `/run/keyns/keyns-upcall//deleted`.
            let removed = mount.root.ends_with(Path::new(name).join("deleted"));
            shown || removed
        };
        match mounts.last() {
            Some(top) if ours(top) => {
                // Detached: a request may be running the program just now.
                unmount(point, UnmountFlags::DETACH).map_err(failed("unmount", point))?;
            }
            _ if mounts.iter().any(ours) => {
                return Err(failed("unmount", point)(std::io::Error::other(
                    "another mount lies on top of the one to take away",
                )));
            }
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_escapes_are_undone() {
        let text =
            b"36 25 0:32 /run/a\\040b /usr/sbin/x\\134y rw shared:1 - tmpfs tmpfs rw\n\n1 2\n";
        let mount = Mount {
            root: "/run/a b".into(),
            point: "/usr/sbin/x\\y".into(),
        };
        assert_eq!(parse(text), [mount]);
        assert_eq!(unescape(b"a\\04"), b"a\\04");
        assert_eq!(unescape(b"\\999"), b"\\999");
    }
}
