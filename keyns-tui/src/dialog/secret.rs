//! A payload that is being typed: it is never drawn, and wiped from memory when it is not needed any
//! more. What the terminal's input passed through before it came here is out of reach.

use keyns_interfaces::Payload;
use zeroize::Zeroizing;

use crate::edit::Edit;

/// As much as a key of type `user` takes.
pub const MOST: usize = 32_767;

/// The payload.
pub struct Secret {
    text: Zeroizing<String>,
    was_cut: bool,
}

impl Default for Secret {
    fn default() -> Self {
        Self {
            // It must not move while it grows: the place it was at would not be wiped.
            text: Zeroizing::new(String::with_capacity(MOST)),
            was_cut: false,
        }
    }
}

impl Secret {
    /// Changes it. The cursor is always at its end: nobody sees where it would stand else.
    pub fn edit(&mut self, edit: &Edit) {
        self.was_cut = false;
        match edit {
            Edit::Insert(new) => {
                for c in new.chars() {
                    if self.text.len() + c.len_utf8() > MOST {
                        self.was_cut = true;
                        return;
                    }
                    self.text.push(c);
                }
            }
            Edit::Backspace => {
                self.text.pop();
            }
            Edit::ClearBefore | Edit::WordBefore => self.clear(),
            _ => {}
        }
    }

    /// Whether nothing was typed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Wipes it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes it away; here it is wiped.
    #[must_use]
    pub fn take(&mut self) -> Payload {
        let payload = Payload::new(self.text.as_bytes().to_vec());
        self.clear();
        payload
    }

    /// What may be seen of it.
    #[must_use]
    pub fn shown(&self) -> String {
        let bytes = self.text.len();
        let unit = if bytes == 1 { "byte" } else { "bytes" };
        let note = if self.was_cut {
            format!(", cut: a payload has at most {MOST}")
        } else if self.text.ends_with(['\n', '\r']) {
            ", with a line break at its end".to_owned()
        } else if self.text.contains(char::is_control) {
            ", with line breaks or control characters".to_owned()
        } else {
            String::new()
        };
        let dots = "•".repeat(self.text.chars().take(12).count());
        match bytes {
            0 => "typed or pasted unseen".to_owned(),
            _ => format!("{dots} {bytes} {unit}{note}"),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_is_shown() {
        let mut secret = Secret::default();
        secret.edit(&Edit::Insert("hunter2\n".into()));
        let all = format!("{} {secret:?}", secret.shown());
        assert!(!all.contains("hunter"), "{all}");
        assert!(
            all.contains("8 bytes, with a line break at its end"),
            "{all}"
        );
        assert_eq!(secret.take().bytes(), b"hunter2\n");
        assert!(secret.is_empty());
    }

    #[test]
    fn it_stays_where_it_is_however_much_is_pasted() {
        let mut secret = Secret::default();
        let place = secret.text.as_ptr();
        secret.edit(&Edit::Insert("x".repeat(1 << 20)));
        assert_eq!(secret.text.len(), MOST);
        assert_eq!(secret.text.as_ptr(), place);
        assert!(secret.shown().contains("cut"));
    }
}
