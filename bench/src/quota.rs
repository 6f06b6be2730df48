//! The key quota of a container's user, out of the way of a measurement.

use std::fs;
use std::io::{self, ErrorKind};

/// What thousands of requests need, as the kernel frees invalidated keys in its own time and counts
/// them until then. Where the quota is short it loses requests of either program with `EDQUOT` or,
/// when only the link into the session keyring does not fit any more, `ENOKEY`.
const NEEDED: [(&str, &str); 2] = [
    ("/proc/sys/kernel/keys/maxkeys", "20000"),
    ("/proc/sys/kernel/keys/maxbytes", "2000000"),
];

/// What the quota was, for the run after one that was killed.
const RECORD: &str = "/run/keyns-bench-quota";

/// A raised quota; dropped, it is as it was.
pub(crate) struct Raised(());

impl Raised {
    /// # Errors
    /// Those of reading and writing the sysctls and the record of what they were.
    pub(crate) fn new() -> io::Result<Self> {
        restore()?;
        let mut record = String::new();
        for (path, _) in NEEDED {
            record.push_str(&format!("{path} {}\n", fs::read_to_string(path)?.trim()));
        }
        fs::write(RECORD, record)?;
        let raised = Self(());
        for (path, value) in NEEDED {
            fs::write(path, value)?;
        }
        Ok(raised)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Err(error) = restore() {
            eprintln!("warning: the key quota is not as it was, see {RECORD}: {error}");
        }
    }
}

/// Makes the quota what the record says, if there is one.
fn restore() -> io::Result<()> {
    let record = match fs::read_to_string(RECORD) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for line in record.lines() {
        if let Some((path, value)) = line.split_once(' ')
            && NEEDED.iter().any(|(known, _)| *known == path)
        {
            fs::write(path, value)?;
        }
    }
    fs::remove_file(RECORD)
}
