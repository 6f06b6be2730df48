//! Names of containers: one component, and dotted paths of nested containers.
//!
//! The rules are those of the `container_create` call of the patched kernel, plus one of our own:
//! `.` separates nested names and therefore cannot be part of one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name of one container, in bytes.
pub const MAX_NAME: usize = 23;
/// How deep containers may be nested.
pub const MAX_DEPTH: usize = 32;

/// The name of one container among its siblings.
///
/// 1 to 23 bytes from `!` (0x21) to `~` (0x7e) without `/` and `.`; the first is not `<`, which
/// marks the line of the current container in listings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ContainerName(String);

/// What is wrong with a container name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nothing.
    #[error("a container name has at least one character")]
    Empty,
    /// More than [`MAX_NAME`] bytes.
    #[error("a container name has at most 23 bytes, this one has {length}")]
    TooLong {
        /// Bytes found.
        length: usize,
    },
    /// A slash.
    #[error("“/” at byte {position}: it separates a container from a key and cannot be in a name")]
    Slash {
        /// Offset of the byte.
        position: usize,
    },
    /// A full stop.
    #[error("“.” at byte {position}: it separates nested containers and cannot be in a name")]
    Dot {
        /// Offset of the byte.
        position: usize,
    },
    /// The first byte is `<`.
    #[error("a container name cannot begin with “<”")]
    AngleBracket,
    /// A blank.
    #[error("blank at byte {position}: a container name has none")]
    Blank {
        /// Offset of the byte.
        position: usize,
    },
    /// An ASCII control character.
    #[error("control character 0x{byte:02x} at byte {position} of the container name")]
    Control {
        /// The byte.
        byte: u8,
        /// Offset of the byte.
        position: usize,
    },
    /// A byte above 0x7e that belongs to a valid UTF-8 character.
    #[error("“{}” at byte {position}: a container name is plain ASCII", shown(*.character))]
    NotAscii {
        /// The character.
        character: char,
        /// Offset of its first byte.
        position: usize,
    },
    /// A byte that is not even UTF-8.
    #[error("byte 0x{byte:02x} at {position} is not UTF-8; a container name is plain ASCII")]
    NotUtf8 {
        /// The byte.
        byte: u8,
        /// Offset of the byte.
        position: usize,
    },
}

/// A letter as it is; anything else could move a cursor or turn the direction of writing.
fn shown(character: char) -> String {
    if character.is_alphanumeric() {
        character.to_string()
    } else {
        character.escape_unicode().to_string()
    }
}

impl ContainerName {
    /// Checks `bytes` as one name.
    ///
    /// # Errors
    /// The first fault of [`NameError`]; length is judged before content.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > MAX_NAME {
            return Err(NameError::TooLong {
                length: bytes.len(),
            });
        }
        let mut name = String::with_capacity(bytes.len());
        for (position, &byte) in bytes.iter().enumerate() {
            match byte {
                b'/' => return Err(NameError::Slash { position }),
                b'.' => return Err(NameError::Dot { position }),
                b'<' if position == 0 => return Err(NameError::AngleBracket),
                b' ' => return Err(NameError::Blank { position }),
                0x21..=0x7e => name.push(char::from(byte)),
                0..=0x1f | 0x7f => return Err(NameError::Control { byte, position }),
                0x80..=0xff => return Err(foreign(bytes, position, byte)),
            }
        }
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tells a character of another script from a byte of no encoding.
fn foreign(bytes: &[u8], position: usize, byte: u8) -> NameError {
    let character = bytes
        .get(position..)
        .and_then(|rest| rest.utf8_chunks().next())
        .and_then(|chunk| chunk.valid().chars().next());
    match character {
        Some(character) => NameError::NotAscii {
            character,
            position,
        },
        None => NameError::NotUtf8 { byte, position },
    }
}

/// A container by the names of its ancestors and its own, outermost first, joined by `.`.
///
/// Never empty, at most [`MAX_DEPTH`] components.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ContainerPath {
    ancestors: Vec<ContainerName>,
    name: ContainerName,
}

/// What is wrong with a container path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// More than [`MAX_DEPTH`] components.
    #[error("containers are nested at most 32 deep, this path has {depth} names")]
    TooDeep {
        /// Components found.
        depth: usize,
    },
    /// The only component is faulty.
    #[error(transparent)]
    Name(#[from] NameError),
    /// One of several components is faulty.
    #[error("name {index} of the path: {error}")]
    Component {
        /// Which one, counted from 1.
        index: usize,
        /// Its fault.
        error: NameError,
    },
}

impl ContainerPath {
    /// Checks `bytes` as a path.
    ///
    /// # Errors
    /// [`PathError`]; the first faulty component is named.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        let depth = bytes.split(|&b| b == b'.').count();
        if depth > MAX_DEPTH {
            return Err(PathError::TooDeep { depth });
        }
        let mut ancestors = Vec::with_capacity(depth);
        for (index, component) in bytes.split(|&b| b == b'.').enumerate() {
            let name = ContainerName::from_bytes(component).map_err(|error| {
                if depth == 1 {
                    PathError::Name(error)
                } else {
                    PathError::Component {
                        index: index + 1,
                        error,
                    }
                }
            })?;
            ancestors.push(name);
        }
        // `split` yields at least one component, so there is a last one.
        let name = ancestors.pop().ok_or(NameError::Empty)?;
        Ok(Self { ancestors, name })
    }

    /// The container's own name.
    #[must_use]
    pub fn name(&self) -> &ContainerName {
        &self.name
    }

    /// All names, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &ContainerName> {
        self.ancestors.iter().chain(std::iter::once(&self.name))
    }

    /// How many names: 1 for a container of the host.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.ancestors.len() + 1
    }

    /// The container around this one; `None` for a container of the host.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (name, ancestors) = self.ancestors.split_last()?;
        Some(Self {
            ancestors: ancestors.to_vec(),
            name: name.clone(),
        })
    }

    /// The container called `name` inside this one.
    ///
    /// # Errors
    /// [`PathError::TooDeep`].
    pub fn child(&self, name: ContainerName) -> Result<Self, PathError> {
        if self.depth() == MAX_DEPTH {
            return Err(PathError::TooDeep {
                depth: MAX_DEPTH + 1,
            });
        }
        Ok(Self {
            ancestors: self.components().cloned().collect(),
            name,
        })
    }

    /// Whether `other` lies inside this container, at any depth below it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.depth() > self.depth()
            && self
                .components()
                .zip(other.components())
                .all(|(a, b)| a == b)
    }
}

impl From<ContainerName> for ContainerPath {
    fn from(name: ContainerName) -> Self {
        Self {
            ancestors: Vec::new(),
            name,
        }
    }
}

impl fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.ancestors {
            write!(f, "{name}.")?;
        }
        self.name.fmt(f)
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! text_conversions {
    ($type:ty, $error:ty) => {
        impl FromStr for $type {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                Self::from_bytes(text.as_bytes())
            }
        }

        impl TryFrom<String> for $type {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::from_bytes(text.as_bytes())
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }
    };
}

text_conversions!(ContainerName, NameError);
text_conversions!(ContainerPath, PathError);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name_error(bytes: &[u8]) -> NameError {
        ContainerName::from_bytes(bytes).unwrap_err()
    }

    #[test]
    fn lengths_from_1_to_23_are_accepted() {
        assert_eq!(name_error(b""), NameError::Empty);
        assert!(ContainerName::from_bytes(b"a").is_ok());
        assert!(ContainerName::from_bytes(&[b'a'; 23]).is_ok());
        assert_eq!(name_error(&[b'a'; 24]), NameError::TooLong { length: 24 });
        assert_eq!(
            name_error(&[b'/'; 4096]),
            NameError::TooLong { length: 4096 }
        );
    }

    #[test]
    fn every_refused_byte_is_named_with_its_position() {
        assert_eq!(name_error(b"a/b"), NameError::Slash { position: 1 });
        assert_eq!(name_error(b"a.b"), NameError::Dot { position: 1 });
        assert_eq!(name_error(b"<a"), NameError::AngleBracket);
        assert_eq!(name_error(b"a b"), NameError::Blank { position: 1 });
        assert_eq!(
            name_error(b"ab\x1b"),
            NameError::Control {
                byte: 0x1b,
                position: 2
            }
        );
        assert_eq!(
            name_error(b"\x7f"),
            NameError::Control {
                byte: 0x7f,
                position: 0
            }
        );
        assert_eq!(
            name_error("aü".as_bytes()),
            NameError::NotAscii {
                character: 'ü',
                position: 1
            }
        );
        assert_eq!(
            name_error(b"a\xff"),
            NameError::NotUtf8 {
                byte: 0xff,
                position: 1
            }
        );
        assert_eq!(
            name_error(b"\xc3"),
            NameError::NotUtf8 {
                byte: 0xc3,
                position: 0
            }
        );
    }

    #[test]
    fn an_angle_bracket_may_stand_later() {
        assert_eq!(ContainerName::from_bytes(b"a<b>").unwrap().as_str(), "a<b>");
    }

    #[test]
    fn an_error_never_repeats_control_characters() {
        for byte in 0..=255u8 {
            if let Err(error) = ContainerName::from_bytes(&[b'a', byte]) {
                assert!(
                    !error.to_string().chars().any(char::is_control),
                    "{byte:#x}"
                );
            }
        }
    }

    #[test]
    fn a_path_knows_its_parts() {
        let path: ContainerPath = "web.db.cache".parse().unwrap();
        assert_eq!(path.depth(), 3);
        assert_eq!(path.name().as_str(), "cache");
        assert_eq!(path.parent().unwrap().to_string(), "web.db");
        assert!("web".parse::<ContainerPath>().unwrap().contains(&path));
        assert!(!path.contains(&path));
        assert!(!"we".parse::<ContainerPath>().unwrap().contains(&path));
        assert_eq!(
            path.child("x".parse().unwrap()).unwrap().to_string(),
            "web.db.cache.x"
        );
    }

    #[test]
    fn a_path_says_which_component_is_wrong() {
        let error = |text: &str| text.parse::<ContainerPath>().unwrap_err();
        assert_eq!(error(""), PathError::Name(NameError::Empty));
        assert_eq!(
            error("web."),
            PathError::Component {
                index: 2,
                error: NameError::Empty
            }
        );
        assert_eq!(
            error("web.a/b.c"),
            PathError::Component {
                index: 2,
                error: NameError::Slash { position: 1 }
            }
        );
    }

    #[test]
    fn nesting_ends_at_32() {
        let deep = vec!["a"; 32].join(".");
        let path: ContainerPath = deep.parse().unwrap();
        assert_eq!(
            path.child("b".parse().unwrap()),
            Err(PathError::TooDeep { depth: 33 })
        );
        assert_eq!(
            format!("{deep}.b").parse::<ContainerPath>(),
            Err(PathError::TooDeep { depth: 33 })
        );
    }

    #[test]
    fn json_is_checked_when_it_is_read() {
        let name: ContainerName = serde_json::from_str("\"web\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"web\"");
        assert!(serde_json::from_str::<ContainerName>("\"a/b\"").is_err());
        assert!(serde_json::from_str::<ContainerPath>("\"a..b\"").is_err());
        let value = serde_json::json!("a.b");
        assert_eq!(
            serde_json::from_value::<ContainerPath>(value)
                .unwrap()
                .depth(),
            2
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_accepted_ones_round_trip(
            bytes in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            if let Ok(path) = ContainerPath::from_bytes(&bytes) {
                prop_assert_eq!(path.to_string().into_bytes(), bytes);
            }
        }

        #[test]
        fn valid_names_are_accepted(name in "[!-\\-0-;=-~][!-\\-0-~]{0,22}") {
            let accepted = ContainerName::from_bytes(name.as_bytes()).unwrap();
            prop_assert_eq!(accepted.as_str(), name);
        }
    }
}
