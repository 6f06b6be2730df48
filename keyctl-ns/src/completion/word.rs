//! What may be put on somebody's command line, and what may be shown beside it.

use keyns::text::Escaped;

/// How much of a remark is shown, in characters.
const REMARK: usize = 60;

/// The text, if no shell finds anything in it to interpret: ASCII letters, digits and
/// `_ @ % + = : , . / -`, and at its beginning none of `: = -`, by which an option, an expansion of
/// zsh or a remark to the completion script would be meant.
#[must_use]
pub fn plain(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let inert = |b: u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&b);
    (text.bytes().all(inert) && !text.is_empty() && !text.starts_with([':', '=', '-']))
        .then_some(text)
}

/// Foreign text on one line, without anything that acts on a terminal, and cut.
#[must_use]
pub fn remark(bytes: &[u8]) -> String {
    Escaped::new(bytes).cut(REMARK).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_in_use_are_plain() {
        for name in [
            "%user:db:password",
            "web.db/user:a",
            "@us",
            "view,read",
            "a@b.c",
        ] {
            assert_eq!(plain(name.as_bytes()), Some(name));
        }
    }

    #[test]
    fn what_a_shell_would_interpret_is_not() {
        for name in [
            "",
            "a b",
            "$(id)",
            "`id`",
            "a;b",
            "a|b",
            "a&b",
            "a>b",
            "~root",
            "a*",
            "a?",
            "[a]",
            "{a,b}",
            "a\\b",
            "a'b",
            "a\"b",
            "a\nb",
            "a\tb",
            "!1",
            "#a",
            "a^b",
            "=ls",
            ":files",
            "-rf",
            "é",
            "\u{202e}a",
            "\0",
        ] {
            assert_eq!(plain(name.as_bytes()), None, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_remark_is_one_line_without_control_characters(bytes: Vec<u8>) {
            let shown = remark(&bytes);
            prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
        }
    }
}
