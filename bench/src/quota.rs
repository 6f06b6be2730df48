//! The key quota of a container's user, out of the way of a measurement.

use std::fs;
use std::io;

/// What thousands of requests need, as the kernel frees invalidated keys in its own time and counts
/// them until then. Where the quota is short it loses requests of either program with `EDQUOT` or,
/// when only the link into the session keyring does not fit any more, `ENOKEY`.
const NEEDED: [(&str, &str); 2] = [
    ("/proc/sys/kernel/keys/maxkeys", "20000"),
    ("/proc/sys/kernel/keys/maxbytes", "2000000"),
];

/// A raised quota; dropped, it is as it was.
pub(crate) struct Raised(Vec<(&'static str, String)>);

impl Raised {
    /// # Errors
    /// Those of reading and writing the sysctls.
    pub(crate) fn new() -> io::Result<Self> {
        let mut raised = Self(Vec::new());
        for (path, value) in NEEDED {
            let before = fs::read_to_string(path)?;
            fs::write(path, value)?;
            raised.0.push((path, before));
        }
        Ok(raised)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        for (path, before) in &self.0 {
            if let Err(error) = fs::write(path, before) {
                eprintln!(
                    "warning: {path} is not as it was ({}): {error}",
                    before.trim()
                );
            }
        }
    }
}
