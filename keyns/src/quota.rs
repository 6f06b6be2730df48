//! The limits of the key service in `/proc/sys/kernel/keys`.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Where the kernel shows the limits.
pub const DIRECTORY: &str = "/proc/sys/kernel/keys";

/// The limits that hold in the whole machine (`keyrings(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLimits {
    /// Keys of each user but root.
    pub max_keys: u32,
    /// Bytes of each user but root.
    pub max_bytes: u32,
    /// Keys of root (kuid 0 of the initial user namespace).
    pub root_max_keys: u32,
    /// Bytes of root.
    pub root_max_bytes: u32,
    /// How long revoked and expired keys stay, and count, before they are collected.
    pub gc_delay: Duration,
    /// After how long a persistent keyring expires; `None` if the kernel has none.
    pub persistent_expiry: Option<Duration>,
}

impl KeyLimits {
    /// Reads the limits of the running kernel.
    ///
    /// # Errors
    /// Those of reading the files; `InvalidData` for a file that holds no number.
    pub fn read() -> io::Result<Self> {
        Self::read_from(Path::new(DIRECTORY))
    }

    fn read_from(directory: &Path) -> io::Result<Self> {
        let value = |name: &str| -> io::Result<u32> {
            let text = fs::read_to_string(directory.join(name))?;
            text.trim_ascii_end().parse().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{name} is not a number"),
                )
            })
        };
        let seconds = |name: &str| value(name).map(|n| Duration::from_secs(n.into()));
        Ok(Self {
            max_keys: value("maxkeys")?,
            max_bytes: value("maxbytes")?,
            root_max_keys: value("root_maxkeys")?,
            root_max_bytes: value("root_maxbytes")?,
            gc_delay: seconds("gc_delay")?,
            persistent_expiry: match seconds("persistent_keyring_expiry") {
                Ok(expiry) => Some(expiry),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
        })
    }

    /// The most keys and bytes of a user, by its uid in the initial user namespace.
    #[must_use]
    pub fn of(&self, kuid: u32) -> (u32, u32) {
        if kuid == 0 {
            (self.root_max_keys, self.root_max_bytes)
        } else {
            (self.max_keys, self.max_bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_users;

    #[test]
    fn the_kernels_limits_are_those_it_shows_for_root() {
        let limits = KeyLimits::read().unwrap();
        let users = fs::read_to_string("/proc/key-users").unwrap();
        let root = key_users::find(&users, 0).unwrap();
        assert_eq!(limits.of(0), (root.max_keys, root.max_bytes));
        assert_eq!(limits.of(1000), (limits.max_keys, limits.max_bytes));
    }

    #[test]
    fn a_missing_persistent_keyring_is_no_error_and_a_broken_file_is() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("maxkeys", "200\n"),
            ("maxbytes", "20000\n"),
            ("root_maxkeys", "7\n"),
            ("gc_delay", "300\n"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let read = || KeyLimits::read_from(dir.path());
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(dir.path().join("root_maxbytes"), "9\n").unwrap();
        let limits = read().unwrap();
        assert_eq!((limits.of(0), limits.of(1)), ((7, 9), (200, 20000)));
        assert_eq!(limits.persistent_expiry, None);
        fs::write(dir.path().join("maxkeys"), "many\n").unwrap();
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
