//! Changes of a permission mask as people type them: the whole mask, or what is to become of one or
//! more of its four bytes.
//!
//! | Text | Meaning |
//! |---|---|
//! | `0x3f010000`, `1057030144`, `alswrv-----v------------` | the whole mask |
//! | `owner=view,read`, `other=none`, `all=v` | these bits and no others |
//! | `group+search` | these bits as well |
//! | `all-write` | without these bits |

use std::fmt;
use std::str::FromStr;

use keyns::mask::{Bits, Mask, MaskByte, MaskError};
use keyns::rights::{Rights, RightsError};
use keyns::text::Escaped;

/// One word of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskWord {
    /// A whole mask.
    Whole(Mask),
    /// A change of one byte, or of all four.
    Part(Part),
}

/// A change of one byte of a mask, or of all four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The byte; all of them if none.
    byte: Option<MaskByte>,
    action: Action,
    bits: Bits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Set,
    Add,
    Remove,
}

/// A text that is no change of a mask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskWordError {
    /// Without `=`, `+` or `-` it could only be a whole mask.
    #[error("{0}; or SUBJECT=RIGHTS, SUBJECT+RIGHTS, SUBJECT-RIGHTS")]
    Mask(#[from] MaskError),
    /// Before the sign stands something else than a byte of the mask.
    #[error("“{}” is no part of a mask; the parts are possessor, owner, group, other, all", Escaped::new(.0).cut(40))]
    Subject(String),
    /// After the sign stands something else than rights.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// Rights that are not bits of a mask.
    #[error(
        "a mask has no bit for {0}; its bits are view, read, write, search, link, setsec, and search \
         gives inval, write or setsec gives revoke, write gives clear, search gives join"
    )]
    NoBit(Rights),
}

impl FromStr for MaskWord {
    type Err = MaskWordError;

    fn from_str(text: &str) -> Result<Self, MaskWordError> {
        // The letters of a whole mask have dashes too, and no subject is so long.
        if let Ok(mask) = text.parse() {
            return Ok(Self::Whole(mask));
        }
        let sign = |c| matches!(c, '=' | '+' | '-');
        let Some((subject, rest)) = text
            .find(sign)
            .filter(|at| *at > 0)
            .and_then(|at| text.split_at_checked(at))
        else {
            return text.parse().map(Self::Whole).map_err(Into::into);
        };
        let action = match rest.as_bytes().first() {
            Some(b'=') => Action::Set,
            Some(b'+') => Action::Add,
            _ => Action::Remove,
        };
        Ok(Self::Part(Part {
            byte: byte(subject)?,
            action,
            bits: bits(rest.get(1..).unwrap_or_default())?,
        }))
    }
}

fn byte(subject: &str) -> Result<Option<MaskByte>, MaskWordError> {
    Ok(Some(match subject {
        "possessor" | "pos" => MaskByte::Possessor,
        "owner" | "own" => MaskByte::Owner,
        "group" | "grp" => MaskByte::Group,
        "other" | "oth" => MaskByte::Other,
        "all" => return Ok(None),
        other => return Err(MaskWordError::Subject(other.to_owned())),
    }))
}

fn bits(rights: &str) -> Result<Bits, MaskWordError> {
    match rights {
        "all" => return Ok(Bits::ALL),
        "none" => return Ok(Bits::NONE),
        _ => {}
    }
    // The word of keyctl(1) for it.
    let rights: Rights = rights.replace("setattr", "setsec").parse()?;
    u8::try_from(rights.bits())
        .ok()
        .and_then(Bits::new)
        .ok_or_else(|| {
            let mask = Rights::from_bits(Bits::ALL.value().into()).unwrap_or_default();
            MaskWordError::NoBit(rights - mask)
        })
}

impl Part {
    /// The mask after the change.
    #[must_use]
    pub fn apply(self, mask: Mask) -> Mask {
        let each = |mask: Mask, byte| {
            let before = mask.get(byte);
            let after = match self.action {
                Action::Set => self.bits,
                Action::Add => before.with(self.bits),
                Action::Remove => before.without(self.bits),
            };
            mask.with(byte, after)
        };
        match self.byte {
            Some(byte) => each(mask, byte),
            None => MaskByte::ALL.into_iter().fold(mask, each),
        }
    }
}

/// The text that [`MaskWord::from_str`] reads back.
impl fmt::Display for MaskWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self {
            Self::Whole(mask) => return mask.fmt(f),
            Self::Part(part) => part,
        };
        let subject = match part.byte {
            Some(MaskByte::Possessor) => "possessor",
            Some(MaskByte::Owner) => "owner",
            Some(MaskByte::Group) => "group",
            Some(MaskByte::Other) => "other",
            None => "all",
        };
        let sign = match part.action {
            Action::Set => '=',
            Action::Add => '+',
            Action::Remove => '-',
        };
        let rights = Rights::from_bits(part.bits.value().into()).unwrap_or_default();
        write!(f, "{subject}{sign}{rights}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(raw: u32) -> Mask {
        Mask::from_raw(raw).unwrap()
    }

    /// What becomes of 0x3f010000.
    fn changed(text: &str) -> u32 {
        match text.parse().unwrap() {
            MaskWord::Whole(mask) => mask.raw(),
            MaskWord::Part(part) => part.apply(mask(0x3f01_0000)).raw(),
        }
    }

    #[test]
    fn a_whole_mask_has_all_the_forms_of_masks() {
        assert_eq!(changed("0x3f3f0000"), 0x3f3f_0000);
        assert_eq!(changed("0"), 0);
        assert_eq!(changed("alswrv-----v------------"), 0x3f01_0000);
    }

    #[test]
    fn rights_are_set_added_and_removed() {
        assert_eq!(changed("owner=view,read"), 0x3f03_0000);
        assert_eq!(changed("owner=vr"), 0x3f03_0000);
        assert_eq!(changed("grp+search"), 0x3f01_0800);
        assert_eq!(changed("other=all"), 0x3f01_003f);
        assert_eq!(changed("pos=none"), 0x0001_0000);
        assert_eq!(changed("all-view"), 0x3e00_0000);
        assert_eq!(changed("own+setattr"), 0x3f21_0000);
    }

    #[test]
    fn what_is_no_change_is_refused_for_its_reason() {
        for (text, cause) in [
            ("", "not a permission mask"),
            ("=view", "not a permission mask"),
            ("0377", "not a permission mask"),
            ("0x40000000", "bits outside 0x3f3f3f3f"),
            ("everyone=view", "the parts are possessor, owner"),
            ("owner=fly", "unknown right “fly”"),
            ("owner=", "a right is missing"),
            ("owner=view,", "a right is missing"),
            ("owner=inval,view", "no bit for inval"),
            ("all+join,clear", "no bit for join,clear"),
        ] {
            let error = text.parse::<MaskWord>().unwrap_err().to_string();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(owner|all|grp)?[=+-]?[a-z,=+-]{0,12}\\PC{0,4}") {
            let _ = text.parse::<MaskWord>();
        }

        #[test]
        fn every_change_is_read_back(byte in 0..5usize, action in 0..3usize, value in 0..0x40u8) {
            let part = Part {
                byte: MaskByte::ALL.get(byte).copied(),
                action: [Action::Set, Action::Add, Action::Remove][action],
                bits: Bits::new(value).unwrap(),
            };
            let word = MaskWord::Part(part);
            prop_assert_eq!(word.to_string().parse(), Ok(word));
        }

        #[test]
        fn a_change_leaves_other_bytes_alone(raw in any::<u32>(), value in 0..0x40u8) {
            let before = mask(raw & Mask::ALL.raw());
            let bits = Bits::new(value).unwrap();
            for action in [Action::Set, Action::Add, Action::Remove] {
                let after = Part { byte: Some(MaskByte::Group), action, bits }.apply(before);
                for byte in [MaskByte::Possessor, MaskByte::Owner, MaskByte::Other] {
                    prop_assert_eq!(after.get(byte), before.get(byte));
                }
            }
        }
    }
}
