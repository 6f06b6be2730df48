//! What the kernel answered, read back from the probe's output and from `/proc`.

use std::fs;
use std::path::Path;

use keyns::proc_keys::{self, ProcKey};
use keyns_sys::KeySerial;
use keyns_sys::container_key::Named;

use super::shell::Ran;
use crate::error::CommandError;
use crate::key_list::{KeyList, subject_name};

/// How a request_key(2) of the probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The key's serial, and its payload or the error of reading it.
    Key(i32, String),
    /// The name of the error.
    Error(String),
}

impl Answer {
    /// Reads it from the probe's output.
    ///
    /// # Errors
    /// When the output holds no such call, e.g. because the process could not be started.
    pub fn of(ran: &Ran) -> Result<Self, CommandError> {
        let missing = || {
            CommandError::failure(format!("no answer of the kernel from: {}", ran.line))
                .cause(format!("{}{}", ran.stdout.trim(), ran.stderr.trim()))
        };
        let value = value_of(&ran.stdout, "request_key(").ok_or_else(missing)?;
        match value.parse() {
            Ok(serial) => {
                let payload = read_payload(&ran.stdout).unwrap_or_default();
                Ok(Self::Key(serial, payload))
            }
            Err(_) => Ok(Self::Error(errno_of(&value).ok_or_else(missing)?)),
        }
    }

    /// The payload or the name of the error: what is compared and recorded.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Key(_, payload) => payload,
            Self::Error(name) => name,
        }
    }

    /// The serial of the key found.
    #[must_use]
    pub fn serial(&self) -> Option<i32> {
        match self {
            Self::Key(serial, _) => Some(*serial),
            Self::Error(_) => None,
        }
    }
}

/// The payload that `KEYCTL_READ` gave, or the name of its error.
#[must_use]
pub fn read_payload(stdout: &str) -> Option<String> {
    let value = value_of(stdout, "keyctl(KEYCTL_READ")?;
    if let Some(name) = errno_of(&value) {
        return Some(name);
    }
    let (_, text) = value.split_once(' ')?;
    Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// The serials in the braces of each `KEYCTL_READ` of a keyring.
#[must_use]
pub fn rings(stdout: &str) -> Vec<Vec<i32>> {
    let braces = |line: &str| {
        let inner = line.rsplit_once('{')?.1.strip_suffix('}')?;
        Some(
            inner
                .split(", ")
                .filter_map(|word| word.parse().ok())
                .collect(),
        )
    };
    stdout.lines().filter_map(braces).collect()
}

/// What stands after the last ` = ` of the first line that begins with `call`.
fn value_of(stdout: &str, call: &str) -> Option<String> {
    let line = stdout.lines().find(|line| line.starts_with(call))?;
    // The arguments are quoted text of our own choice; none holds an equals sign between spaces.
    line.rsplit_once(" = ").map(|(_, value)| value.to_owned())
}

fn errno_of(value: &str) -> Option<String> {
    value
        .strip_prefix("-1 ")?
        .split(' ')
        .next()
        .map(str::to_owned)
}

/// The number after `label = ` in the probe's output.
#[must_use]
pub fn number(stdout: &str, call: &str) -> Option<u32> {
    value_of(stdout, call)?.parse().ok()
}

/// All keys that this process can see.
///
/// # Errors
/// When `/proc/keys` cannot be read.
pub fn visible_keys() -> Result<Vec<ProcKey>, CommandError> {
    let text = read("/proc/keys")?;
    Ok(proc_keys::lines(&text).collect())
}

/// The line of one key in `/proc/keys`.
///
/// # Errors
/// As [`visible_keys`].
pub fn visible_key(serial: i32) -> Result<Option<ProcKey>, CommandError> {
    let wanted = KeySerial::new(serial);
    Ok(visible_keys()?.into_iter().find(|key| key.serial == wanted))
}

/// What a key permits to whom: its list of rights without the owner's, which is the host's root; where
/// it has none, its mask.
///
/// # Errors
/// When the kernel does not say.
pub fn permissions(serial: i32) -> Result<String, CommandError> {
    let serial = KeySerial::new(serial);
    let list = KeyList::of(serial)
        .map_err(|error| CommandError::io(format!("cannot read the rights of {serial}"), &error))?;
    let Some(list) = list.filter(KeyList::is_set) else {
        let mask = visible_key(serial.raw())?.map_or(0, |key| key.mask.raw());
        return Ok(format!("mask {mask:08x}"));
    };
    let others = list.entries().filter(|entry| entry.0 != Named::Owner);
    let entries = others.map(|(subject, rights, dead)| {
        let dead = if dead { " (dead)" } else { "" };
        format!("{}{dead}: {rights}", subject_name(subject))
    });
    Ok(entries.collect::<Vec<_>>().join("; "))
}

/// Reads a file of `/proc` or `/sys`.
///
/// # Errors
/// Those of the file system.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, CommandError> {
    let path = path.as_ref();
    fs::read(path)
        .map_err(|error| CommandError::io(format!("cannot read {}", path.display()), &error))
}

/// A line of `/proc/PID/status`, without its label.
///
/// # Errors
/// When the process is gone.
pub fn status(pid: u32, label: &str) -> Result<String, CommandError> {
    let text = String::from_utf8_lossy(&read(format!("/proc/{pid}/status"))?).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
    Ok(line.unwrap_or_default().trim().to_owned())
}

/// A namespace of a process, such as `pid:[4026531836]`.
///
/// # Errors
/// When the process is gone.
pub fn namespace(pid: &str, kind: &str) -> Result<String, CommandError> {
    let path = format!("/proc/{pid}/ns/{kind}");
    fs::read_link(&path)
        .map(|link| link.to_string_lossy().into_owned())
        .map_err(|error| CommandError::io(format!("cannot read {path}"), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(stdout: &str) -> Ran {
        Ran {
            line: String::new(),
            status: 0,
            stdout: stdout.to_owned(),
            stderr: String::new(),
        }
    }

    #[test]
    fn a_key_that_was_found_is_told_from_an_error() {
        let found = "getpid() = 7\nrequest_key(\"user\", \"a\", NULL, 0) = 12\nkeyctl(KEYCTL_READ, 12) = 2 \"ab\"\n";
        assert_eq!(
            Answer::of(&ran(found)).unwrap(),
            Answer::Key(12, "ab".into())
        );
        assert_eq!(number(found, "getpid()"), Some(7));
        let refused =
            "request_key(\"user\", \"a\", \"\", 0) = -1 ENOKEY (Required key not available)\n";
        assert_eq!(
            Answer::of(&ran(refused)).unwrap(),
            Answer::Error("ENOKEY".into())
        );
        assert!(Answer::of(&ran("")).is_err());
    }

    #[test]
    fn keyrings_are_lists() {
        let text =
            "keyctl(KEYCTL_READ, KEY_SPEC_SESSION_KEYRING) = {5}\nkeyctl(KEYCTL_READ, 5) = {}\n";
        assert_eq!(rings(text), [vec![5], vec![]]);
    }
}
