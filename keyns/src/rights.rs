//! The ten rights of a key access control list.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A set of rights. The low six values equal the bits of one byte of the classic mask.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rights(u16);

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);
    /// Describe, watch, read the security label.
    pub const VIEW: Self = Self(0x001);
    /// Read the payload.
    pub const READ: Self = Self(0x002);
    /// Update the payload; add and remove links of a keyring.
    pub const WRITE: Self = Self(0x004);
    /// Search a keyring, be found.
    pub const SEARCH: Self = Self(0x008);
    /// Be linked into another keyring.
    pub const LINK: Self = Self(0x010);
    /// Change owner, mask, list, timeout, restriction.
    pub const SET_SECURITY: Self = Self(0x020);
    /// Invalidate.
    pub const INVAL: Self = Self(0x040);
    /// Revoke.
    pub const REVOKE: Self = Self(0x080);
    /// Join a keyring by name as session keyring.
    pub const JOIN: Self = Self(0x100);
    /// Clear a keyring.
    pub const CLEAR: Self = Self(0x200);
    /// All ten.
    pub const ALL: Self = Self(0x3ff);

    /// Every right with its name and its letter, in the order of the bits.
    pub const NAMED: [(Self, &'static str, char); 10] = [
        (Self::VIEW, "view", 'v'),
        (Self::READ, "read", 'r'),
        (Self::WRITE, "write", 'w'),
        (Self::SEARCH, "search", 's'),
        (Self::LINK, "link", 'l'),
        (Self::SET_SECURITY, "setsec", 'S'),
        (Self::INVAL, "inval", 'I'),
        (Self::REVOKE, "revoke", 'R'),
        (Self::JOIN, "join", 'j'),
        (Self::CLEAR, "clear", 'c'),
    ];

    /// The bits; at most 0x3ff.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set with these bits; `None` if one of them is no right.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Whether no right is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many rights are in the set.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether every right of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the sets share a right.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The single rights of the set, in the order of the bits.
    pub fn iter(self) -> impl Iterator<Item = Self> {
        Self::NAMED
            .into_iter()
            .map(|(right, _, _)| right)
            .filter(move |r| self.contains(*r))
    }

    /// The names of the rights in the set, in the order of the bits.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED
            .into_iter()
            .filter(move |(r, _, _)| self.contains(*r))
            .map(|(_, n, _)| n)
    }

    /// The letters of the rights in the set, such as `vrs`; empty for no right.
    #[must_use]
    pub fn letters(self) -> String {
        Self::NAMED
            .into_iter()
            .filter(|(r, _, _)| self.contains(*r))
            .map(|(_, _, c)| c)
            .collect()
    }

    /// The bits as text, such as `0x00b`.
    #[must_use]
    pub fn hex(self) -> String {
        format!("0x{:03x}", self.0)
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::NAMED
            .into_iter()
            .find(|(_, n, _)| *n == name)
            .map(|(r, _, _)| r)
    }

    fn by_letters(letters: &str) -> Option<Self> {
        let right = |c| {
            Self::NAMED
                .into_iter()
                .find(|(_, _, l)| *l == c)
                .map(|(r, _, _)| r)
        };
        letters
            .chars()
            .try_fold(Self::NONE, |set, c| Some(set | right(c)?))
    }
}

impl BitOr for Rights {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Rights {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Rights {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Set difference: the rights of the left set that are not in the right one.
impl Sub for Rights {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<Self> for Rights {
    fn from_iter<I: IntoIterator<Item = Self>>(rights: I) -> Self {
        rights.into_iter().fold(Self::NONE, BitOr::bitor)
    }
}

/// The names joined by commas, `none` for the empty set.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad("none");
        }
        f.pad(&self.names().collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({self})")
    }
}

/// A text that names something other than rights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// There is nothing between two commas, or nothing at all.
    #[error("a right is missing; the rights are {KNOWN}")]
    Missing,
    /// Neither a name nor letters.
    #[error("unknown right “{}”; the rights are {KNOWN}", crate::text::Escaped::new(.0).cut(40))]
    Unknown(String),
}

const KNOWN: &str = "view (v), read (r), write (w), search (s), link (l), setsec (S), inval (I), \
                     revoke (R), join (j), clear (c)";

/// Names and groups of letters, separated by commas: `view,read`, `vrs`, `view,sl`; or `none`.
impl FromStr for Rights {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Self, RightsError> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        text.split(',').try_fold(Self::NONE, |set, item| {
            if item.is_empty() {
                return Err(RightsError::Missing);
            }
            // No name consists of letters alone, so the two spellings cannot be confused.
            Self::by_name(item)
                .or_else(|| Self::by_letters(item))
                .map(|right| set | right)
                .ok_or_else(|| RightsError::Unknown(item.to_owned()))
        })
    }
}

/// An array of names, such as `["view","read"]`.
impl Serialize for Rights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for Rights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> de::Visitor<'de> for Names {
            type Value = Rights;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of names of rights")
            }

            // Name by name, so that a long array costs no memory.
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut names: A) -> Result<Rights, A::Error> {
                let mut set = Rights::NONE;
                while let Some(name) = names.next_element::<String>()? {
                    set |= Rights::by_name(&name)
                        .ok_or_else(|| de::Error::custom(RightsError::Unknown(name)))?;
                }
                Ok(set)
            }
        }

        deserializer.deserialize_seq(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_letters_mean_the_same() {
        let set = Rights::VIEW | Rights::SEARCH | Rights::SET_SECURITY;
        assert_eq!("view,search,setsec".parse(), Ok(set));
        assert_eq!("vsS".parse(), Ok(set));
        assert_eq!("view,sS".parse(), Ok(set));
        assert_eq!("vrwslSIRjc".parse(), Ok(Rights::ALL));
    }

    #[test]
    fn capital_and_small_letters_are_different_rights() {
        assert_eq!("s".parse(), Ok(Rights::SEARCH));
        assert_eq!("S".parse(), Ok(Rights::SET_SECURITY));
        assert_eq!("r".parse(), Ok(Rights::READ));
        assert_eq!("R".parse(), Ok(Rights::REVOKE));
    }

    #[test]
    fn no_name_can_be_read_as_letters() {
        for (_, name, _) in Rights::NAMED {
            assert_eq!(Rights::by_letters(name), None, "{name}");
        }
    }

    #[test]
    fn an_unknown_right_is_named_and_the_known_ones_are_listed() {
        let error = "view,frob\x1b".parse::<Rights>().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("“frob\\x1b”"), "{text}");
        for (_, name, letter) in Rights::NAMED {
            assert!(text.contains(&format!("{name} ({letter})")), "{text}");
        }
        assert_eq!("view,,read".parse::<Rights>(), Err(RightsError::Missing));
        assert_eq!("".parse::<Rights>(), Err(RightsError::Missing));
        assert!("View".parse::<Rights>().is_err());
    }

    #[test]
    fn json_is_an_array_of_names() {
        let set = Rights::READ | Rights::CLEAR;
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["read","clear"]"#);
        assert_eq!(serde_json::from_str::<Rights>("[]").unwrap(), Rights::NONE);
        assert!(serde_json::from_str::<Rights>(r#"["reed"]"#).is_err());
        assert!(serde_json::from_str::<Rights>(r#""read""#).is_err());
        assert!(serde_json::from_str::<Rights>("3").is_err());
    }

    #[test]
    fn the_values_are_those_of_the_kernel_interface() {
        let values: Vec<u16> = Rights::NAMED.iter().map(|(r, _, _)| r.bits()).collect();
        assert_eq!(values, [1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200]);
        assert_eq!(Rights::from_bits(0x400), None);
        assert_eq!(
            (Rights::VIEW | Rights::READ | Rights::SEARCH).hex(),
            "0x00b"
        );
    }

    #[test]
    fn every_set_survives_text_letters_and_json() {
        for bits in 0..=0x3ff {
            let set = Rights::from_bits(bits).unwrap();
            assert_eq!(set.to_string().parse(), Ok(set));
            if !set.is_empty() {
                assert_eq!(set.letters().parse(), Ok(set));
            }
            let json = serde_json::to_string(&set).unwrap();
            assert_eq!(serde_json::from_str::<Rights>(&json).unwrap(), set);
            assert_eq!(set.iter().collect::<Rights>(), set);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = text.parse::<Rights>();
        }
    }
}
