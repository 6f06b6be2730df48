//! What `KEYCTL_DESCRIBE` says, without copying it, and the rights a mask is presumed to give.

use std::cell::OnceCell;

use keyns_sys::cred;

/// `type;uid;gid;perm;description`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described<'a> {
    /// The type, such as `user`.
    pub type_: &'a [u8],
    /// The owner; ids from 2³¹ on are negative, −1 is none.
    pub uid: i32,
    /// The group, likewise.
    pub gid: i32,
    /// The mask, with any bits.
    pub mask: u32,
    /// Everything after the fourth semicolon: any bytes.
    pub description: &'a [u8],
}

impl<'a> Described<'a> {
    /// Reads the text without its final NUL; `None` if the kernel does not write such texts.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (type_, rest) = until_semicolon(text)?;
        let (uid, rest) = signed(rest)?;
        let (gid, rest) = signed(rest)?;
        let (mask, description) = hexadecimal(rest)?;
        (!type_.is_empty()).then_some(Self {
            type_,
            uid,
            gid,
            mask,
            description,
        })
    }

    /// Whether it is a keyring.
    #[must_use]
    pub fn is_keyring(&self) -> bool {
        self.type_ == b"keyring"
    }
}

fn until_semicolon(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b';')?;
    let (field, rest) = text.split_at_checked(at)?;
    Some((field, rest.get(1..)?))
}

/// `%d;`
fn signed(text: &[u8]) -> Option<(i32, &[u8])> {
    let (negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut value: i64 = 0;
    let mut is_empty = true;
    loop {
        let (byte, tail) = rest.split_first()?;
        rest = tail;
        match byte {
            b'0'..=b'9' => {
                // What is too large stays too large.
                value = value
                    .saturating_mul(10)
                    .saturating_add((byte - b'0').into());
                is_empty = false;
            }
            b';' if !is_empty => break,
            _ => return None,
        }
    }
    let value = i32::try_from(if negative { -value } else { value }).ok()?;
    Some((value, rest))
}

/// `%08x;`
fn hexadecimal(text: &[u8]) -> Option<(u32, &[u8])> {
    let mut value: u32 = 0;
    let mut digits = 0u32;
    let mut rest = text;
    loop {
        let (byte, tail) = rest.split_first()?;
        rest = tail;
        if *byte == b';' && digits > 0 {
            return Some((value, rest));
        }
        if digits == 8 {
            return None;
        }
        value = value << 4 | char::from(*byte).to_digit(16)?;
        digits += 1;
    }
}

/// The letters of six bits, from the highest to the lowest.
const LETTERS: [u8; 6] = *b"alswrv";

/// Appends six letters, `-` where a bit is absent.
fn push_letters(to: &mut Vec<u8>, bits: u32) {
    let mut text = LETTERS;
    for (at, letter) in text.iter_mut().rev().enumerate() {
        if bits >> at & 1 == 0 {
            *letter = b'-';
        }
    }
    to.extend_from_slice(&text);
}

/// Appends the 24 letters of a whole mask: possessor, owner, group, other.
pub fn push_mask(to: &mut Vec<u8>, mask: u32) {
    for shift in [24, 16, 8, 0] {
        push_letters(to, mask >> shift);
    }
}

/// Who looks at keys; asked of the kernel once, and only when a key is shown.
#[derive(Debug, Default)]
pub struct Viewer(OnceCell<Ids>);

#[derive(Debug)]
struct Ids {
    uid: i32,
    gid: i32,
    groups: Vec<u32>,
}

impl Viewer {
    /// The six bits the viewer is presumed to have: the possessor's, whether it possesses the key
    /// or not, and the owner's, the group's or everybody else's.
    #[must_use]
    pub fn presumed(&self, key: &Described<'_>) -> u32 {
        let ids = self.0.get_or_init(|| Ids {
            uid: cred::effective_uid().cast_signed(),
            gid: cred::effective_gid().cast_signed(),
            groups: cred::groups().unwrap_or_default(),
        });
        let in_group = || {
            key.gid != -1 && (key.gid == ids.gid || ids.groups.contains(&key.gid.cast_unsigned()))
        };
        let shift = if key.uid == ids.uid {
            16
        } else if in_group() {
            8
        } else {
            0
        };
        (key.mask >> 24 | key.mask >> shift) & 0x3f
    }

    /// Appends them as `--` and six letters.
    pub fn push_presumed(&self, to: &mut Vec<u8>, key: &Described<'_>) {
        to.extend_from_slice(b"--");
        push_letters(to, self.presumed(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn everything_after_the_fourth_semicolon_is_the_description() {
        let d = Described::parse(b"user;-2;65534;3f010000;a;b\n\xff").unwrap();
        assert_eq!((d.type_, d.uid, d.gid), (&b"user"[..], -2, 65534));
        assert_eq!((d.mask, d.description), (0x3f01_0000, &b"a;b\n\xff"[..]));
        assert!(!d.is_keyring());
        assert!(Described::parse(b"keyring;0;0;0;").unwrap().is_keyring());
    }

    #[test]
    fn leading_zeros_are_no_digits_too_many() {
        let d = Described::parse(b"user;-00000000000002;000000000007;1;").unwrap();
        assert_eq!((d.uid, d.gid), (-2, 7));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            &b""[..],
            b";0;0;0;",
            b"user",
            b"user;",
            b"user;1",
            b"user;;0;0;",
            b"user;-;0;0;",
            b"user;4294967295;0;0;",
            b"user;99999999999;0;0;",
            b"user;99999999999999999999999999;0;0;",
            b"user;-99999999999999999999999999;0;0;",
            b"user;0;0;;",
            b"user;0;0;0",
            b"user;0;0;0x1;",
            b"user;0;0;123456789;",
        ] {
            assert_eq!(Described::parse(text), None, "{:?}", text.escape_ascii());
        }
    }

    #[test]
    fn letters_stand_in_the_order_of_the_bits() {
        let mut text = Vec::new();
        push_mask(&mut text, 0x3f01_2008);
        assert_eq!(text, b"alswrv-----va-------s---");
    }

    #[test]
    fn the_possessors_bits_are_always_added() {
        let me = cred::effective_uid().cast_signed();
        let key = |uid, gid| Described {
            type_: b"user",
            uid,
            gid,
            mask: 0x2001_0204,
            description: b"",
        };
        let viewer = Viewer::default();
        let my_group = cred::effective_gid().cast_signed();
        assert_eq!(viewer.presumed(&key(me, -1)), 0x21);
        assert_eq!(viewer.presumed(&key(me + 1, my_group)), 0x22);
        assert_eq!(viewer.presumed(&key(me + 1, -1)), 0x24);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Described::parse(&text);
        }

        #[test]
        fn fields_round_trip(
            type_ in "[a-z._]{1,31}", uid in any::<i32>(), gid in any::<i32>(), mask in any::<u32>(),
            description in proptest::collection::vec(1..=255u8, 0..60)
        ) {
            let mut text = format!("{type_};{uid};{gid};{mask:08x};").into_bytes();
            text.extend_from_slice(&description);
            let type_ = type_.as_bytes();
            let expected = Described { type_, uid, gid, mask, description: &description };
            prop_assert_eq!(Described::parse(&text), Some(expected));
        }
    }
}
