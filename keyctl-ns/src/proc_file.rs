//! What only `/proc/keys` tells about the caller's own keys: expiry and state.

use std::collections::HashMap;

use keyns::description::KeyDescription;
use keyns::proc_keys::{Expiry, Flags, ProcKey};
use keyns::serial::KeySerial;
use keyns_interfaces::keys::KeyInfo;

use crate::key;

/// Digits of a serial at the beginning of a line.
const DIGITS: usize = 8;

/// Bytes before the blank in front of the time: serial, seven flags, a count of up to five digits.
const BEFORE_TIME: usize = DIGITS + 1 + 7 + 1 + 5;

/// The file as it was read once. Its lines are taken apart when they are asked for: there may be
/// tens of thousands, of which a command shows few.
#[derive(Debug, Default)]
pub struct ProcFile {
    text: Vec<u8>,
    /// Serial and beginning of each line, in the order of the serials.
    index: Vec<(u32, usize)>,
}

impl ProcFile {
    /// Reads the file. One that cannot be read tells nothing, and no command depends on it.
    #[must_use]
    pub fn read() -> Self {
        Self::of(std::fs::read("/proc/keys").unwrap_or_default())
    }

    /// What was read already.
    #[must_use]
    pub fn of(text: Vec<u8>) -> Self {
        let mut index = Vec::new();
        let mut start = 0;
        for line in text.split(|byte| *byte == b'\n') {
            if let Some(serial) = serial(line) {
                index.push((serial, start));
            }
            start += line.len() + 1;
        }
        // The kernel prints them in this order already; forged lines stand anywhere.
        index.sort_unstable();
        Self { text, index }
    }

    /// The line of a key, if there is exactly one and it agrees with what the kernel describes:
    /// descriptions can forge lines.
    #[must_use]
    pub fn line(&self, serial: KeySerial, described: &KeyDescription) -> Option<ProcKey> {
        let line = ProcKey::parse(self.claimed(serial)?)?;
        line.agrees_with(described).then_some(line)
    }

    /// The only line that claims to be that of a key.
    fn claimed(&self, serial: KeySerial) -> Option<&[u8]> {
        let number = u32::try_from(serial.raw()).ok()?;
        let first = self.index.partition_point(|(other, _)| *other < number);
        let (_, start) = self.index.get(first).filter(|(it, _)| *it == number)?;
        if matches!(self.index.get(first + 1), Some((other, _)) if *other == number) {
            return None;
        }
        let rest = self.text.get(*start..)?;
        rest.split(|byte| *byte == b'\n').next()
    }

    /// At least how many seconds a key has left, as far as the file shows it; `described` is asked
    /// for only if the key's line has a time.
    #[must_use]
    pub fn expires_in(
        &self,
        serial: KeySerial,
        described: impl FnOnce() -> Option<KeyDescription>,
    ) -> Option<u64> {
        seconds_left(&timed(self.claimed(serial)?)?, described)
    }

    /// The keys that expire, as the file shows them.
    #[must_use]
    pub fn expiring(&self) -> Expiring {
        let lines = self.index.iter().filter_map(|(number, _)| {
            let serial = KeySerial::new(i32::try_from(*number).ok()?);
            Some((serial.raw(), timed(self.claimed(serial)?)?))
        });
        Expiring(lines.collect())
    }
}

/// The lines of the keys that expire: few, where the file may have tens of thousands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expiring(HashMap<i32, ProcKey>);

impl Expiring {
    /// At least how many seconds a key has left, if its line agrees with what the kernel describes.
    #[must_use]
    pub fn left(&self, key: &KeyInfo) -> Option<u64> {
        seconds_left(self.0.get(&key.serial)?, || key::to_description(key))
    }
}

/// A line with a time. Most keys do not expire, and that is seen without taking the line apart.
fn timed(line: &[u8]) -> Option<ProcKey> {
    let rest = line.get(BEFORE_TIME..)?;
    (!rest.starts_with(b" perm "))
        .then(|| ProcKey::parse(line))
        .flatten()
}

/// The serial a line begins with.
fn serial(line: &[u8]) -> Option<u32> {
    let (digits, rest) = line.split_at_checked(DIGITS)?;
    if !rest.starts_with(b" ") || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// At least how many seconds a key has left: none if it does not expire, or its line does not agree
/// with what the kernel describes.
fn seconds_left(line: &ProcKey, described: impl FnOnce() -> Option<KeyDescription>) -> Option<u64> {
    let left = line.expiry.at_least()?.as_secs();
    line.agrees_with(&described()?).then_some(left)
}

/// The state of a key in words.
#[must_use]
pub fn state(line: &ProcKey) -> &'static str {
    match line.flags {
        Flags { revoked: true, .. } => "revoked",
        Flags {
            invalidated: true, ..
        }
        | Flags { dead: true, .. } => "invalidated",
        Flags {
            under_construction: true,
            ..
        } => "under construction",
        Flags { negative: true, .. } => "negative: requests for it fail until it expires",
        _ if line.expiry == Expiry::Expired => "expired",
        Flags {
            instantiated: true, ..
        } => "valid",
        _ => "without payload yet",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
00000007 I--Q---     1   5m 3f010000     0     0 user      late: 1
00000009 I--Q---     1 perm 3f010000     0     0 user      forged
00000007 I--Q---     1   9d 3f010000     0     0 user      late: 1
0000000b I--Q---     1   1h 3f010000     0     0 user      alone: 1
no line at all
";

    fn described(text: &str) -> KeyDescription {
        KeyDescription::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_is_found_by_its_serial_and_compared() {
        let file = ProcFile::of(FILE.into());
        let alone = described("user;0;0;3f010000;alone");
        let serial = KeySerial::new(0xb);
        assert_eq!(file.line(serial, &alone).unwrap().serial, serial);
        assert!(file.expires_in(serial, || Some(alone)) >= Some(3600));
        let other = described("user;5;0;3f010000;alone");
        assert_eq!(file.line(serial, &other), None);
        assert_eq!(file.expires_in(serial, || Some(other)), None);
    }

    #[test]
    fn the_keys_that_expire_are_those_whose_lines_agree() {
        let expiring = ProcFile::of(FILE.into()).expiring();
        let key = |serial, uid| KeyInfo {
            serial,
            type_: "user".to_owned(),
            description: keyns_interfaces::ByteText(b"alone".to_vec()),
            uid,
            gid: 0,
            mask: 0x3f01_0000,
            container: None,
            origin: "own".to_owned(),
            expires_in: None,
            grants: Vec::new(),
        };
        assert!(expiring.left(&key(0xb, 0)) >= Some(3600));
        assert_eq!(expiring.left(&key(0xb, 5)), None, "of another owner");
        assert_eq!(expiring.left(&key(7, 0)), None, "claimed by two lines");
        assert_eq!(expiring.left(&key(9, 0)), None, "does not expire");
    }

    #[test]
    fn a_serial_that_two_lines_claim_has_none() {
        let file = ProcFile::of(FILE.into());
        let late = described("user;0;0;3f010000;late");
        assert_eq!(file.line(KeySerial::new(7), &late), None);
    }

    #[test]
    fn of_a_key_that_does_not_expire_nothing_more_is_asked() {
        let file = ProcFile::of(FILE.into());
        let asked = || -> Option<KeyDescription> { panic!("asked") };
        assert_eq!(file.expires_in(KeySerial::new(9), asked), None);
        assert_eq!(file.expires_in(KeySerial::new(8), asked), None);
        assert_eq!(file.expires_in(KeySerial::SESSION, asked), None);
    }

    #[test]
    fn the_file_of_this_kernel_is_read_line_by_line() {
        let key =
            keyns_sys::key::add_key(c"user", c"keyns-proc-file", b"x", KeySerial::THREAD).unwrap();
        keyns_sys::key::set_timeout(key, 600).unwrap();
        let described =
            described(&String::from_utf8(keyns_sys::key::describe(key).unwrap()).unwrap());
        let left = ProcFile::read()
            .expires_in(key, || Some(described))
            .unwrap();
        assert!((540..=600).contains(&left), "{left}");
    }
}
