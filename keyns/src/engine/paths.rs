//! Where an instance keeps its things.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::container::ContainerId;
use super::pin;

/// Directory shared by all instances of the machine.
pub const SHARED: &str = "/run/keyns";

/// Directories and sockets of one instance.
#[derive(Clone, Debug)]
pub struct Paths {
    instance: String,
}

impl Paths {
    /// Checks an instance's name: 1 to 32 letters, digits, `-` and `_`, and none of the names the
    /// shared directory uses itself.
    ///
    /// # Errors
    /// A sentence saying what is wrong.
    pub fn new(instance: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if instance.is_empty() || instance.len() > 32 || !instance.bytes().all(allowed) {
            return Err("an instance name has 1 to 32 letters, digits, “-” or “_”".into());
        }
        // Files and directories of all instances in /run/keyns and /var/lib/keyns.
        if ["live", "ids", "lock", "keyns-upcall"].contains(&instance)
            || instance.contains("request-key")
        {
            return Err(format!("“{instance}” is used by keyns itself"));
        }
        Ok(Self {
            instance: instance.to_owned(),
        })
    }

    /// Name of the instance.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Runtime directory, gone with the machine's boot.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        Path::new(SHARED).join(&self.instance)
    }

    /// State that survives the daemon.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        Path::new("/var/lib/keyns").join(&self.instance)
    }

    /// Private tmpfs that holds the pins.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.runtime().join("ns")
    }

    /// Pins of one container.
    #[must_use]
    pub fn container_pins(&self, id: ContainerId) -> PathBuf {
        self.pins().join(id.to_string())
    }

    /// Pin of the mount namespace from which those of containers are copied.
    #[must_use]
    pub fn seed(&self) -> PathBuf {
        self.pins().join(pin::SEED)
    }

    /// Socket of one container's monitor.
    #[must_use]
    pub fn monitor(&self, id: ContainerId) -> PathBuf {
        self.runtime().join("monitor").join(id.to_string())
    }

    /// Socket that `keyns-upcall` connects to.
    #[must_use]
    pub fn upcall(&self) -> PathBuf {
        self.runtime().join("upcall")
    }

    /// Varlink socket for everybody.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime().join("keynsd")
    }

    /// Varlink socket for root, with connections of its own.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.runtime().join("admin")
    }
}

pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    // Others may pass through to the varlink socket, not look.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
}
