//! What the kernel says about a key, checked after every look-up by serial.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::fs;
use std::io;

use keyns_sys::{KeySerial, key};

use crate::description::KeyDescription;
use crate::key_users::{self, KeyUser};
use crate::proc_keys::{self, ProcKey};

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

/// The lines of these keys in `/proc/keys`, as far as the calling thread may view them and nobody can
/// have forged them: a description may contain line breaks, and so anybody whose keys the thread may
/// view can write lines for any key. If there are two for one key, none is believed; a lone one must
/// say what `KEYCTL_DESCRIBE` says, which only the owner of a key can hide.
///
/// Reading the file makes the kernel walk all keys of the machine, whoever has made them.
pub(super) fn lines_of(keys: &BTreeSet<KeySerial>) -> io::Result<BTreeMap<KeySerial, ProcKey>> {
    let mut lines = lone(&fs::read("/proc/keys")?, keys);
    lines.retain(|serial, line| {
        let described = key::describe(*serial);
        described.is_ok_and(|text| {
            KeyDescription::parse(&text).is_ok_and(|described| line.agrees_with(&described))
        })
    });
    Ok(lines)
}

fn lone(file: &[u8], keys: &BTreeSet<KeySerial>) -> BTreeMap<KeySerial, ProcKey> {
    let (mut lines, mut doubtful) = (BTreeMap::new(), BTreeSet::new());
    for line in proc_keys::lines(file).filter(|line| keys.contains(&line.serial)) {
        let serial = line.serial;
        if lines.insert(serial, line).is_some() {
            doubtful.insert(serial);
        }
    }
    lines.retain(|serial, _| !doubtful.contains(serial));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_lines_for_one_key_none_is_believed() {
        let genuine = "00000007 I--Q---     2   5m 3f010000     0     0 user      k: 1\n";
        let other = "00000008 I--Q---     2   5m 3f010000     0     0 user      l: 1\n";
        let wanted = BTreeSet::from([7, 8].map(KeySerial::new));
        let serials = |file: &str| -> Vec<i32> {
            let lines = lone(file.as_bytes(), &wanted);
            lines.keys().map(|serial| serial.raw()).collect()
        };
        assert_eq!(serials(&format!("{genuine}{other}")), [7, 8]);
        for forged in [
            genuine,
            "00000007 I--Q---     1 expd 3f010000     0     0 user      k: 1\n",
            "00000007 I--Q---     1 perm 3f010000     0     0 user      k: 1\n",
        ] {
            for file in [
                format!("{genuine}{other}{forged}"),
                format!("{forged}{genuine}{other}"),
                format!("{forged}{genuine}{other}{forged}"),
            ] {
                assert_eq!(serials(&file), [8]);
            }
        }
    }
}
