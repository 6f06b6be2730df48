//! One line of text that is being typed.

use unicode_width::UnicodeWidthChar as _;
use zeroize::Zeroize as _;

use crate::text;

/// How much a field takes; a paste of more is cut, and the field says so.
pub const LIMIT: usize = 4096;

/// A change of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A text at the cursor; control characters in it are left out.
    Insert(String),
    /// The character before the cursor goes.
    Backspace,
    /// The character at the cursor goes.
    Delete,
    /// One character to the left.
    Left,
    /// One character to the right.
    Right,
    /// To the beginning.
    Start,
    /// To the end.
    End,
    /// Everything before the cursor goes.
    ClearBefore,
    /// The word before the cursor goes.
    WordBefore,
}

impl Drop for Edit {
    fn drop(&mut self) {
        // It may have been meant for a field whose text is a secret.
        if let Self::Insert(text) = self {
            text.zeroize();
        }
    }
}

/// The line and where the cursor stands in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    text: String,
    // In bytes, at the boundary of a character.
    cursor: usize,
    was_cut: bool,
}

impl Line {
    /// A line with a text in it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            cursor: text.len(),
            text,
            was_cut: false,
        }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the last change did not fit.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// Changes it.
    pub fn edit(&mut self, edit: &Edit) {
        self.was_cut = false;
        match edit {
            Edit::Insert(new) => self.insert(new),
            Edit::Backspace => self.remove_to(self.before()),
            Edit::Delete => {
                let start = self.cursor;
                self.cursor = self.after();
                self.remove_to(start);
            }
            Edit::Left => self.cursor = self.before(),
            Edit::Right => self.cursor = self.after(),
            Edit::Start => self.cursor = 0,
            Edit::End => self.cursor = self.text.len(),
            Edit::ClearBefore => self.remove_to(0),
            Edit::WordBefore => {
                let head = self.text.get(..self.cursor).unwrap_or_default().trim_end();
                let blank = head.char_indices().rfind(|(_, c)| c.is_whitespace());
                self.remove_to(blank.map_or(0, |(at, c)| at + c.len_utf8()));
            }
        }
    }

    fn insert(&mut self, new: &str) {
        for c in new.chars() {
            let c = if c == '\n' || c == '\t' { ' ' } else { c };
            if c.is_control() {
                continue;
            }
            if self.text.len() + c.len_utf8() > LIMIT {
                self.was_cut = true;
                return;
            }
            self.text.insert(self.cursor, c);
            self.cursor += c.len_utf8();
        }
    }

    fn remove_to(&mut self, start: usize) {
        if start < self.cursor {
            self.text.replace_range(start..self.cursor, "");
            self.cursor = start;
        }
    }

    fn before(&self) -> usize {
        let head = self.text.get(..self.cursor).unwrap_or_default();
        head.char_indices().next_back().map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        let tail = self.text.get(self.cursor..).unwrap_or_default();
        self.cursor + tail.chars().next().map_or(0, char::len_utf8)
    }

    /// What of it is shown in `width` cells, and in which of them the cursor stands.
    #[must_use]
    pub fn shown(&self, width: usize) -> (String, usize) {
        let width = width.max(2);
        let head = self.text.get(..self.cursor).unwrap_or_default();
        let head = text::line(head, usize::MAX / 32);
        let over = (text::width(&head) + 1).saturating_sub(width);
        let start = if over == 0 {
            0
        } else {
            skipped(&head, over, width)
        };
        let shown = head.get(start..).unwrap_or_default();
        let cursor = text::width(shown);
        let tail = text::line(
            self.text.get(self.cursor..).unwrap_or_default(),
            width.saturating_sub(cursor),
        );
        (format!("{shown}{tail}"), cursor)
    }
}

/// Where a text begins when at least `cells` of it are left out, and what is left has less than `width`.
fn skipped(text: &str, cells: usize, width: usize) -> usize {
    let mut left = cells;
    for (at, c) in text.char_indices() {
        if left == 0 && text::width(text.get(at..).unwrap_or_default()) < width {
            return at;
        }
        left = left.saturating_sub(c.width().unwrap_or(0));
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(edits: &[Edit]) -> Line {
        let mut line = Line::default();
        for edit in edits {
            line.edit(edit);
        }
        line
    }

    #[test]
    fn characters_of_any_length_are_removed_whole() {
        let line = typed(&[Edit::Insert("aüb".into()), Edit::Left, Edit::Backspace]);
        assert_eq!(line.text(), "ab");
        let line = typed(&[
            Edit::Insert("aü".into()),
            Edit::Start,
            Edit::Right,
            Edit::Delete,
        ]);
        assert_eq!(line.text(), "a");
    }

    #[test]
    fn a_word_is_removed_with_the_blank_behind_it() {
        assert_eq!(
            typed(&[Edit::Insert("one two ".into()), Edit::WordBefore]).text(),
            "one "
        );
        // A blank of two bytes.
        assert_eq!(
            typed(&[Edit::Insert("one\u{a0}two".into()), Edit::WordBefore]).text(),
            "one\u{a0}"
        );
    }

    #[test]
    fn a_paste_of_a_megabyte_is_cut() {
        let line = typed(&[Edit::Insert("x\u{1b}\n".repeat(1 << 20))]);
        assert_eq!(line.text().len(), LIMIT);
        assert!(line.was_cut());
        assert!(!line.text().contains('\u{1b}'));
    }

    #[test]
    fn what_is_shown_ends_at_the_cursor() {
        let line = typed(&[Edit::Insert("abcdef".into())]);
        assert_eq!(line.shown(4), ("def".to_owned(), 3));
        assert_eq!(line.shown(20), ("abcdef".to_owned(), 6));
    }

    proptest! {
        #[test]
        fn no_sequence_of_edits_panics(steps in proptest::collection::vec((0..9u8, "\\PC{0,3}"), 0..40), width in 0..12usize) {
            let mut line = Line::default();
            for (step, text) in steps {
                line.edit(&match step {
                    0 => Edit::Backspace,
                    1 => Edit::Delete,
                    2 => Edit::Left,
                    3 => Edit::Right,
                    4 => Edit::Start,
                    5 => Edit::End,
                    6 => Edit::ClearBefore,
                    7 => Edit::WordBefore,
                    _ => Edit::Insert(text),
                });
                let (shown, cursor) = line.shown(width);
                prop_assert!(cursor < width.max(2), "{shown} {cursor}");
            }
        }
    }
}
