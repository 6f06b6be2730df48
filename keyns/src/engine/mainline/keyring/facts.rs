//! What the kernel says about a key, checked after every look-up by serial.

use std::ffi::{CString, CStr};
use std::fs;
use std::io;

use keyns_sys::{KeySerial, key};
use rustix::io::Errno;

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
        let text = key::describe(serial)?;
        Self::parse(serial, &text).ok_or_else(|| io::Error::from(Errno::PROTO))
    }

    /// `type;uid;gid;mask;description`; only the description may contain further semicolons.
    fn parse(serial: KeySerial, text: &[u8]) -> Option<Self> {
        let mut parts = text.splitn(5, |b| *b == b';');
        let mut next = || parts.next();
        let type_ = CString::new(next()?).ok()?;
        // The kernel prints ids with %d: those from 2³¹ up come out negative.
        let id = |bytes: &[u8]| {
            let number: i64 = str::from_utf8(bytes).ok()?.parse().ok()?;
            u32::try_from(number).ok().or_else(|| i32::try_from(number).ok().map(i32::cast_unsigned))
        };
        Some(Self {
            serial,
            type_,
            uid: id(next()?)?,
            gid: id(next()?)?,
            mask: u32::from_str_radix(str::from_utf8(next()?).ok()?, 16).ok()?,
            description: CString::new(next()?).ok()?,
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
    let text = fs::read_to_string("/proc/key-users").ok()?;
    let line = text.lines().find_map(|line| {
        let (owner, rest) = line.split_once(':')?;
        (owner.trim().parse() == Ok(uid)).then_some(rest)
    })?;
    // usage, all/instantiated keys, charged keys/limit, charged bytes/limit
    let mut fields = line.split_whitespace().skip(2);
    let (keys, most_keys) = fields.next()?.split_once('/')?;
    let (bytes, most_bytes) = fields.next()?.split_once('/')?;
    Some(format!("{keys} of {most_keys} keys, {bytes} of {most_bytes} bytes"))
}

/// What `/proc/keys` says about keys that no other interface tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) serial: KeySerial,
    /// References: one for each link, one for each set of credentials that uses it.
    pub(super) usage: u32,
    /// Seconds until it expires, rounded down by the kernel to the largest unit that fits.
    pub(super) expires_in: Option<u64>,
}

/// The rows of `/proc/keys` that the calling thread may view.
pub(super) fn rows() -> io::Result<Vec<Row>> {
    let bytes = fs::read("/proc/keys")?;
    Ok(bytes.split(|b| *b == b'\n').filter_map(row).collect())
}

/// `036d86eb I--Q---     1 perm 1f3f0000 …`: the first four columns are the kernel's own.
fn row(line: &[u8]) -> Option<Row> {
    let mut columns = line.split(u8::is_ascii_whitespace).filter(|c| !c.is_empty());
    let mut next = || str::from_utf8(columns.next()?).ok();
    let serial = i32::from_str_radix(next()?, 16).ok().map(KeySerial::new)?;
    let _flags = next()?;
    let usage = next()?.parse().ok()?;
    let expires_in = match next()? {
        "perm" => None,
        "expd" => Some(0),
        time => {
            let (number, unit) = time.split_at_checked(time.len().checked_sub(1)?)?;
            let unit = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                "d" => 86_400,
                "w" => 604_800,
                _ => return None,
            };
            Some(number.parse::<u64>().ok()?.checked_mul(unit)?)
        }
    };
    Some(Row { serial, usage, expires_in })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_keeps_its_semicolons() {
        let facts = KeyFacts::parse(KeySerial::new(7), b"user;0;65534;3f010000;a;b").unwrap();
        assert_eq!((facts.uid, facts.gid, facts.mask), (0, 65534, 0x3f01_0000));
        assert!(facts.is(c"user", c"a;b"));
    }

    #[test]
    fn an_id_above_two_billion_is_printed_negative() {
        let facts = KeyFacts::parse(KeySerial::new(7), b"user;-2147483392;-1;3f010000;x").unwrap();
        assert_eq!((facts.uid, facts.gid), (0x8000_0100, u32::MAX));
    }

    #[test]
    fn cut_or_wrong_descriptions_are_none() {
        for text in [&b""[..], b"user;0;0;3f010000", b"user;-2147483649;0;3f010000;x", b"user;4294967296;0;3f010000;x", b"user;0;0;zz;x"] {
            assert_eq!(KeyFacts::parse(KeySerial::new(7), text), None);
        }
    }

    #[test]
    fn times_are_read_as_seconds() {
        let time = |t: &str| row(format!("036d86eb I--Q---     1 {t} 1f3f0000 0 65534 user x: 1").as_bytes());
        assert_eq!(time("perm").unwrap().expires_in, None);
        assert_eq!(time("expd").unwrap().expires_in, Some(0));
        assert_eq!(time("59s").unwrap().expires_in, Some(59));
        assert_eq!(time("  3h").unwrap().expires_in, Some(10_800));
        assert_eq!(time("2w").unwrap().expires_in, Some(1_209_600));
        assert_eq!(time("2y"), None);
        assert_eq!(time("perm").unwrap().serial, KeySerial::new(0x036d_86eb));
    }
}
