//! The classic permission mask of a key: four bytes of six bits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which byte of the mask. The kernel applies owner, group *or* other, and adds the possessor byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskByte {
    /// Bits 24 to 29: for a process that possesses the key.
    Possessor,
    /// Bits 16 to 21: for a process whose file system uid is the owner.
    Owner,
    /// Bits 8 to 13: for a process in the key's group, if the byte is not zero.
    Group,
    /// Bits 0 to 5: for everybody else.
    Other,
}

impl MaskByte {
    /// All four, from the highest byte to the lowest.
    pub const ALL: [Self; 4] = [Self::Possessor, Self::Owner, Self::Group, Self::Other];

    const fn shift(self) -> u32 {
        match self {
            Self::Possessor => 24,
            Self::Owner => 16,
            Self::Group => 8,
            Self::Other => 0,
        }
    }
}

/// The six bits of one byte; always below 0x40.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub struct Bits(u8);

impl Bits {
    /// No bit.
    pub const NONE: Self = Self(0);
    /// Describe, watch, show in `/proc/keys`.
    pub const VIEW: Self = Self(0x01);
    /// Read the payload.
    pub const READ: Self = Self(0x02);
    /// Update, revoke; of keyrings also link, unlink, clear.
    pub const WRITE: Self = Self(0x04);
    /// Search and be found, invalidate.
    pub const SEARCH: Self = Self(0x08);
    /// Be linked elsewhere.
    pub const LINK: Self = Self(0x10);
    /// Owner, mask, timeout, restriction, revoke.
    pub const SETATTR: Self = Self(0x20);
    /// All six.
    pub const ALL: Self = Self(0x3f);

    /// The bits of `value`; `None` from 0x40.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value <= Self::ALL.0 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// All 64 values, ascending.
    pub fn every() -> impl DoubleEndedIterator<Item = Self> + Clone {
        (0..=Self::ALL.0).map(Self)
    }

    /// The number, below 0x40.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl From<Bits> for u8 {
    fn from(bits: Bits) -> Self {
        bits.0
    }
}

impl TryFrom<u8> for Bits {
    type Error = MaskError;
    fn try_from(value: u8) -> Result<Self, MaskError> {
        Self::new(value).ok_or(MaskError::UnknownBits)
    }
}

const LETTERS: [(Bits, char); 6] = [
    (Bits::SETATTR, 'a'),
    (Bits::LINK, 'l'),
    (Bits::SEARCH, 's'),
    (Bits::WRITE, 'w'),
    (Bits::READ, 'r'),
    (Bits::VIEW, 'v'),
];

/// Six letters in the order `alswrv`, `-` where a bit is absent.
impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = LETTERS
            .iter()
            .map(|(bit, c)| if self.contains(*bit) { *c } else { '-' })
            .collect();
        f.pad(&text)
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bits({self})")
    }
}

/// The mask of a key, without bits the kernel does not know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
pub struct Mask(u32);

/// A text or number that is no mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// The kernel would refuse it (`EINVAL`).
    #[error("the mask has bits outside 0x3f3f3f3f")]
    UnknownBits,
    /// Neither a number nor letters.
    #[error(
        "not a permission mask: 0x… in hexadecimal, a decimal number, or four groups of alswrv \
         with - for what is absent (possessor, owner, group, other)"
    )]
    NotAMask,
}

impl Mask {
    /// Nothing for anybody.
    pub const NONE: Self = Self(0);
    /// Everything for everybody.
    pub const ALL: Self = Self(0x3f3f_3f3f);

    /// The mask of this number; `None` if it has unknown bits.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        if raw & !Self::ALL.0 == 0 {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// The number `KEYCTL_SETPERM` takes.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The mask of four bytes.
    #[must_use]
    pub const fn from_bytes(possessor: Bits, owner: Bits, group: Bits, other: Bits) -> Self {
        Self(u32::from_be_bytes([possessor.0, owner.0, group.0, other.0]))
    }

    /// One byte.
    #[must_use]
    pub const fn get(self, byte: MaskByte) -> Bits {
        Bits((self.0 >> byte.shift()) as u8 & Bits::ALL.0)
    }

    /// The same mask with one byte replaced.
    #[must_use]
    pub const fn with(self, byte: MaskByte, bits: Bits) -> Self {
        let cleared = self.0 & !((Bits::ALL.0 as u32) << byte.shift());
        Self(cleared | (bits.0 as u32) << byte.shift())
    }

    /// The possessor's byte.
    #[must_use]
    pub const fn possessor(self) -> Bits {
        self.get(MaskByte::Possessor)
    }

    /// The owner's byte.
    #[must_use]
    pub const fn owner(self) -> Bits {
        self.get(MaskByte::Owner)
    }

    /// The group's byte.
    #[must_use]
    pub const fn group(self) -> Bits {
        self.get(MaskByte::Group)
    }

    /// Everybody else's byte.
    #[must_use]
    pub const fn other(self) -> Bits {
        self.get(MaskByte::Other)
    }

    /// 24 letters: possessor, owner, group and other, `alswrv` each, as `keyctl describe` prints.
    #[must_use]
    pub fn letters(self) -> String {
        MaskByte::ALL
            .iter()
            .map(|byte| self.get(*byte).to_string())
            .collect()
    }

    fn from_letters(text: &str) -> Option<Self> {
        let letters = text.as_bytes();
        if letters.len() != 24 {
            return None;
        }
        let mut mask = Self::NONE;
        for (byte, group) in MaskByte::ALL.into_iter().zip(letters.chunks_exact(6)) {
            let mut bits = Bits::NONE;
            for ((bit, c), letter) in LETTERS.iter().zip(group) {
                if char::from(*letter) == *c {
                    bits = bits.with(*bit);
                } else if *letter != b'-' {
                    return None;
                }
            }
            mask = mask.with(byte, bits);
        }
        Some(mask)
    }
}

/// `0x3f010000`, a decimal number, or 24 letters. Octal is not accepted.
impl FromStr for Mask {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Self, MaskError> {
        let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None => (text, 10),
        };
        if radix == 10 {
            if let Some(mask) = Self::from_letters(text) {
                return Ok(mask);
            }
            if digits.len() > 1 && digits.starts_with('0') {
                return Err(MaskError::NotAMask);
            }
        }
        // `from_str_radix` alone would take a sign.
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(MaskError::NotAMask);
        }
        let raw = u32::from_str_radix(digits, radix).map_err(|_| MaskError::UnknownBits)?;
        Self::from_raw(raw).ok_or(MaskError::UnknownBits)
    }
}

impl From<Mask> for u32 {
    fn from(mask: Mask) -> Self {
        mask.0
    }
}

impl TryFrom<u32> for Mask {
    type Error = MaskError;
    fn try_from(raw: u32) -> Result<Self, MaskError> {
        Self::from_raw(raw).ok_or(MaskError::UnknownBits)
    }
}

/// Hexadecimal with eight digits, as the kernel prints it but with `0x`.
impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(raw: u32) -> Mask {
        Mask::from_raw(raw).unwrap()
    }

    #[test]
    fn bytes_stand_where_the_kernel_has_them() {
        let m = mask(0x083f_0201);
        assert_eq!(m.possessor(), Bits::SEARCH);
        assert_eq!(m.owner(), Bits::ALL);
        assert_eq!(m.group(), Bits::READ);
        assert_eq!(m.other(), Bits::VIEW);
        assert_eq!(
            Mask::from_bytes(Bits::SEARCH, Bits::ALL, Bits::READ, Bits::VIEW),
            m
        );
        assert_eq!(m.with(MaskByte::Owner, Bits::NONE), mask(0x0800_0201));
    }

    #[test]
    fn letters_are_those_of_keyctl_describe() {
        assert_eq!(mask(0x3f01_0000).letters(), "alswrv-----v------------");
        assert_eq!("alswrv-----v------------".parse(), Ok(mask(0x3f01_0000)));
        assert_eq!("------------------------".parse(), Ok(Mask::NONE));
    }

    #[test]
    fn numbers_are_read_in_both_bases() {
        assert_eq!("0x3f010000".parse(), Ok(mask(0x3f01_0000)));
        assert_eq!("1057030144".parse(), Ok(mask(0x3f01_0000)));
        assert_eq!("0".parse(), Ok(Mask::NONE));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "0x",
            "+1",
            "-1",
            "010",
            "alswrv",
            "3f010000",
            "vrwslaalswrvalswrvalswrv",
            "0x3f 0",
        ] {
            assert_eq!(text.parse::<Mask>(), Err(MaskError::NotAMask), "{text}");
        }
        for text in ["0x40000000", "0xffffffff", "0x100000000", "4294967295"] {
            assert_eq!(text.parse::<Mask>(), Err(MaskError::UnknownBits), "{text}");
        }
    }

    #[test]
    fn unknown_bits_do_not_come_in_through_json() {
        assert_eq!(
            serde_json::from_str::<Mask>("1057030144").unwrap(),
            mask(0x3f01_0000)
        );
        assert!(serde_json::from_str::<Mask>("64").is_err());
        assert!(serde_json::from_str::<Bits>("64").is_err());
    }

    proptest! {
        #[test]
        fn every_mask_survives_all_its_texts(raw in any::<u32>()) {
            let m = mask(raw & Mask::ALL.raw());
            prop_assert_eq!(m.to_string().parse(), Ok(m));
            prop_assert_eq!(m.letters().parse(), Ok(m));
            prop_assert_eq!(m.raw().to_string().parse(), Ok(m));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(0x|-|[alswrv-]{23,25})?.{0,12}") {
            let _ = text.parse::<Mask>();
        }
    }
}
