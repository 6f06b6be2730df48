//! Untrusted bytes on their way to a terminal or a log.
//!
//! Descriptions, callout information and keyring names are chosen by whoever made the key. Printed
//! raw they could move the cursor, retitle the window, hide text behind a direction change or forge
//! a second log line. [`Escaped`] shows every byte string on one line, without anything a terminal
//! acts on, and without loss: a backslash is doubled, so [`unescape`] restores the bytes.

use std::fmt::{self, Write as _};

/// Shows bytes with everything dangerous or invisible escaped.
///
/// Printable Unicode stays as it is. `\n`, `\r`, `\t` and `\\` have short forms; other ASCII
/// control characters and bytes that are not UTF-8 become `\x1b`; other control, format, direction
/// and invisible characters become `\u{202e}`.
#[derive(Clone, Copy)]
pub struct Escaped<'a> {
    bytes: &'a [u8],
    limit: usize,
}

impl<'a> Escaped<'a> {
    /// Shows all of `bytes`.
    pub fn new(bytes: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            bytes: bytes.as_ref(),
            limit: usize::MAX,
        }
    }

    /// Shows at most the first `limit` bytes, followed by `…` when there are more.
    ///
    /// A character that straddles the limit is left out whole.
    #[must_use]
    pub fn cut(self, limit: usize) -> Self {
        Self { limit, ..self }
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = 0usize;
        for chunk in self.bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                if shown + c.len_utf8() > self.limit {
                    return f.write_char('…');
                }
                shown += c.len_utf8();
                write_char(f, c)?;
            }
            for byte in chunk.invalid() {
                if shown >= self.limit {
                    return f.write_char('…');
                }
                shown += 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// [`Escaped`] as an owned string.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    Escaped::new(bytes).to_string()
}

fn write_char(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\\' => f.write_str("\\\\"),
        c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c)),
        c if is_unsafe(c) => write!(f, "\\u{{{:x}}}", u32::from(c)),
        c => f.write_char(c),
    }
}

/// Whether a non-ASCII character must not reach a terminal: C1 controls, separators of lines, the
/// general category Cf (which holds all direction marks), and characters that draw nothing.
fn is_unsafe(c: char) -> bool {
    matches!(u32::from(c),
        0x80..=0x9f
        | 0xad
        | 0x34f
        | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2
        | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f
        | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
        | 0x3164
        | 0xe000..=0xf8ff
        | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0xfffe..=0xffff
        | 0x110bd | 0x110cd | 0x13430..=0x1345f | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a
        | 0xe0000..=0xe0fff
        | 0xf0000..=0x10ffff)
}

/// Why [`unescape`] refused a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the escape at byte {position} is none of \\n \\r \\t \\\\ \\xHH \\u{{HEX}}")]
pub struct BadEscape {
    /// Where the backslash stands.
    pub position: usize,
}

/// Restores the bytes that [`Escaped`] showed in full.
///
/// # Errors
/// [`BadEscape`] for a backslash that begins no known escape.
pub fn unescape(text: &str) -> Result<Vec<u8>, BadEscape> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        bytes.extend_from_slice(plain.as_bytes());
        let bad = BadEscape {
            position: text.len() - escape.len(),
        };
        rest = unescape_one(escape, &mut bytes).ok_or(bad)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Decodes the escape at the start of `text` and returns what follows it.
fn unescape_one<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let mut chars = text.strip_prefix('\\')?.chars();
    match chars.next()? {
        'n' => bytes.push(b'\n'),
        'r' => bytes.push(b'\r'),
        't' => bytes.push(b'\t'),
        '\\' => bytes.push(b'\\'),
        'x' => {
            let (digits, rest) = chars.as_str().split_at_checked(2)?;
            bytes.push(hex(digits).and_then(|n| u8::try_from(n).ok())?);
            return Some(rest);
        }
        'u' => {
            let (digits, rest) = chars.as_str().strip_prefix('{')?.split_once('}')?;
            let c = char::from_u32(hex(digits)?)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    }
    Some(chars.as_str())
}

/// `from_str_radix` alone would take a sign.
fn hex(digits: &str) -> Option<u32> {
    if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        u32::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn printable_text_of_any_script_stays_as_it_is() {
        assert_eq!(
            escape("afs@example.com: Schlüssel 鍵 🔑".as_bytes()),
            "afs@example.com: Schlüssel 鍵 🔑"
        );
    }

    #[test]
    fn control_characters_and_invalid_bytes_are_spelled_out() {
        assert_eq!(
            escape(b"a\nb\r\t\x1b[2J\x7f\0\\"),
            "a\\nb\\r\\t\\x1b[2J\\x7f\\x00\\\\"
        );
        assert_eq!(escape(b"\xffok\xc3"), "\\xffok\\xc3");
        assert_eq!(escape("\u{9b}31m".as_bytes()), "\\u{9b}31m");
    }

    #[test]
    fn direction_and_invisible_characters_are_spelled_out() {
        for c in [
            '\u{202e}',
            '\u{2066}',
            '\u{200b}',
            '\u{feff}',
            '\u{2028}',
            '\u{ad}',
            '\u{e0041}',
        ] {
            assert_eq!(
                escape(c.to_string().as_bytes()),
                format!("\\u{{{:x}}}", u32::from(c))
            );
        }
    }

    #[test]
    fn a_cut_text_says_so_and_never_splits_a_character() {
        assert_eq!(Escaped::new("abcdef").cut(3).to_string(), "abc…");
        assert_eq!(Escaped::new("abc").cut(3).to_string(), "abc");
        assert_eq!(Escaped::new("aüb").cut(2).to_string(), "a…");
        assert_eq!(Escaped::new(b"\xff\xff").cut(1).to_string(), "\\xff…");
    }

    #[test]
    fn an_unknown_escape_is_refused_with_its_position() {
        for text in [
            "\\",
            "\\q",
            "\\x1",
            "\\x+1",
            "\\u{110000}",
            "\\u{+41}",
            "\\u41",
            "\\xüü",
        ] {
            assert_eq!(
                unescape(&format!("ab{text}")),
                Err(BadEscape { position: 2 }),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn escaping_is_reversible(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(unescape(&escape(&bytes)), Ok(bytes));
        }

        #[test]
        fn escaping_unicode_is_reversible_and_leaves_no_control_character(text in ".{0,80}") {
            let shown = escape(text.as_bytes());
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(unescape(&shown), Ok(text.into_bytes()));
        }

        #[test]
        fn unescape_never_panics(text in "(\\\\|x|u|\\{|\\}|[0-9a-f]|.){0,40}") {
            let _ = unescape(&text);
        }
    }
}
