//! Keys as people type them.
//!
//! | Text | Meaning |
//! |---|---|
//! | `@t @p @s @u @us @g @a`, `-1` … `-8` | a special keyring of the calling thread |
//! | `474754113`, `0x1c4c2841` | a serial |
//! | `%TYPE:DESC`, `%:DESC` | found by type and description; without type: a keyring |
//! | `CONTAINER[.CHILD…]/TYPE:DESC` | in the keyring of a container, which no type means again |
//! | `CONTAINER[.CHILD…]/SERIAL` | the same by serial |
//!
//! Types and descriptions are bytes without NUL. The first `/` ends the container, the first `:`
//! after it ends the type, so descriptions may contain both.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

use keyns_sys::key::{MAX_DESCRIPTION, MAX_TYPE};

use crate::name::{ContainerPath, PathError};
use crate::serial::{self, KeySerial, SerialError};
use crate::text::Escaped;

/// Type and description of a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName {
    type_: CString,
    description: CString,
}

/// Why type and description cannot be those of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyNameError {
    /// A NUL byte in either.
    #[error("a NUL byte cannot be part of a key's type or description")]
    Nul,
    /// The type is empty or has more than 31 bytes.
    #[error("a key type has 1 to 31 bytes, this one has {length}")]
    TypeLength {
        /// Bytes found.
        length: usize,
    },
    /// The description is empty.
    #[error("the description is empty")]
    NoDescription,
    /// The description has more than 4095 bytes.
    #[error("a description has at most 4095 bytes, this one has {length}")]
    LongDescription {
        /// Bytes found.
        length: usize,
    },
    /// There is no `:`.
    #[error("“:” between type and description is missing")]
    NoColon,
}

impl KeyName {
    /// Checks both parts.
    ///
    /// # Errors
    /// All of [`KeyNameError`] but `NoColon`.
    pub fn new(type_: &[u8], description: &[u8]) -> Result<Self, KeyNameError> {
        if !(1..=MAX_TYPE).contains(&type_.len()) {
            return Err(KeyNameError::TypeLength {
                length: type_.len(),
            });
        }
        if description.is_empty() {
            return Err(KeyNameError::NoDescription);
        }
        if description.len() > MAX_DESCRIPTION {
            return Err(KeyNameError::LongDescription {
                length: description.len(),
            });
        }
        Ok(Self {
            type_: CString::new(type_).map_err(|_| KeyNameError::Nul)?,
            description: CString::new(description).map_err(|_| KeyNameError::Nul)?,
        })
    }

    /// Reads `TYPE:DESC`; an empty type means `keyring`.
    ///
    /// # Errors
    /// [`KeyNameError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyNameError> {
        let (type_, description) = split(bytes, b':').ok_or(KeyNameError::NoColon)?;
        Self::new(
            if type_.is_empty() { b"keyring" } else { type_ },
            description,
        )
    }

    /// The type, for the system calls.
    #[must_use]
    pub fn type_(&self) -> &CStr {
        &self.type_
    }

    /// The description, for the system calls.
    #[must_use]
    pub fn description(&self) -> &CStr {
        &self.description
    }

    /// `TYPE:DESC`, which [`from_bytes`](Self::from_bytes) reads unless the type contains `:`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.type_.as_bytes(), b":", self.description.as_bytes()].concat()
    }
}

/// `TYPE:DESC` with untrusted bytes escaped.
impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}",
            Escaped::new(self.type_.as_bytes()),
            Escaped::new(self.description.as_bytes())
        )
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyName({self})")
    }
}

/// Which key of a container's keyring.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ContainerKey {
    /// By type and description.
    Named(KeyName),
    /// By serial; never special.
    Serial(KeySerial),
}

/// A key as typed; resolving it may still fail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySpec {
    /// A serial, or a special number of the calling thread.
    Serial(KeySerial),
    /// To be searched in the caller's keyrings.
    Named(KeyName),
    /// To be looked up in the keyring of a container.
    InContainer {
        /// The container.
        container: ContainerPath,
        /// The key in it.
        key: ContainerKey,
    },
}

/// A text that names no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Nothing was typed.
    #[error("a key is missing")]
    Empty,
    /// `@` with something unknown.
    #[error(
        "unknown special keyring “{}”; there are @t @p @s @u @us @g @a",
        Escaped::new(.0).cut(40)
    )]
    UnknownSpecial(Vec<u8>),
    /// `%` with something that is no `TYPE:DESC`.
    #[error("{0}; a key by name is written %TYPE:DESC")]
    Name(KeyNameError),
    /// The part before `/`.
    #[error("container “{}”: {error}", Escaped::new(.container).cut(40))]
    Container {
        /// As typed.
        container: Vec<u8>,
        /// Its fault.
        error: PathError,
    },
    /// The part after `/`, with a colon.
    #[error("{0}; a key in a container is written CONTAINER/TYPE:DESC")]
    ContainerKey(KeyNameError),
    /// The part after `/`, without a colon.
    #[error("“{}” is no key: {error}; a key in a container is written CONTAINER/TYPE:DESC or CONTAINER/SERIAL", Escaped::new(.key).cut(40))]
    ContainerSerial {
        /// As typed.
        key: Vec<u8>,
        /// Its fault.
        error: SerialError,
    },
    /// A special number after `/`.
    #[error("a special keyring belongs to a thread, not to a container")]
    SpecialInContainer,
    /// None of the forms above.
    #[error(
        "“{}” is no key: {error}; write a serial, @s, %TYPE:DESC or CONTAINER/TYPE:DESC",
        Escaped::new(.text).cut(40)
    )]
    Unknown {
        /// As typed.
        text: Vec<u8>,
        /// Why it is no number.
        error: SerialError,
    },
}

const SPECIAL: [(&str, KeySerial); 7] = [
    ("@t", KeySerial::THREAD),
    ("@p", KeySerial::PROCESS),
    ("@s", KeySerial::SESSION),
    ("@u", KeySerial::USER),
    ("@us", KeySerial::USER_SESSION),
    ("@g", KeySerial::GROUP),
    ("@a", KeySerial::AUTH_KEY),
];

impl KeySpec {
    /// Reads one of the forms in the head of this module.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SpecError> {
        match bytes.first() {
            None => return Err(SpecError::Empty),
            Some(b'@') => {
                return SPECIAL
                    .iter()
                    .find(|(name, _)| name.as_bytes() == bytes)
                    .map(|(_, serial)| Self::Serial(*serial))
                    .ok_or_else(|| SpecError::UnknownSpecial(bytes.to_vec()));
            }
            Some(b'%') => {
                let name = bytes.get(1..).unwrap_or_default();
                return KeyName::from_bytes(name)
                    .map(Self::Named)
                    .map_err(SpecError::Name);
            }
            Some(_) => {}
        }
        if let Some((container, key)) = split(bytes, b'/') {
            return Ok(Self::InContainer {
                container: ContainerPath::from_bytes(container).map_err(|error| {
                    SpecError::Container {
                        container: container.to_vec(),
                        error,
                    }
                })?,
                key: container_key(key)?,
            });
        }
        number(bytes)
            .map(Self::Serial)
            .map_err(|error| SpecError::Unknown {
                text: bytes.to_vec(),
                error,
            })
    }

    /// Reads an argument of the command line.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn from_os_str(text: &OsStr) -> Result<Self, SpecError> {
        Self::from_bytes(text.as_bytes())
    }

    /// The text that [`from_bytes`](Self::from_bytes) reads back, byte for byte.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Serial(serial) => serial_text(*serial).into_bytes(),
            Self::Named(name) => [b"%", name.to_bytes().as_slice()].concat(),
            Self::InContainer { container, key } => {
                let key = match key {
                    ContainerKey::Named(name) => name.to_bytes(),
                    ContainerKey::Serial(serial) => serial.to_string().into_bytes(),
                };
                [container.to_string().as_bytes(), b"/", &key].concat()
            }
        }
    }

    /// The same as an argument for a command.
    #[must_use]
    pub fn to_os_string(&self) -> OsString {
        OsString::from_vec(self.to_bytes())
    }
}

fn serial_text(serial: KeySerial) -> String {
    SPECIAL
        .iter()
        .find(|(_, special)| *special == serial)
        .map_or_else(|| serial.to_string(), |(name, _)| (*name).to_owned())
}

fn number(bytes: &[u8]) -> Result<KeySerial, SerialError> {
    serial::parse(str::from_utf8(bytes).map_err(|_| SerialError::NotANumber)?)
}

fn container_key(bytes: &[u8]) -> Result<ContainerKey, SpecError> {
    if bytes.contains(&b':') {
        return KeyName::from_bytes(bytes)
            .map(ContainerKey::Named)
            .map_err(SpecError::ContainerKey);
    }
    match number(bytes) {
        Ok(serial) if serial.is_special() => Err(SpecError::SpecialInContainer),
        Ok(serial) => Ok(ContainerKey::Serial(serial)),
        Err(error) => Err(SpecError::ContainerSerial {
            key: bytes.to_vec(),
            error,
        }),
    }
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (head, tail) = bytes.split_at_checked(bytes.iter().position(|b| *b == at)?)?;
    Some((head, tail.get(1..)?))
}

impl FromStr for KeySpec {
    type Err = SpecError;
    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::from_bytes(text.as_bytes())
    }
}

impl TryFrom<&OsStr> for KeySpec {
    type Error = SpecError;
    fn try_from(text: &OsStr) -> Result<Self, SpecError> {
        Self::from_os_str(text)
    }
}

/// For people; untrusted bytes are escaped.
impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped::new(&self.to_bytes()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameError;
    use proptest::prelude::*;

    fn named(type_: &str, description: &str) -> KeyName {
        KeyName::new(type_.as_bytes(), description.as_bytes()).unwrap()
    }

    fn in_container(path: &str, key: ContainerKey) -> Result<KeySpec, SpecError> {
        Ok(KeySpec::InContainer {
            container: path.parse().unwrap(),
            key,
        })
    }

    #[test]
    fn special_keyrings_by_letter_and_by_number() {
        for (text, serial) in SPECIAL {
            assert_eq!(text.parse(), Ok(KeySpec::Serial(serial)));
            assert_eq!(
                serial.raw().to_string().parse(),
                Ok(KeySpec::Serial(serial))
            );
        }
        assert_eq!("-8".parse(), Ok(KeySpec::Serial(KeySerial::REQUESTOR)));
        assert_eq!(
            "@x".parse::<KeySpec>(),
            Err(SpecError::UnknownSpecial(b"@x".to_vec()))
        );
        assert!("@".parse::<KeySpec>().is_err());
        assert!("@S".parse::<KeySpec>().is_err());
    }

    #[test]
    fn the_first_colon_ends_the_type() {
        assert_eq!(
            "%user:a:b/c".parse(),
            Ok(KeySpec::Named(named("user", "a:b/c")))
        );
        assert_eq!(
            "%:ring".parse(),
            Ok(KeySpec::Named(named("keyring", "ring")))
        );
        assert_eq!(
            "%user".parse::<KeySpec>(),
            Err(SpecError::Name(KeyNameError::NoColon))
        );
        assert_eq!(
            "%user:".parse::<KeySpec>(),
            Err(SpecError::Name(KeyNameError::NoDescription))
        );
        assert_eq!(
            "%".parse::<KeySpec>(),
            Err(SpecError::Name(KeyNameError::NoColon))
        );
    }

    #[test]
    fn the_first_slash_ends_the_container() {
        assert_eq!(
            "web/rxrpc:afs@a/b".parse(),
            in_container("web", ContainerKey::Named(named("rxrpc", "afs@a/b")))
        );
        assert_eq!(
            "web.db/474754113".parse(),
            in_container("web.db", ContainerKey::Serial(KeySerial::new(474_754_113)))
        );
        assert_eq!(
            "web/:r".parse(),
            in_container("web", ContainerKey::Named(named("keyring", "r")))
        );
    }

    #[test]
    fn faults_after_the_slash_are_told_apart() {
        assert_eq!(
            "web/-3".parse::<KeySpec>(),
            Err(SpecError::SpecialInContainer)
        );
        assert!(matches!(
            "web/".parse::<KeySpec>(),
            Err(SpecError::ContainerSerial { .. })
        ));
        assert!(matches!(
            "web/user".parse::<KeySpec>(),
            Err(SpecError::ContainerSerial { .. })
        ));
        assert!(matches!(
            "web/user:".parse::<KeySpec>(),
            Err(SpecError::ContainerKey(_))
        ));
        assert!(matches!(
            "/user:a".parse::<KeySpec>(),
            Err(SpecError::Container {
                error: PathError::Name(NameError::Empty),
                ..
            })
        ));
    }

    #[test]
    fn limits_of_type_and_description_are_the_kernels() {
        let spec = |t: usize, d: usize| {
            KeySpec::from_bytes(format!("%{}:{}", "t".repeat(t), "d".repeat(d)).as_bytes())
        };
        assert!(spec(31, 4095).is_ok());
        assert_eq!(
            spec(32, 1),
            Err(SpecError::Name(KeyNameError::TypeLength { length: 32 }))
        );
        assert_eq!(
            spec(1, 4096),
            Err(SpecError::Name(KeyNameError::LongDescription {
                length: 4096
            }))
        );
        assert_eq!(
            KeySpec::from_bytes(b"%a:b\0"),
            Err(SpecError::Name(KeyNameError::Nul))
        );
    }

    #[test]
    fn descriptions_are_bytes_and_shown_escaped() {
        let spec = KeySpec::from_os_str(OsStr::from_bytes(b"%user:\xff\x1b")).unwrap();
        assert_eq!(spec.to_bytes(), b"%user:\xff\x1b");
        assert_eq!(spec.to_string(), "%user:\\xff\\x1b");
    }

    #[test]
    fn an_unknown_text_is_answered_with_the_forms() {
        let text = "web".parse::<KeySpec>().unwrap_err().to_string();
        assert!(
            text.contains("“web” is no key") && text.contains("CONTAINER/TYPE:DESC"),
            "{text}"
        );
        let text = "0b6ec455".parse::<KeySpec>().unwrap_err().to_string();
        assert!(text.contains("0x"), "{text}");
        assert_eq!("".parse::<KeySpec>(), Err(SpecError::Empty));
    }

    /// Bytes likely to hit a rule.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            Just(b'@'),
            Just(b'%'),
            Just(b':'),
            Just(b'/'),
            Just(b'.'),
            Just(b'-'),
            Just(b'0'),
            Just(b'x'),
            b'1'..=b'9',
            b'a'..=b'u',
            any::<u8>()
        ];
        proptest::collection::vec(byte, 0..30)
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_accepted_ones_round_trip(bytes in tricky()) {
            match KeySpec::from_bytes(&bytes) {
                Ok(spec) => prop_assert_eq!(KeySpec::from_bytes(&spec.to_bytes()), Ok(spec)),
                Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control)),
            }
        }

        #[test]
        fn any_description_without_nul_survives(
            type_ in "[a-z._]{1,31}",
            description in proptest::collection::vec(1..=255u8, 1..100)
        ) {
            let name = KeyName::new(type_.as_bytes(), &description).unwrap();
            let specs = [
                KeySpec::Named(name.clone()),
                KeySpec::InContainer { container: "a.b".parse().unwrap(), key: ContainerKey::Named(name) },
            ];
            for spec in specs {
                prop_assert_eq!(KeySpec::from_bytes(&spec.to_bytes()), Ok(spec));
            }
        }
    }
}
