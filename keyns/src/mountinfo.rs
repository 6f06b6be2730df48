//! The lines of `/proc/self/mountinfo` (proc_pid_mountinfo(5)), as far as keyns needs them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount of the reader's mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// Number of the mount.
    pub id: u32,
    /// Number of the mount it is mounted on.
    pub parent: u32,
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where, relative to the reader's root directory.
    pub mount_point: PathBuf,
    /// Type of the file system.
    pub file_system: Vec<u8>,
}

impl MountLine {
    /// Reads one line without its line break; `None` if the kernel does not write such lines.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|b| *b == b' ');
        let id = number(fields.next()?)?;
        let parent = number(fields.next()?)?;
        let _device = fields.next()?;
        let root = path(fields.next()?)?;
        let mount_point = path(fields.next()?)?;
        let _options = fields.next()?;
        // Optional fields, then a dash.
        fields.find(|field| *field == b"-")?;
        let file_system = fields.next().filter(|name| !name.is_empty())?.to_vec();
        Some(Self {
            id,
            parent,
            root,
            mount_point,
            file_system,
        })
    }
}

/// All mounts the file shows, in its order.
pub fn lines(file: &[u8]) -> impl Iterator<Item = MountLine> {
    file.split(|b| *b == b'\n').filter_map(MountLine::parse)
}

fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// Undoes `mangle()` of the kernel: blank, tabulator, line break and backslash as `\ooo`.
fn path(text: &[u8]) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'\\' {
            let (digits, tail) = tail.split_at_checked(3)?;
            if !digits.iter().all(|d| (b'0'..=b'7').contains(d)) {
                return None;
            }
            bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    if bytes.is_empty() {
        None
    } else {
        Some(PathBuf::from(OsString::from_vec(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_fields_are_read_with_and_without_optional_ones() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw";
        let mount = MountLine::parse(line).unwrap();
        assert_eq!((mount.id, mount.parent), (36, 35));
        assert_eq!(mount.root, PathBuf::from("/mnt1"));
        assert_eq!(mount.mount_point, PathBuf::from("/mnt 2"));
        assert_eq!(mount.file_system, b"ext3");
        let line = b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(MountLine::parse(line).unwrap().file_system, b"cgroup2");
    }

    #[test]
    fn lines_of_another_form_are_refused() {
        for line in [
            &b""[..],
            b"36 35 98:0 / /a rw shared:2",
            b"36 35 98:0 / /a rw -",
            b"x 35 98:0 / /a rw - ext3 a rw",
            b"36 35 98:0 / /a\\04 rw - ext3 a rw",
            b"36 35 98:0 / /a\\999 rw - ext3 a rw",
            b"36 35 98:0 / /a\\777 rw - ext3 a rw",
        ] {
            assert_eq!(MountLine::parse(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn the_kernels_own_file_is_understood_line_by_line() {
        let file = std::fs::read("/proc/self/mountinfo").unwrap();
        let whole = file
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .count();
        assert_eq!(lines(&file).count(), whole);
        assert!(lines(&file).any(|m| m.mount_point.as_os_str() == "/proc"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = MountLine::parse(&bytes);
        }

        #[test]
        fn any_path_survives_the_kernels_escaping(
            name in proptest::collection::vec(1..=255u8, 1..40)
        ) {
            let mut escaped = Vec::new();
            for byte in &name {
                if b" \t\n\\".contains(byte) {
                    escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
                } else {
                    escaped.push(*byte);
                }
            }
            let line = [b"1 2 0:1 / ", &escaped[..], b" rw - tmpfs none rw"].concat();
            let mount = MountLine::parse(&line).unwrap();
            prop_assert_eq!(mount.mount_point.into_os_string().into_vec(), name);
        }
    }
}
