//! Protection from the out-of-memory killer while the request of a container is undecided.
//!
//! A killed helper would leave the kernel's own answer, `ENOKEY` for a minute.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// Restores the former value when dropped: an executed program must not inherit the protection.
pub(crate) struct Protection {
    file: File,
    former: Vec<u8>,
}

impl Protection {
    /// Sets `oom_score_adj` to −1000; `None` when that is not possible, which changes nothing else.
    pub(crate) fn acquire() -> Option<Self> {
        let path = "/proc/self/oom_score_adj";
        let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        // At most “-1000” and a line break, which the kernel gives at once.
        let mut former = vec![0; 16];
        let length = file.read_at(&mut former, 0).ok()?;
        former.truncate(length);
        file.write_all_at(b"-1000", 0).ok()?;
        Some(Self { file, former })
    }
}

impl Drop for Protection {
    fn drop(&mut self) {
        // There is no remedy; the value is a hint about memory, nothing depends on it.
        let _ = self.file.write_all_at(&self.former, 0);
    }
}
