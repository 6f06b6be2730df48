//! What `KEYCTL_DESCRIBE` says about a key: `type;uid;gid;perm;description`.
//!
//! The kernel prints ids as signed numbers, translated to the user namespace of the caller, and the
//! mask as eight hexadecimal digits (`keyctl_describe_key`). Everything after the fourth `;` is the
//! description: any bytes, further semicolons and line breaks included.

use std::fmt;

use crate::mask::Mask;
use crate::text::Escaped;

/// A user or group id as the kernel prints it in the text interfaces for keys.
///
/// −1 stands for "no id" and becomes `None`; other negative numbers are ids from 2³¹ on.
pub(crate) fn id_from_signed(text: &[u8]) -> Option<Option<u32>> {
    let number = signed(text)?;
    Some(if number == -1 {
        None
    } else {
        Some(number.cast_unsigned())
    })
}

/// The counterpart of [`id_from_signed`].
pub(crate) fn id_to_signed(id: Option<u32>) -> i32 {
    id.map_or(-1, u32::cast_signed)
}

/// `%d`: no plus sign, no blanks.
pub(crate) fn signed(text: &[u8]) -> Option<i32> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// `%08x`: hexadecimal digits and nothing else, at most eight.
pub(crate) fn hex(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 8 || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(str::from_utf8(text).ok()?, 16).ok()
}

/// A key as the kernel describes it to the calling thread.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyDescription {
    /// The type, such as `user`; never with `;`.
    pub type_: Vec<u8>,
    /// The owner in the caller's user namespace, 65534 if it is not mapped there.
    pub uid: Option<u32>,
    /// The group in the caller's user namespace, 65534 if it is not mapped there or absent.
    pub gid: Option<u32>,
    /// The permission mask.
    pub mask: Mask,
    /// The description: untrusted bytes.
    pub description: Vec<u8>,
}

/// A text that `KEYCTL_DESCRIBE` never returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel's description of the key cannot be understood: its {0} is missing or malformed"
)]
pub struct BadDescription(pub &'static str);

impl KeyDescription {
    /// Reads the answer of `KEYCTL_DESCRIBE` without its final NUL.
    ///
    /// # Errors
    /// [`BadDescription`] with the first field that is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, BadDescription> {
        let mut fields = text.splitn(5, |b| *b == b';');
        let mut field = |name| fields.next().ok_or(BadDescription(name));
        let type_ = field("type")?;
        if type_.is_empty() {
            return Err(BadDescription("type"));
        }
        Ok(Self {
            type_: type_.to_vec(),
            uid: id_from_signed(field("uid")?).ok_or(BadDescription("uid"))?,
            gid: id_from_signed(field("gid")?).ok_or(BadDescription("gid"))?,
            mask: hex(field("mask")?)
                .and_then(Mask::from_raw)
                .ok_or(BadDescription("mask"))?,
            description: field("description")?.to_vec(),
        })
    }

    /// Whether it is a keyring.
    #[must_use]
    pub fn is_keyring(&self) -> bool {
        self.type_ == b"keyring"
    }

    /// The text that [`parse`](Self::parse) reads, as the kernel writes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (uid, gid) = (id_to_signed(self.uid), id_to_signed(self.gid));
        let numbers = format!(";{uid};{gid};{:08x};", self.mask.raw());
        [&self.type_, numbers.as_bytes(), &self.description].concat()
    }
}

impl fmt::Debug for KeyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDescription({})", Escaped::new(&self.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyns_sys::{KeySerial, key};
    use proptest::prelude::*;

    #[test]
    fn the_fields_are_told_apart_and_the_description_keeps_its_semicolons() {
        let d = KeyDescription::parse(b"user;1000;65534;3f010000;a;b\n\xff").unwrap();
        assert_eq!(d.type_, b"user");
        assert_eq!((d.uid, d.gid), (Some(1000), Some(65534)));
        assert_eq!(d.mask.raw(), 0x3f01_0000);
        assert_eq!(d.description, b"a;b\n\xff");
        assert!(!d.is_keyring());
    }

    #[test]
    fn negative_numbers_are_large_ids_and_minus_one_is_none() {
        let d = KeyDescription::parse(b"user;-2;-1;00000000;").unwrap();
        assert_eq!((d.uid, d.gid), (Some(u32::MAX - 1), None));
        let d = KeyDescription::parse(b"user;-2147483648;0;00000000;").unwrap();
        assert_eq!(d.uid, Some(1 << 31));
    }

    #[test]
    fn the_faulty_field_is_named() {
        for (text, field) in [
            (&b""[..], "type"),
            (b";0;0;00000000;x", "type"),
            (b"user", "uid"),
            (b"user;;0;00000000;x", "uid"),
            (b"user;+1;0;00000000;x", "uid"),
            (b"user;4294967295;0;00000000;x", "uid"),
            (b"user;0; 0;00000000;x", "gid"),
            (b"user;0;0;0x000000;x", "mask"),
            (b"user;0;0;000000000;x", "mask"),
            (b"user;0;0;40000000;x", "mask"),
            (b"user;0;0;00000000", "description"),
        ] {
            assert_eq!(
                KeyDescription::parse(text),
                Err(BadDescription(field)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_kernels_own_text_is_understood() {
        let name = c"keyns-describe;\xff\n";
        let k = key::add_key(c"user", name, b"x", KeySerial::THREAD).unwrap();
        key::chown(k, Some(u32::MAX - 1), Some(1 << 31)).unwrap();
        let text = key::describe(k).unwrap();
        let d = KeyDescription::parse(&text).unwrap();
        assert_eq!(d.description, name.to_bytes());
        assert_eq!((d.uid, d.gid), (Some(u32::MAX - 1), Some(1 << 31)));
        assert_eq!(d.to_bytes(), text);
        key::invalidate(k).unwrap();
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = KeyDescription::parse(&bytes);
        }

        #[test]
        fn fields_round_trip(
            type_ in "[a-z._]{1,31}", uid in any::<Option<u32>>(), gid in any::<Option<u32>>(),
            raw in any::<u32>(), description in proptest::collection::vec(1..=255u8, 0..60)
        ) {
            // −1 is how "no id" is printed.
            let id = |id: Option<u32>| id.filter(|n| *n != u32::MAX);
            let d = KeyDescription {
                type_: type_.into_bytes(),
                uid: id(uid),
                gid: id(gid),
                mask: Mask::from_raw(raw & Mask::ALL.raw()).unwrap(),
                description,
            };
            prop_assert_eq!(KeyDescription::parse(&d.to_bytes()), Ok(d));
        }
    }
}
