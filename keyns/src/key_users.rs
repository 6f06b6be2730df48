//! The lines of `/proc/key-users`: how many keys each user has, and how much of its quota they use.
//!
//! ```text
//!     0:     9 8/8 3/1000000 40/25000000
//!   uid: usage keys/instantiated charged/limit bytes/limit
//! ```
//!
//! The format is `proc_key_users_show` in `security/keys/proc.c`. Users that are not mapped in the
//! opener's user namespace are left out.

/// The keys of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUser {
    /// The user in the opener's user namespace.
    pub uid: u32,
    /// References to the kernel's record.
    pub usage: u32,
    /// Keys that exist, those not charged included.
    pub keys: u32,
    /// Those of them that are instantiated.
    pub instantiated: u32,
    /// Keys charged to the quota.
    pub charged_keys: u32,
    /// Most keys that may be charged.
    pub max_keys: u32,
    /// Bytes charged to the quota: descriptions and payloads.
    pub charged_bytes: u32,
    /// Most bytes that may be charged.
    pub max_bytes: u32,
}

impl KeyUser {
    /// Reads one line without its line break; `None` if the kernel does not write such lines.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (uid, rest) = line.split_once(':')?;
        let mut columns = rest.split_ascii_whitespace();
        let usage = number(columns.next()?)?;
        let mut pair = || {
            let (left, right) = columns.next()?.split_once('/')?;
            Some((number(left)?, number(right)?))
        };
        let (keys, instantiated) = pair()?;
        let (charged_keys, max_keys) = pair()?;
        let (charged_bytes, max_bytes) = pair()?;
        if columns.next().is_some() {
            return None;
        }
        Some(Self {
            uid: number(uid.trim_start_matches(' '))?,
            usage,
            keys,
            instantiated,
            charged_keys,
            max_keys,
            charged_bytes,
            max_bytes,
        })
    }

    /// Keys that can still be made; never negative, as a limit may be lowered below the use.
    #[must_use]
    pub fn keys_left(&self) -> u32 {
        self.max_keys.saturating_sub(self.charged_keys)
    }

    /// Bytes that can still be used.
    #[must_use]
    pub fn bytes_left(&self) -> u32 {
        self.max_bytes.saturating_sub(self.charged_bytes)
    }
}

/// `from_str` alone would take a plus sign.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// All users the file shows.
pub fn lines(file: &str) -> impl Iterator<Item = KeyUser> {
    file.lines().filter_map(KeyUser::parse)
}

/// One user; `None` if it has no keys or is not mapped.
#[must_use]
pub fn find(file: &str, uid: u32) -> Option<KeyUser> {
    lines(file).find(|user| user.uid == uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyns_sys::{KeySerial, key};
    use proptest::prelude::*;

    #[test]
    fn every_column_is_read() {
        let user = KeyUser::parse("  1000:     9 8/7 3/200 40/20000").unwrap();
        assert_eq!(
            (user.uid, user.usage, user.keys, user.instantiated),
            (1000, 9, 8, 7)
        );
        assert_eq!((user.charged_keys, user.max_keys), (3, 200));
        assert_eq!((user.charged_bytes, user.max_bytes), (40, 20000));
        assert_eq!((user.keys_left(), user.bytes_left()), (197, 19960));
    }

    #[test]
    fn a_use_above_a_lowered_limit_leaves_nothing() {
        let user = KeyUser::parse("    5:     1 9/9 9/4 100/50").unwrap();
        assert_eq!((user.keys_left(), user.bytes_left()), (0, 0));
    }

    #[test]
    fn lines_of_another_form_are_refused() {
        for line in [
            "",
            "0: 9 8/8 3/1 40/2 1",
            "0: 9 8/8 3/1",
            "x: 9 8/8 3/1 40/2",
            "0: 9 8 3/1 40/2",
            "+0: 9 8/8 3/1 40/2",
            "0: 9 8/+8 3/1 40/2",
            "4294967296: 9 8/8 3/1 40/2",
        ] {
            assert_eq!(KeyUser::parse(line), None, "{line}");
        }
    }

    #[test]
    fn the_kernels_own_file_counts_a_new_key() {
        let _key = key::add_key(c"user", c"keyns-key-users", b"x", KeySerial::THREAD).unwrap();
        let file = std::fs::read_to_string("/proc/key-users").unwrap();
        assert_eq!(lines(&file).count(), file.lines().count());
        let root = find(&file, 0).unwrap();
        assert!(root.charged_keys >= 1 && root.charged_bytes > 1 && root.keys >= root.charged_keys);
        assert_eq!(find(&file, u32::MAX - 7), None);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[0-9:/ +x-]{0,60}") {
            let _ = KeyUser::parse(&text);
        }

        #[test]
        fn fields_round_trip(n in any::<[u32; 8]>()) {
            let [uid, usage, keys, instantiated, charged_keys, max_keys, charged_bytes, max_bytes] = n;
            let user = KeyUser {
                uid, usage, keys, instantiated, charged_keys, max_keys, charged_bytes, max_bytes,
            };
            let line = format!(
                "{uid:>5}: {usage:>5} {keys}/{instantiated} {charged_keys}/{max_keys} {charged_bytes}/{max_bytes}"
            );
            prop_assert_eq!(KeyUser::parse(&line), Some(user));
        }
    }
}
