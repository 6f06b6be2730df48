//! What the kernel says about a key, checked after every look-up by serial.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;

use keyns_sys::{KeySerial, key};

use crate::description::KeyDescription;
use crate::key_users::{self, KeyUser};
use crate::proc_keys;

/// A key as `KEYCTL_DESCRIBE` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Serial number.
    pub serial: KeySerial,
    /// Type.
    pub type_: CString,
    /// Description: any bytes but NUL.
    pub description: CString,
    /// Owner (kernel uid, as the worker lives in the initial user namespace).
    pub uid: u32,
    /// Group (kernel gid).
    pub gid: u32,
    /// Permission mask.
    pub mask: u32,
}

impl KeyFacts {
    /// Asks the kernel; needs VIEW.
    pub(super) fn of(serial: KeySerial) -> io::Result<Self> {
        let described = KeyDescription::parse(&key::describe(serial)?)
            .map_err(|bad| io::Error::other(bad.to_string()))?;
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::other);
        Ok(Self {
            serial,
            type_: text(described.type_)?,
            description: text(described.description)?,
            uid: described.uid.unwrap_or(u32::MAX),
            gid: described.gid.unwrap_or(u32::MAX),
            mask: described.mask.raw(),
        })
    }

    /// Whether this is the key of that type and description.
    #[must_use]
    pub fn is(&self, type_: &CStr, description: &CStr) -> bool {
        *self.type_ == *type_ && *self.description == *description
    }

    /// Whether it is a keyring.
    #[must_use]
    pub fn is_keyring(&self) -> bool {
        *self.type_ == *c"keyring"
    }
}

/// The line of `uid` in `/proc/key-users` in words: `200 of 200 keys, 4312 of 20000 bytes`.
pub(super) fn quota_usage(uid: u32) -> Option<String> {
    let user = key_users::find(&fs::read_to_string("/proc/key-users").ok()?, uid)?;
    let KeyUser {
        charged_keys,
        max_keys,
        charged_bytes,
        max_bytes,
        ..
    } = user;
    Some(format!(
        "{charged_keys} of {max_keys} keys, {charged_bytes} of {max_bytes} bytes"
    ))
}

/// What only `/proc/keys` says about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// References: one for each link, one for each set of credentials that uses it.
    pub(super) usage: i32,
    /// Seconds until it expires, rounded down to the largest unit that fits; `None`: never.
    pub(super) expires_in: Option<u64>,
}

/// The keys in `/proc/keys` that the calling thread may view.
pub(super) fn rows() -> io::Result<BTreeMap<KeySerial, Row>> {
    Ok(merge(&fs::read("/proc/keys")?))
}

/// A description with a line break can forge a line for any key. Of two lines for one key both are
/// heard: the one that says it expires sooner, and the one that says it has more references. So a
/// forger can only make a copy end early or a session be kept longer.
fn merge(file: &[u8]) -> BTreeMap<KeySerial, Row> {
    let mut rows = BTreeMap::new();
    for line in proc_keys::lines(file) {
        let expires_in = line.expiry.at_least().map(|left| left.as_secs());
        let row = Row {
            usage: line.usage,
            expires_in,
        };
        rows.entry(line.serial)
            .and_modify(|known: &mut Row| {
                known.usage = known.usage.max(row.usage);
                known.expires_in = match (known.expires_in, row.expires_in) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            })
            .or_insert(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_line_cannot_prolong_or_hide() {
        let genuine = "00000007 I--Q---     2   5m 3f010000     0     0 user      k: 1\n";
        for forged in [
            "00000007 I--Q---     1 perm 3f010000     0     0 user      k: 1\n",
            "00000007 I--Q---     1   2w 3f010000     0     0 user      k: 1\n",
        ] {
            for file in [format!("{genuine}{forged}"), format!("{forged}{genuine}")] {
                let rows = merge(file.as_bytes());
                let row = rows.get(&KeySerial::new(7)).unwrap();
                assert_eq!(
                    *row,
                    Row {
                        usage: 2,
                        expires_in: Some(300)
                    }
                );
            }
        }
    }
}
