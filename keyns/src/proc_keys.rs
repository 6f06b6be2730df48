//! The lines of `/proc/keys`.
//!
//! The file shows what no key operation tells: flags, references and time until expiry. Its format is
//! `proc_keys_show` in `security/keys/proc.c`:
//!
//! ```text
//! 036d86eb I--Q---     1 perm 1f3f0000     0 65534 keyring   _uid_ses.0: 1
//! serial   flags   usage time mask       uid   gid type      what the type says about the key
//! ```
//!
//! **The text can be forged.** The kernel prints descriptions as they are, line breaks included, so
//! the owner of a key that others may view can write lines that look like any other. A single line
//! therefore proves nothing. [`ProcKey::agrees_with`] compares it with `KEYCTL_DESCRIBE`, which cannot
//! be forged.

use std::fmt;
use std::time::Duration;

use keyns_sys::KeySerial;

use crate::description::{KeyDescription, hex, id_from_signed, id_to_signed, signed};
use crate::mask::Mask;
use crate::text::Escaped;

/// How much of the type's name the file shows (`%-9.9s`).
pub const TYPE_COLUMN: usize = 9;

/// The state of a key, from seven letters or dashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// `I`: it has a payload, or an error in place of one.
    pub instantiated: bool,
    /// `R`: revoked.
    pub revoked: bool,
    /// `D`: dead, waiting to be collected.
    pub dead: bool,
    /// `Q`: charged to the quota of its owner.
    pub in_quota: bool,
    /// `U`: under construction, user space was asked.
    pub under_construction: bool,
    /// `N`: negative, that is rejected.
    pub negative: bool,
    /// `i`: invalidated.
    pub invalidated: bool,
}

impl Flags {
    fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; 7] = text.try_into().ok()?;
        let flag = |at: &u8, letter: u8| match *at {
            b'-' => Some(false),
            found if found == letter => Some(true),
            _ => None,
        };
        let [i, r, d, q, u, n, x] = text;
        Some(Self {
            instantiated: flag(i, b'I')?,
            revoked: flag(r, b'R')?,
            dead: flag(d, b'D')?,
            in_quota: flag(q, b'Q')?,
            under_construction: flag(u, b'U')?,
            negative: flag(n, b'N')?,
            invalidated: flag(x, b'i')?,
        })
    }
}

/// The seven letters.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            (self.instantiated, 'I'),
            (self.revoked, 'R'),
            (self.dead, 'D'),
            (self.in_quota, 'Q'),
            (self.under_construction, 'U'),
            (self.negative, 'N'),
            (self.invalidated, 'i'),
        ];
        let text: String = flags
            .into_iter()
            .map(|(set, letter)| if set { letter } else { '-' })
            .collect();
        f.pad(&text)
    }
}

/// The unit the kernel chose for the time until expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `s`, below one minute.
    Second,
    /// `m`, below one hour.
    Minute,
    /// `h`, below one day.
    Hour,
    /// `d`, below one week.
    Day,
    /// `w`.
    Week,
}

impl Unit {
    const ALL: [(Self, u8, u64); 5] = [
        (Self::Second, b's', 1),
        (Self::Minute, b'm', 60),
        (Self::Hour, b'h', 3600),
        (Self::Day, b'd', 86_400),
        (Self::Week, b'w', 604_800),
    ];

    /// How long one is, in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        Self::ALL
            .iter()
            .find(|(unit, _, _)| *unit == self)
            .map_or(1, |(_, _, seconds)| *seconds)
    }

    fn letter(self) -> char {
        Self::ALL
            .iter()
            .find(|(unit, _, _)| *unit == self)
            .map_or('s', |(_, c, _)| char::from(*c))
    }
}

/// When a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// `perm`.
    Never,
    /// `expd`; also what a revoked key shows.
    Expired,
    /// In `count` units, rounded down.
    In {
        /// How many.
        count: u64,
        /// Of what.
        unit: Unit,
    },
}

impl Expiry {
    fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"perm" => return Some(Self::Never),
            b"expd" => return Some(Self::Expired),
            _ => {}
        }
        let (letter, digits) = text.split_last()?;
        let (unit, _, _) = Unit::ALL.into_iter().find(|(_, c, _)| c == letter)?;
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let count = str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Self::In { count, unit })
    }

    /// The least time that is left; the key lives up to one unit longer. `None`: for ever.
    #[must_use]
    pub fn at_least(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Expired => Some(Duration::ZERO),
            Self::In { count, unit } => {
                Some(Duration::from_secs(count.saturating_mul(unit.seconds())))
            }
        }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.pad("perm"),
            Self::Expired => f.pad("expd"),
            Self::In { count, unit } => f.pad(&format!("{count}{}", unit.letter())),
        }
    }
}

/// One line of `/proc/keys`.
#[derive(Clone, PartialEq, Eq)]
pub struct ProcKey {
    /// The serial.
    pub serial: KeySerial,
    /// The state.
    pub flags: Flags,
    /// References: one per link, and one per set of credentials or request that uses it.
    pub usage: i32,
    /// Time until expiry.
    pub expiry: Expiry,
    /// The permission mask.
    pub mask: Mask,
    /// The owner in the opener's user namespace, 65534 if not mapped there.
    pub uid: Option<u32>,
    /// The group in the opener's user namespace, 65534 if not mapped there or absent.
    pub gid: Option<u32>,
    /// The first [`TYPE_COLUMN`] bytes of the type.
    pub type_column: Vec<u8>,
    /// What the type prints, mostly `description: length`; untrusted, and cut at a line break.
    pub summary: Vec<u8>,
}

impl ProcKey {
    /// Reads one line without its line break; `None` if the kernel does not write such lines.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut columns = Columns(line);
        let serial = hex(columns.exactly(8)?)?;
        let flags = Flags::parse(columns.exactly(7)?)?;
        let usage = signed(columns.right_aligned(5)?)?;
        let expiry = Expiry::parse(columns.right_aligned(4)?)?;
        let mask = hex(columns.exactly(8)?).and_then(Mask::from_raw)?;
        let uid = id_from_signed(columns.right_aligned(5)?)?;
        let gid = id_from_signed(columns.right_aligned(5)?)?;
        let type_column = columns.exactly(TYPE_COLUMN)?.trim_ascii_end().to_vec();
        // A serial is positive.
        let serial = i32::try_from(serial).ok().filter(|n| *n > 0)?;
        if type_column.is_empty() || type_column.contains(&b' ') {
            return None;
        }
        Some(Self {
            serial: KeySerial::new(serial),
            flags,
            usage,
            expiry,
            mask,
            uid,
            gid,
            type_column,
            summary: columns.0.to_vec(),
        })
    }

    /// The line as the kernel writes it.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = format!(
            "{:08x} {} {:>5} {:>4} {:08x} {:>5} {:>5} ",
            self.serial.raw(),
            self.flags,
            self.usage,
            self.expiry,
            self.mask.raw(),
            id_to_signed(self.uid),
            id_to_signed(self.gid),
        )
        .into_bytes();
        line.extend_from_slice(&self.type_column);
        line.resize(
            line.len() + TYPE_COLUMN.saturating_sub(self.type_column.len()) + 1,
            b' ',
        );
        line.extend_from_slice(&self.summary);
        line
    }

    /// Whether `KEYCTL_DESCRIBE` of the serial says the same, in the same user namespace.
    #[must_use]
    pub fn agrees_with(&self, described: &KeyDescription) -> bool {
        let type_ = described
            .type_
            .get(..TYPE_COLUMN)
            .unwrap_or(&described.type_);
        self.type_column == type_
            && (self.uid, self.gid, self.mask) == (described.uid, described.gid, described.mask)
    }
}

impl fmt::Debug for ProcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcKey({})", Escaped::new(&self.to_line()))
    }
}

/// The rest of a line.
struct Columns<'a>(&'a [u8]);

impl<'a> Columns<'a> {
    /// A column of fixed width and the blank after it.
    fn exactly(&mut self, width: usize) -> Option<&'a [u8]> {
        let (column, rest) = self.0.split_at_checked(width)?;
        self.0 = rest.strip_prefix(b" ")?;
        Some(column)
    }

    /// A column padded on the left to `width`, or wider, and the blank after it.
    fn right_aligned(&mut self, width: usize) -> Option<&'a [u8]> {
        let padding = self.0.iter().take_while(|b| **b == b' ').count();
        let rest = self.0.get(padding..)?;
        let length = rest.iter().position(|b| *b == b' ')?;
        let (column, rest) = rest.split_at_checked(length)?;
        if padding + length != width && !(padding == 0 && length > width) {
            return None;
        }
        self.0 = rest.strip_prefix(b" ")?;
        Some(column)
    }
}

/// All lines of the file that have the kernel's form, forged ones included.
pub fn lines(file: &[u8]) -> impl Iterator<Item = ProcKey> {
    file.split(|b| *b == b'\n').filter_map(ProcKey::parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyns_sys::key;
    use proptest::prelude::*;

    const LINE: &[u8] = b"036d86eb I--Q---     1 perm 1f3f0000     0 65534 keyring   _uid_ses.0: 1";

    fn parse(line: &str) -> Option<ProcKey> {
        ProcKey::parse(line.as_bytes())
    }

    #[test]
    fn every_column_is_read() {
        let key = ProcKey::parse(LINE).unwrap();
        assert_eq!(key.serial, KeySerial::new(0x036d_86eb));
        assert_eq!(
            key.flags,
            Flags {
                instantiated: true,
                in_quota: true,
                ..Flags::default()
            }
        );
        assert_eq!((key.usage, key.expiry), (1, Expiry::Never));
        assert_eq!(key.mask.raw(), 0x1f3f_0000);
        assert_eq!((key.uid, key.gid), (Some(0), Some(65534)));
        assert_eq!(
            (&key.type_column[..], &key.summary[..]),
            (&b"keyring"[..], &b"_uid_ses.0: 1"[..])
        );
        assert_eq!(key.to_line(), LINE);
    }

    #[test]
    fn ids_may_be_wider_than_their_column_or_minus_one() {
        let key =
            parse("00000001 IRDQUNi 12345  10s 00000000 -2147483648    -1 user      ").unwrap();
        assert_eq!((key.uid, key.gid), (Some(1 << 31), None));
        assert_eq!(key.flags.to_string(), "IRDQUNi");
        assert!(key.summary.is_empty());
    }

    #[test]
    fn times_are_read_with_their_units() {
        for (text, seconds) in [
            ("perm", None),
            ("expd", Some(0)),
            (" 10s", Some(10)),
            ("  3m", Some(180)),
            ("  5h", Some(18_000)),
            ("  2d", Some(172_800)),
            ("  1w", Some(604_800)),
            ("30500568904943w", Some(18_446_744_073_709_526_400)),
            ("99999999999999999w", Some(u64::MAX)),
        ] {
            let line = format!("00000001 I--Q---     1 {text} 00000000     0     0 user      x");
            let expiry = parse(&line).unwrap().expiry;
            assert_eq!(expiry.at_least().map(|d| d.as_secs()), seconds, "{text}");
        }
        for text in ["   s", "1.5s", " 10x", " -1s", "1000"] {
            let line = format!("00000001 I--Q---     1 {text} 00000000     0     0 user      x");
            assert_eq!(parse(&line), None, "{text}");
        }
    }

    #[test]
    fn lines_of_another_form_are_refused() {
        let line = String::from_utf8(LINE.to_vec()).unwrap();
        for (from, to) in [
            ("036d86eb", "036d86e"),
            ("036d86eb", "036d86eg"),
            ("036d86eb", "836d86eb"),
            ("036d86eb", "00000000"),
            ("I--Q---", "I--q---"),
            ("I--Q---", "I--Q--"),
            ("     1", "    1"),
            ("1f3f0000", "ff3f0000"),
            ("keyring   ", "keyring "),
            ("keyring   ", "          "),
            ("keyring  ", "key ring "),
        ] {
            assert_eq!(parse(&line.replacen(from, to, 1)), None, "{to}");
        }
    }

    #[test]
    fn the_kernels_own_lines_survive_reading_and_writing() {
        let k = key::add_key(c"user", c"keyns-proc-keys", b"12345", KeySerial::THREAD).unwrap();
        key::set_timeout(k, 7200).unwrap();
        // The thread that owns the keyring possesses the key, so its own /proc/keys shows it.
        let file = std::fs::read("/proc/keys").unwrap();
        for line in file.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            // Other tests may make keys with line breaks; everything else must be understood.
            if let Some(key) = ProcKey::parse(line) {
                assert_eq!(key.to_line(), line);
            }
        }
        let key_line = lines(&file).find(|line| line.serial == k).unwrap();
        assert_eq!(key_line.summary, b"keyns-proc-keys: 5");
        assert!(matches!(
            key_line.expiry,
            Expiry::In {
                unit: Unit::Hour,
                count: 1
            } | Expiry::In {
                unit: Unit::Hour,
                count: 2
            }
        ));
        let described = KeyDescription::parse(&key::describe(k).unwrap()).unwrap();
        assert!(key_line.agrees_with(&described));
    }

    #[test]
    fn a_line_forged_inside_a_description_is_noticed() {
        let add = |name: &str| {
            let name = std::ffi::CString::new(name).unwrap();
            key::add_key(c"user", &name, b"x", KeySerial::THREAD).unwrap()
        };
        let victim = add("keyns-forge-victim");
        let imitated = format!(
            "keyns-forge\n{:08x} I--Q---     1 perm 3f3f3f3f     0     0 .request_ key:1 pid:1 ci:0",
            victim.raw()
        );
        add(&imitated);
        let file = std::fs::read("/proc/keys").unwrap();
        assert_eq!(lines(&file).filter(|line| line.serial == victim).count(), 2);
        let described = KeyDescription::parse(&key::describe(victim).unwrap()).unwrap();
        let true_ones: Vec<ProcKey> = lines(&file)
            .filter(|line| line.serial == victim && line.agrees_with(&described))
            .collect();
        assert_eq!(true_ones.len(), 1);
        assert_eq!(true_ones[0].summary, b"keyns-forge-victim: 1");
    }

    fn expiry() -> impl Strategy<Value = Expiry> {
        prop_oneof![
            Just(Expiry::Never),
            Just(Expiry::Expired),
            (any::<u64>(), 0..5usize).prop_map(|(count, unit)| Expiry::In {
                count,
                unit: Unit::ALL[unit].0
            }),
        ]
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = ProcKey::parse(&bytes);
            let _ = lines(&bytes).count();
        }

        #[test]
        fn a_damaged_line_never_panics(at in 0..LINE.len(), byte in any::<u8>()) {
            let mut line = LINE.to_vec();
            line[at] = byte;
            let _ = ProcKey::parse(&line);
        }

        #[test]
        fn fields_round_trip(
            serial in 1..i32::MAX, bits in any::<[bool; 7]>(), usage in any::<i32>(),
            expiry in expiry(), raw in any::<u32>(), uid in any::<Option<u32>>(),
            gid in any::<Option<u32>>(), type_ in "[a-z._]{1,9}",
            summary in proptest::collection::vec(any::<u8>().prop_filter("line", |b| *b != b'\n'), 0..60)
        ) {
            let [instantiated, revoked, dead, in_quota, under_construction, negative, invalidated] = bits;
            let key = ProcKey {
                serial: KeySerial::new(serial),
                flags: Flags {
                    instantiated, revoked, dead, in_quota, under_construction, negative, invalidated,
                },
                usage,
                expiry,
                mask: Mask::from_raw(raw & Mask::ALL.raw()).unwrap(),
                uid: uid.filter(|n| *n != u32::MAX),
                gid: gid.filter(|n| *n != u32::MAX),
                type_column: type_.into_bytes(),
                summary,
            };
            prop_assert_eq!(ProcKey::parse(&key.to_line()), Some(key));
        }
    }
}
