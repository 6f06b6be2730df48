//! Protection from the out-of-memory killer while the request of a container is undecided.
//!
//! A killed helper would leave the kernel's own answer, `ENOKEY` for a minute.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};

/// Restores the former value when dropped: an executed program must not inherit the protection.
pub(crate) struct Protection {
    file: File,
    former: Vec<u8>,
}

impl Protection {
    /// Sets `oom_score_adj` to −1000; `None` when that is not possible, which changes nothing else.
    pub(crate) fn acquire() -> Option<Self> {
        let path = "/proc/self/oom_score_adj";
        let mut file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        let mut former = Vec::with_capacity(16);
        file.read_to_end(&mut former).ok()?;
        let mut protection = Self { file, former };
        protection.write(b"-1000")?;
        Some(protection)
    }

    fn write(&mut self, value: &[u8]) -> Option<()> {
        self.file.rewind().ok()?;
        self.file.write_all(value).ok()
    }
}

impl Drop for Protection {
    fn drop(&mut self) {
        let former = std::mem::take(&mut self.former);
        // There is no remedy; the value is a hint about memory, nothing depends on it.
        let _ = self.write(&former);
    }
}
