//! Which key does what: the table of actions, changed by the configuration.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::action::{Action, Entry, Scope, TABLE};

/// A key with its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    code: KeyCode,
    modifiers: KeyModifiers,
}

impl From<KeyEvent> for Key {
    fn from(event: KeyEvent) -> Self {
        let mut modifiers = event.modifiers;
        let code = match event.code {
            // Terminals report what Shift makes of a key already, and some Shift with it.
            KeyCode::Char(c) => {
                modifiers.remove(KeyModifiers::SHIFT);
                KeyCode::Char(c)
            }
            KeyCode::Tab if modifiers.contains(KeyModifiers::SHIFT) => KeyCode::BackTab,
            code => code,
        };
        if code == KeyCode::BackTab {
            modifiers.remove(KeyModifiers::SHIFT);
        }
        Self { code, modifiers }
    }
}

/// A text that names no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey(String);

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "“{}” is no key; keys are single characters, enter, esc, tab, backtab, space, up, down, \
             left, right, home, end, pageup, pagedown, insert, delete, backspace, f1 to f12, with \
             ctrl- or alt- before them",
            keyns::text::Escaped::new(&self.0).cut(40)
        )
    }
}

const NAMES: [(&str, KeyCode); 16] = [
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("tab", KeyCode::Tab),
    ("backtab", KeyCode::BackTab),
    ("space", KeyCode::Char(' ')),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("pageup", KeyCode::PageUp),
    ("pagedown", KeyCode::PageDown),
    ("insert", KeyCode::Insert),
    ("delete", KeyCode::Delete),
    ("backspace", KeyCode::Backspace),
];

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        let mut modifiers = KeyModifiers::NONE;
        let mut rest = text;
        loop {
            if let Some(after) = rest.strip_prefix("ctrl-") {
                modifiers |= KeyModifiers::CONTROL;
                rest = after;
            } else if let Some(after) = rest.strip_prefix("alt-") {
                modifiers |= KeyModifiers::ALT;
                rest = after;
            } else {
                break;
            }
        }
        let named = NAMES.iter().find(|(name, _)| *name == rest);
        let mut chars = rest.chars();
        let code = match (named, chars.next(), chars.next()) {
            (Some((_, code)), ..) => *code,
            (None, Some(c), None) if !c.is_control() && c != ' ' => KeyCode::Char(c),
            (None, Some('f'), Some(_)) => match rest.get(1..).map(str::parse) {
                Some(Ok(number @ 1..=12)) => KeyCode::F(number),
                _ => return Err(UnknownKey(text.to_owned())),
            },
            _ => return Err(UnknownKey(text.to_owned())),
        };
        Ok(Self { code, modifiers })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.modifiers.contains(KeyModifiers::CONTROL) {
            f.write_str("Ctrl-")?;
        }
        if self.modifiers.contains(KeyModifiers::ALT) {
            f.write_str("Alt-")?;
        }
        match self.code {
            KeyCode::Char(' ') => f.write_str("Space"),
            KeyCode::Char(c) => write!(f, "{c}"),
            KeyCode::F(number) => write!(f, "F{number}"),
            KeyCode::Up => f.write_str("↑"),
            KeyCode::Down => f.write_str("↓"),
            KeyCode::Left => f.write_str("←"),
            KeyCode::Right => f.write_str("→"),
            KeyCode::BackTab => f.write_str("Shift-Tab"),
            KeyCode::PageUp => f.write_str("PgUp"),
            KeyCode::PageDown => f.write_str("PgDn"),
            code => {
                let name = NAMES
                    .iter()
                    .find(|(_, it)| *it == code)
                    .map_or("?", |it| it.0);
                let mut chars = name.chars();
                let first = chars.next().map(|c| c.to_ascii_uppercase());
                write!(f, "{}{}", first.unwrap_or('?'), chars.as_str())
            }
        }
    }
}

/// Keys and what they do.
#[derive(Debug, Clone)]
pub struct Keymap {
    map: HashMap<(Scope, Key), Action>,
    keys: HashMap<Action, Vec<Key>>,
}

impl Default for Keymap {
    fn default() -> Self {
        Self::new(&HashMap::new())
    }
}

impl Keymap {
    /// The keys of the table, but for actions that have keys of their own in `changed`. A key that
    /// was given to another action of the same scope is taken from the one that had it.
    #[must_use]
    pub fn new(changed: &HashMap<&'static str, Vec<Key>>) -> Self {
        let mut map = HashMap::new();
        let mut bind = |entry: &Entry, key: Key| map.insert((entry.scope, key), entry.action);
        for entry in TABLE
            .iter()
            .filter(|entry| !changed.contains_key(entry.name))
        {
            for key in entry
                .keys
                .split_whitespace()
                .filter_map(|key| key.parse().ok())
            {
                bind(entry, key);
            }
        }
        for entry in TABLE {
            for key in changed.get(entry.name).into_iter().flatten() {
                bind(entry, *key);
            }
        }
        let mut keys: HashMap<Action, Vec<Key>> = HashMap::new();
        for entry in TABLE {
            let default = entry
                .keys
                .split_whitespace()
                .filter_map(|key| key.parse().ok());
            let wanted = changed
                .get(entry.name)
                .cloned()
                .unwrap_or_else(|| default.collect());
            let mut own: Vec<Key> = Vec::new();
            for key in wanted {
                if map.get(&(entry.scope, key)) == Some(&entry.action) && !own.contains(&key) {
                    own.push(key);
                }
            }
            keys.insert(entry.action, own);
        }
        Self { map, keys }
    }

    /// What a key does in the first of `scopes` that knows it.
    #[must_use]
    pub fn find(&self, scopes: &[Scope], key: Key) -> Option<Action> {
        scopes
            .iter()
            .find_map(|scope| self.map.get(&(*scope, key)).copied())
    }

    /// The keys of an action.
    #[must_use]
    pub fn keys(&self, action: Action) -> &[Key] {
        self.keys.get(&action).map_or(&[], Vec::as_slice)
    }

    /// The first key of an action as text; empty if it has none.
    #[must_use]
    pub fn first(&self, action: Action) -> String {
        self.keys(action)
            .first()
            .map(Key::to_string)
            .unwrap_or_default()
    }

    /// All keys of an action as text.
    #[must_use]
    pub fn all(&self, action: Action) -> String {
        let keys: Vec<String> = self.keys(action).iter().map(Key::to_string).collect();
        keys.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    #[test]
    fn every_key_of_the_table_is_one_and_means_one_thing_where_it_is_used() {
        let mut seen = HashMap::new();
        for entry in TABLE {
            for text in entry.keys.split_whitespace() {
                assert_eq!(
                    seen.insert((entry.scope, key(text)), entry.name),
                    None,
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn keys_of_a_page_do_not_hide_those_of_lists_or_of_the_program() {
        let keymap = Keymap::default();
        for page in [Scope::Keys] {
            for entry in TABLE
                .iter()
                .filter(|entry| matches!(entry.scope, Scope::List | Scope::Global))
            {
                for key in keymap.keys(entry.action) {
                    assert_eq!(keymap.find(&[page], *key), None, "{key} {}", entry.name);
                }
            }
        }
    }

    #[test]
    fn a_key_that_was_given_away_is_not_shown_any_more() {
        let changed = HashMap::from([("mark", vec![key("M"), key("f5")])]);
        let keymap = Keymap::new(&changed);
        assert_eq!(keymap.find(&[Scope::List], key("M")), Some(Action::Mark));
        assert_eq!(keymap.find(&[Scope::List], key("space")), None);
        assert_eq!(keymap.all(Action::Mark), "M, F5");
        assert_eq!(keymap.first(Action::ClearMarks), "");
    }

    #[test]
    fn shift_is_part_of_the_character() {
        let event = KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT);
        assert_eq!(Key::from(event), key("G"));
        let event = KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT);
        assert_eq!(Key::from(event), key("backtab"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "f13", "f0", "ctrl-", "two words", "entre", "\u{1b}"] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
