//! Byte strings of the kernel as JSON strings.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are usually text (a key's description, callout information, a command's argument).
///
/// On the wire: UTF-8 as it is, a backslash as `\\`, and each byte that is not part of valid UTF-8
/// as `\xNN` (two lower-case hex digits). The form is reversible.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteText(pub Vec<u8>);

impl ByteText {
    /// The bytes themselves.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn decode(text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            if byte != b'\\' {
                out.push(byte);
                rest = tail;
                continue;
            }
            match tail {
                [b'\\', tail @ ..] => {
                    out.push(b'\\');
                    rest = tail;
                }
                [b'x', high, low, tail @ ..] => {
                    let digit = |d: u8| char::from(d).to_digit(16);
                    out.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
                    rest = tail;
                }
                _ => return None,
            }
        }
        Some(out)
    }
}

impl<T: Into<Vec<u8>>> From<T> for ByteText {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Display for ByteText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(&chunk.valid().replace('\\', "\\\\"))?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ByteText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for ByteText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::decode(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom("a backslash must be followed by a backslash or by xNN")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ByteText;

    #[test]
    fn every_byte_survives_the_wire() {
        let all: Vec<u8> = (0..=255).chain(*b"\\x41\\\\ \xc3\xa4").collect();
        let json = serde_json::to_string(&ByteText(all.clone())).unwrap();
        assert_eq!(serde_json::from_str::<ByteText>(&json).unwrap().0, all);
    }

    #[test]
    fn a_lone_backslash_is_refused() {
        for bad in [r#""\\q""#, r#""\\""#, r#""\\x1""#, r#""\\xzz""#] {
            assert!(serde_json::from_str::<ByteText>(bad).is_err(), "{bad}");
        }
    }
}
