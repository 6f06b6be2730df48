//! How a key is named on the command line.
//!
//! `@s` and its like, `%type:description`, or a number. Reading a name ([`KeyId::parse`]) asks
//! nobody; finding the key ([`KeyId::resolve`]) does.

use std::ffi::{CStr, CString};

use keyns_sys::KeySerial;

use super::named_key;
use super::number::{self, Base};
use super::stop::Stop;

/// The keyrings with a number that means something else in every thread.
const SPECIAL: [(&[u8], KeySerial); 7] = [
    (b"@t", KeySerial::THREAD),
    (b"@p", KeySerial::PROCESS),
    (b"@s", KeySerial::SESSION),
    (b"@u", KeySerial::USER),
    (b"@us", KeySerial::USER_SESSION),
    (b"@g", KeySerial::GROUP),
    (b"@a", KeySerial::AUTH_KEY),
];

/// A key as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyId<'a> {
    /// By number, which may be a special one; it goes to the kernel as it is.
    Number(KeySerial),
    /// By type and description.
    Named {
        /// The type; any bytes.
        type_: CString,
        /// The description; any bytes, at least one.
        description: &'a CStr,
    },
}

/// A text that names no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyIdError {
    /// `@` and something unknown.
    UnknownSpecial,
    /// `%` without `:` or without description.
    IncorrectName,
    /// No number.
    Unparsable,
}

impl<'a> KeyId<'a> {
    /// Reads one of the three forms.
    ///
    /// # Errors
    /// [`KeyIdError`].
    pub fn parse(text: &'a CStr) -> Result<Self, KeyIdError> {
        let bytes = text.to_bytes();
        match bytes.split_first() {
            Some((b'@', _)) => SPECIAL
                .iter()
                .find(|(name, _)| *name == bytes)
                .map(|(_, serial)| Self::Number(*serial))
                .ok_or(KeyIdError::UnknownSpecial),
            Some((b'%', name)) => Self::named(text, name).ok_or(KeyIdError::IncorrectName),
            _ => number::whole(bytes, Base::Any)
                .map(|number| Self::Number(KeySerial::new(number.cast_signed())))
                .ok_or(KeyIdError::Unparsable),
        }
    }

    /// `type:description`, at the first colon; no type means keyring.
    fn named(text: &'a CStr, name: &[u8]) -> Option<Self> {
        let colon = name.iter().position(|byte| *byte == b':')?;
        let type_ = name.get(..colon)?;
        // Behind the percent sign and the colon.
        let description = text.to_bytes_with_nul().get(colon + 2..)?;
        let description = CStr::from_bytes_with_nul(description).ok()?;
        let type_ = if type_.is_empty() { b"keyring" } else { type_ };
        (!description.is_empty()).then_some(Self::Named {
            type_: CString::new(type_).ok()?,
            description,
        })
    }

    /// Finds the key. A number, special or not, is left to the kernel.
    ///
    /// # Errors
    /// A line for standard error, status 1, when a named key is not found.
    pub(crate) fn resolve(&self) -> Result<KeySerial, Stop> {
        match self {
            Self::Number(serial) => Ok(*serial),
            Self::Named { type_, description } => {
                named_key::find(type_, description).map_err(|unreadable| {
                    let mut line = Vec::new();
                    if let Some(errno) = unreadable {
                        line.extend_from_slice(b"libkeyutils: Can't open /proc/keys: ");
                        super::errno_text::push(errno, &mut line);
                        line.push(b'\n');
                    }
                    line.extend_from_slice(b"Can't find '");
                    line.extend_from_slice(type_.to_bytes());
                    line.push(b':');
                    line.extend_from_slice(description.to_bytes());
                    line.push(b'\'');
                    Stop::said(line, 1)
                })
            }
        }
    }
}

/// The key that a word of the command line names.
pub(crate) fn key(word: &CStr) -> Result<KeySerial, Stop> {
    match KeyId::parse(word) {
        Ok(id) => id.resolve(),
        Err(KeyIdError::UnknownSpecial) => {
            Err(Stop::unparsable("Unknown special key", word.to_bytes()))
        }
        Err(KeyIdError::IncorrectName) => Err(Stop::said("Incorrect key-by-name spec", 2)),
        Err(KeyIdError::Unparsable) => Err(Stop::unparsable("Unparsable key", word.to_bytes())),
    }
}

/// The destination of a key, where one was given; else none.
pub(crate) fn destination(word: Option<&&'static CStr>) -> Result<KeySerial, Stop> {
    word.map_or(Ok(KeySerial::NONE), |word| key(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &CStr) -> i32 {
        match KeyId::parse(text) {
            Ok(KeyId::Number(serial)) => serial.raw(),
            other => panic!("{text:?} is {other:?}"),
        }
    }

    fn error(text: &CStr) -> KeyIdError {
        KeyId::parse(text).unwrap_err()
    }

    #[test]
    fn special_keyrings_have_names_and_numbers() {
        for (name, serial) in SPECIAL {
            let name = CString::new(name).unwrap();
            assert_eq!(KeyId::parse(&name), Ok(KeyId::Number(serial)));
        }
        assert_eq!(number(c"4294967293"), -3);
        assert_eq!(number(c"0xfffffffd"), -3);
        assert_eq!(number(c"-3"), -3);
        assert_eq!(error(c"@x"), KeyIdError::UnknownSpecial);
        assert_eq!(error(c"@"), KeyIdError::UnknownSpecial);
        assert_eq!(error(c"@S"), KeyIdError::UnknownSpecial);
    }

    #[test]
    fn numbers_are_those_of_strtoul() {
        assert_eq!(number(c""), 0);
        assert_eq!(number(c" 010"), 8);
        assert_eq!(number(c"99999999999999999999999"), -1);
        assert_eq!(error(c"1x"), KeyIdError::Unparsable);
        assert_eq!(error(c" "), KeyIdError::Unparsable);
    }

    #[test]
    fn the_first_colon_ends_the_type() {
        let named = |type_: &CStr, description: &'static CStr| {
            Ok(KeyId::Named {
                type_: type_.into(),
                description,
            })
        };
        assert_eq!(KeyId::parse(c"%user:a:b"), named(c"user", c"a:b"));
        assert_eq!(KeyId::parse(c"%:ring"), named(c"keyring", c"ring"));
        for text in [c"%", c"%:", c"%user", c"%user:"] {
            assert_eq!(error(text), KeyIdError::IncorrectName, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in proptest::collection::vec(1..=255u8, 0..30)) {
            let _ = KeyId::parse(&CString::new(text).unwrap());
        }

        #[test]
        fn every_serial_and_every_name_round_trips(
            serial in any::<i32>(), type_ in "[^:\0]{1,31}", description in "[^\0]{1,60}"
        ) {
            for text in [serial.to_string(), format!("{serial:#x}")] {
                prop_assert_eq!(number(&CString::new(text).unwrap()), serial);
            }
            let text = CString::new(format!("%{type_}:{description}")).unwrap();
            let description = CString::new(description).unwrap();
            let type_ = CString::new(type_).unwrap();
            let expected = KeyId::Named { type_, description: &description };
            prop_assert_eq!(KeyId::parse(&text), Ok(expected));
        }
    }
}
