//! Bytes in hexadecimal, as they are typed and as they are shown.

use std::io::Write as _;

use zeroize::Zeroizing;

use crate::error::CommandError;

/// A text that is not pairs of hexadecimal digits. It says where, never what: the text is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// The last digit has no partner.
    #[error("the last of the hexadecimal digits stands alone")]
    Odd,
    /// Something that is no hexadecimal digit.
    #[error("byte {0} of the text is no hexadecimal digit")]
    NoDigit(usize),
}

/// Reads pairs of digits in either case. Between pairs, not inside them, there may be white space.
///
/// # Errors
/// [`HexError`].
pub fn decode(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, HexError> {
    // Large enough never to grow: no copy of a part of the secret is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    let mut at = 0;
    while let Some(&first) = text.get(at) {
        // The vertical tab is white space to `isspace(3)` alone.
        if first.is_ascii_whitespace() || first == 0x0b {
            at += 1;
            continue;
        }
        let high = digit(first).ok_or(HexError::NoDigit(at))?;
        let second = *text.get(at + 1).ok_or(HexError::Odd)?;
        let low = digit(second).ok_or(HexError::NoDigit(at + 1))?;
        bytes.push(high << 4 | low);
        at += 2;
    }
    Ok(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

/// All bytes in one line, without a line break.
///
/// # Errors
/// None that a buffer in memory has.
pub fn line(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() * 2));
    for byte in bytes {
        write!(out, "{byte:02x}").map_err(|error| CommandError::output(&error))?;
    }
    Ok(out)
}

/// 32 bytes to a line.
///
/// # Errors
/// As [`line`].
pub fn lines(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() * 2 + bytes.len() / 32 + 1));
    for chunk in bytes.chunks(32) {
        out.extend_from_slice(&line(chunk)?);
        out.push(b'\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn white_space_stands_between_pairs_only() {
        assert_eq!(
            decode(b" 00fF\n\x0b0a\t").unwrap().as_slice(),
            [0x00, 0xff, 0x0a]
        );
        assert!(decode(b"").unwrap().is_empty());
        assert_eq!(decode(b"0 0"), Err(HexError::NoDigit(1)));
        assert_eq!(decode(b"000"), Err(HexError::Odd));
        assert_eq!(decode(b"0g"), Err(HexError::NoDigit(1)));
        assert_eq!(decode(b"0x00"), Err(HexError::NoDigit(1)));
    }

    #[test]
    fn there_are_32_bytes_to_a_line() {
        let text = lines(&[0xab; 33]).unwrap();
        assert_eq!(
            text.as_slice(),
            format!("{}\nab\n", "ab".repeat(32)).as_bytes()
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            for text in [line(&bytes).unwrap(), lines(&bytes).unwrap()] {
                let read = decode(&text).unwrap();
                prop_assert_eq!(read.as_slice(), &bytes);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&text);
        }
    }
}
