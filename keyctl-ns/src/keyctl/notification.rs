//! Records of a notification pipe (`include/uapi/linux/watch_queue.h`).

use super::output::push_unsigned;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Who reports, 24 bits.
    pub type_: u32,
    /// What kind of event.
    pub subtype: u8,
    /// Length, watch id and more.
    pub info: u32,
    /// What it says, as far as it concerns keys.
    pub notice: Notice,
}

impl Record {
    /// The number the watch was set up with.
    #[must_use]
    pub const fn watch_id(&self) -> u8 {
        (self.info >> 8) as u8
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Something about a key, by the number of its kind.
    Key {
        /// The key or keyring.
        key: u32,
        /// The other key of a link; else zero.
        other: u32,
    },
    /// What was watched is gone.
    Removed {
        /// The key.
        key: u64,
    },
    /// Records were lost.
    Loss,
    /// Of no concern.
    Other,
}

/// A record that the kernel never writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than a record's head.
    ShortHeader(usize),
    /// A length that leads nowhere.
    BadLength {
        /// Of the record, as it says.
        length: usize,
        /// Of what was read and is left.
        left: usize,
    },
}

impl Malformed {
    /// The line for standard error, and the status to end with.
    pub(crate) fn stop(self) -> super::stop::Stop {
        let mut line = Vec::new();
        let status = match self {
            Self::ShortHeader(length) => {
                line.extend_from_slice(b"Short message header: ");
                push_unsigned(&mut line, length as u64, 0);
                4
            }
            Self::BadLength { length, left } => {
                line.extend_from_slice(b"Bad message length: ");
                push_unsigned(&mut line, length as u64, 0);
                line.push(b'/');
                push_unsigned(&mut line, left as u64, 0);
                1
            }
        };
        super::stop::Stop::Said(line, status)
    }
}

const TYPE_META: u32 = 0;
const TYPE_KEY: u32 = 1;
const REMOVAL: u8 = 0;
const LOSS: u8 = 1;
const HEAD: usize = 8;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// Takes the first record off what was read; `None` at the end.
///
/// # Errors
/// [`Malformed`].
pub fn take<'a>(bytes: &mut &'a [u8]) -> Result<Option<Record>, Malformed> {
    let all: &'a [u8] = bytes;
    if all.is_empty() {
        return Ok(None);
    }
    let (Some(first), Some(info)) = (word(all, 0), word(all, 4)) else {
        return Err(Malformed::ShortHeader(all.len()));
    };
    let length = (info & 0x7f) as usize;
    let bad = Malformed::BadLength {
        length,
        left: all.len(),
    };
    if length < HEAD {
        return Err(bad);
    }
    let (record, rest) = all.split_at_checked(length).ok_or(bad)?;
    *bytes = rest;
    let (type_, subtype) = (first & 0x00ff_ffff, (first >> 24) as u8);
    let notice = match (type_, subtype) {
        (TYPE_META, REMOVAL) => Notice::Removed {
            key: record
                .get(HEAD..)
                .and_then(|rest| rest.first_chunk::<8>())
                .map_or(0, |id| u64::from_ne_bytes(*id)),
        },
        (TYPE_META, LOSS) => Notice::Loss,
        (TYPE_KEY, _) => Notice::Key {
            key: word(record, 8).ok_or(bad)?,
            other: word(record, 12).ok_or(bad)?,
        },
        _ => Notice::Other,
    };
    Ok(Some(Record {
        type_,
        subtype,
        info,
        notice,
    }))
}

/// Kinds of key events by number, with the letter they are chosen by and the word they are shown by.
const KINDS: [(u8, &[u8]); 8] = [
    (b'i', b"inst"),
    (b'p', b"upd"),
    (b'l', b"link"),
    (b'n', b"unlk"),
    (b'c', b"clr"),
    (b'r', b"rev"),
    (b'v', b"inv"),
    (b's', b"attr"),
];

/// One bit for each letter.
///
/// # Errors
/// The first letter that means nothing.
pub fn filter(letters: &[u8]) -> Result<u32, u8> {
    letters.iter().try_fold(0, |bits, letter| {
        let kind = KINDS.iter().position(|(known, _)| known == letter);
        kind.map(|kind| bits | 1 << kind).ok_or(*letter)
    })
}

/// Every kind.
#[must_use]
pub const fn everything() -> u32 {
    (1 << KINDS.len()) - 1
}

/// Appends the line of a record, if it has one.
pub fn push_line(to: &mut Vec<u8>, record: &Record) {
    match record.notice {
        Notice::Key { key, other } => {
            let Some((letter, name)) = KINDS.get(usize::from(record.subtype)) else {
                return;
            };
            push_unsigned(to, key.into(), 0);
            to.push(b' ');
            to.extend_from_slice(name);
            if matches!(letter, b'l' | b'n') {
                to.push(b' ');
                push_unsigned(to, other.into(), 0);
            }
            to.push(b'\n');
        }
        Notice::Removed { key } => {
            push_unsigned(to, key, 0);
            to.extend_from_slice(b" gc\n");
        }
        Notice::Loss => to.extend_from_slice(b"-- LOSS --\n"),
        Notice::Other => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(type_: u32, subtype: u8, id: u32, rest: &[u32]) -> Vec<u8> {
        let length = 8 + rest.len() as u32 * 4;
        let head = [type_ | u32::from(subtype) << 24, length | id << 8];
        head.iter()
            .chain(rest)
            .flat_map(|word| word.to_ne_bytes())
            .collect()
    }

    fn lines(mut bytes: &[u8]) -> Result<String, Malformed> {
        let mut text = Vec::new();
        while let Some(record) = take(&mut bytes)? {
            push_line(&mut text, &record);
        }
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn every_event_has_its_line() {
        let mut bytes = Vec::new();
        for subtype in 0..9 {
            bytes.extend(record(1, subtype, 1, &[4_000_000_000, 7]));
        }
        bytes.extend(record(0, 0, 1, &[5, 0]));
        bytes.extend(record(0, 1, 0, &[]));
        bytes.extend(record(77, 0, 0, &[1]));
        let expected = "4000000000 inst\n4000000000 upd\n4000000000 link 7\n4000000000 unlk 7\n\
                        4000000000 clr\n4000000000 rev\n4000000000 inv\n4000000000 attr\n\
                        5 gc\n-- LOSS --\n";
        assert_eq!(lines(&bytes).unwrap(), expected);
        assert_eq!(take(&mut &bytes[..]).unwrap().unwrap().watch_id(), 1);
    }

    #[test]
    fn what_the_kernel_never_writes_is_refused() {
        assert_eq!(lines(&[0; 7]), Err(Malformed::ShortHeader(7)));
        let bad = |length, left| Err(Malformed::BadLength { length, left });
        assert_eq!(lines(&[0; 8]), bad(0, 8));
        let whole = record(1, 0, 1, &[1, 2]);
        assert_eq!(lines(&whole[..12]), bad(16, 12));
        assert_eq!(lines(&record(1, 0, 1, &[1])), bad(12, 12));
    }

    #[test]
    fn letters_choose_kinds() {
        assert_eq!(filter(b""), Ok(0));
        assert_eq!(filter(b"iplncrvs"), Ok(everything()));
        assert_eq!(filter(b"ll"), Ok(4));
        assert_eq!(filter(b"iZp"), Err(b'Z'));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_always_end(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let _ = lines(&bytes);
        }

        #[test]
        fn every_key_event_round_trips(
            subtype in 0..8u8, id in any::<u8>(), key in any::<u32>(), other in any::<u32>()
        ) {
            let bytes = record(1, subtype, id.into(), &[key, other]);
            let taken = take(&mut &bytes[..]).unwrap().unwrap();
            prop_assert_eq!(taken.notice, Notice::Key { key, other });
            prop_assert_eq!((taken.type_, taken.subtype, taken.watch_id()), (1, subtype, id));
        }
    }
}
