//! Text of somebody else on its way to the screen: the only place where bytes become characters that
//! are drawn.
//!
//! Control, format, direction and invisible characters are spelled out by [`keyns::text`]. What is
//! left can still be hostile to a screen made of cells: characters without width that are heaped onto
//! one cell, and text of any length. Both are bounded here.

use std::collections::VecDeque;

use keyns::text::Escaped;
use unicode_width::UnicodeWidthChar as _;

/// How many characters without width one cell may hold: enough for any script.
const HEAPED: usize = 3;

/// The bytes as one line of at most `width` cells, with `…` at its end if it was cut.
#[must_use]
pub fn line(bytes: &(impl AsRef<[u8]> + ?Sized), width: usize) -> String {
    // Every cell has at most one character of four bytes and those heaped upon it; what lies behind
    // cannot come into view.
    let most = width.saturating_mul(4 * (1 + HEAPED)).saturating_add(16);
    fit(&Escaped::new(bytes).cut(most).to_string(), width)
}

/// All of the bytes as lines of at most `width` cells, at most `height` of them.
#[must_use]
pub fn lines(bytes: &(impl AsRef<[u8]> + ?Sized), width: usize, height: usize) -> Vec<String> {
    let width = width.max(2);
    let most = width
        .saturating_mul(height)
        .saturating_mul(4 * (1 + HEAPED))
        .saturating_add(16);
    let text = Escaped::new(bytes).cut(most).to_string();
    let mut lines = Vec::new();
    let (mut line, mut used) = (String::new(), 0);
    for (piece, cells) in cells(&text) {
        if used + cells > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        line += &piece;
        used += cells;
    }
    lines.push(line);
    if lines.len() > height {
        lines.truncate(height);
        if let Some(last) = lines.last_mut() {
            *last = fit(&format!("{last}……"), width);
        }
    }
    lines
}

/// A text that is safe already, cut to `width` cells.
#[must_use]
pub fn fit(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    // Length of the text when there was still a cell for the mark.
    let mut room = 0;
    for (piece, cells) in cells(text) {
        if used + cells > width {
            out.truncate(room);
            if width > 0 {
                out.push('…');
            }
            return out;
        }
        out += &piece;
        used += cells;
        if used < width {
            room = out.len();
        }
    }
    out
}

/// How many cells a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    cells(text).map(|(_, cells)| cells).sum()
}

/// The characters with what is heaped onto each, and how many cells they take.
fn cells(text: &str) -> impl Iterator<Item = (String, usize)> {
    let mut chars = text.chars().peekable();
    let mut spelled: VecDeque<char> = VecDeque::new();
    std::iter::from_fn(move || {
        if let Some(c) = spelled.pop_front() {
            return Some((c.to_string(), 1));
        }
        let first = chars.next()?;
        let cells = first.width().unwrap_or(0);
        if cells == 0 {
            // Nothing to be put upon.
            spelled.extend(first.escape_unicode());
            return spelled.pop_front().map(|c| (c.to_string(), 1));
        }
        let mut piece = String::from(first);
        let mut heaped = 0;
        while let Some(next) = chars.next_if(|next| next.width() == Some(0)) {
            heaped += 1;
            if heaped > HEAPED {
                spelled.extend(next.escape_unicode());
            } else {
                piece.push(next);
            }
        }
        Some((piece, cells))
    })
}

/// The table of users, for people; it is read once, and never asked over a network.
#[derive(Debug, Clone, Default)]
pub struct Users(std::collections::HashMap<u32, String>);

impl Users {
    /// Those of `/etc/passwd`.
    #[must_use]
    pub fn read() -> Self {
        Self::of(&std::fs::read_to_string("/etc/passwd").unwrap_or_default())
    }

    /// Those of a text in the form of passwd(5).
    #[must_use]
    pub fn of(text: &str) -> Self {
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            Some((fields.nth(1)?.parse().ok()?, line_of(name)))
        };
        Self(text.lines().filter_map(user).collect())
    }

    /// `root (0)`, or `uid 77` without a name.
    #[must_use]
    pub fn show(&self, uid: u32) -> String {
        match (self.0.get(&uid), uid) {
            (Some(name), _) => format!("{name} ({uid})"),
            (None, u32::MAX) => "nobody here".to_owned(),
            (None, _) => format!("uid {uid}"),
        }
    }

    /// The numbers of those whose names hold a text, which is in lower case.
    #[must_use]
    pub fn like(&self, text: &str) -> Vec<String> {
        let users = self.0.iter();
        users
            .filter(|(_, name)| name.to_lowercase().contains(text))
            .map(|(uid, _)| uid.to_string())
            .collect()
    }

    /// The name alone, or the number.
    #[must_use]
    pub fn name(&self, uid: u32) -> String {
        self.0.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}

fn line_of(name: &str) -> String {
    line(name, 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_cut_to_cells_and_says_so() {
        assert_eq!(line("abcdef", 4), "abc…");
        assert_eq!(line("abcd", 4), "abcd");
        assert_eq!(line("鍵鍵鍵", 5), "鍵鍵…");
        assert_eq!(line("abc", 0), "");
    }

    #[test]
    fn controls_and_directions_are_spelled_out() {
        assert_eq!(line("\x1b[2J", 80), "\\x1b[2J");
        assert_eq!(line("a\u{202e}b", 80), "a\\u{202e}b");
    }

    #[test]
    fn what_is_heaped_onto_a_cell_is_bounded() {
        let heap = format!("e{}", "\u{301}".repeat(2000));
        let shown = line(&heap, 20);
        assert!(width(&shown) <= 20, "{shown}");
        assert!(shown.chars().filter(|c| *c == '\u{301}').count() <= HEAPED);
        assert_eq!(line("\u{301}", 20), "\\u{301}", "nothing to be put upon");
    }

    #[test]
    fn long_text_is_wrapped_and_ends_with_a_mark() {
        assert_eq!(lines("abcdef", 3, 5), ["abc", "def"]);
        assert_eq!(lines("abcdefgh", 3, 2), ["abc", "de…"]);
        assert_eq!(lines(&vec![b'x'; 4095], 80, 100).len(), 52);
    }

    #[test]
    fn users_have_the_names_of_the_password_file() {
        let users = Users::of("root:x:0:0:root:/root:/bin/sh\nbroken\nweb\x1b:x:33:33::/:/\n");
        assert_eq!(users.show(0), "root (0)");
        assert_eq!(users.show(33), "web\\x1b (33)");
        assert_eq!(users.show(7), "uid 7");
    }

    proptest! {
        #[test]
        fn no_text_is_wider_than_asked_for(bytes in proptest::collection::vec(any::<u8>(), 0..200), most in 0..60usize) {
            let shown = line(&bytes, most);
            prop_assert!(width(&shown) <= most, "{:?}", shown);
            prop_assert!(!shown.chars().any(char::is_control));
        }

        #[test]
        fn unicode_is_never_wider_than_asked_for(text in "\\PC{0,60}", most in 0..40usize) {
            prop_assert!(width(&line(&text, most)) <= most);
            for line in lines(&text, most, 3) {
                prop_assert!(width(&line) <= most.max(2));
            }
        }
    }
}
