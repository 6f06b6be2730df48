//! The configuration file.
//!
//! ```toml
//! theme = "high-contrast"   # terminal, high-contrast, colour-blind, mono
//! mouse = false
//! ascii = true
//! read-only = true
//!
//! [keys]
//! mark = ["space", "f5"]       # the names are those of the help
//! quit = "ctrl-q"
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use keyctl_ns::error::CommandError;
use serde::Deserialize;
use toml::Spanned;

use crate::action;
use crate::keymap::{Key, Keymap, UnknownKey};
use crate::theme;

/// What the file says.
#[derive(Debug, Default)]
pub struct Config {
    /// Theme.
    pub theme: Option<theme::Name>,
    /// Whether the mouse is used.
    pub mouse: Option<bool>,
    /// Whether only ASCII is drawn.
    pub ascii: Option<bool>,
    /// Whether nothing is to be changed.
    pub read_only: bool,
    /// Keys.
    pub keymap: Keymap,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    theme: Option<theme::Name>,
    mouse: Option<bool>,
    ascii: Option<bool>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    keys: BTreeMap<Spanned<String>, Spanned<OneOrMore>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a key or a list of keys")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or holds what is not known, with its line.
    pub fn read(path: &Path) -> Result<Self, CommandError> {
        use std::os::unix::ffi::OsStrExt as _;
        let shown = keyns::text::Escaped::new(path.as_os_str().as_bytes())
            .cut(120)
            .to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            CommandError::io(format!("cannot read the configuration {shown}"), &error)
        })?;
        Self::parse(&text).map_err(|(line, cause)| {
            CommandError::usage(format!("cannot use the configuration {shown}"))
                .cause(format!("line {line}: {cause}"))
                .hint("keyns-tui(1) lists what it may hold")
        })
    }

    /// Where the file is if it is not named: `keyns/tui.toml` in the directory for configurations.
    #[must_use]
    pub fn default_path(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        let absolute = |path: &PathBuf| path.is_absolute();
        let directory = variable("XDG_CONFIG_HOME").filter(absolute).or_else(|| {
            variable("HOME")
                .filter(absolute)
                .map(|home| home.join(".config"))
        })?;
        Some(directory.join("keyns").join("tui.toml"))
    }

    /// Reads the text of a file; an error has the line it is about.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let line = |at: usize| {
            text.as_bytes()
                .iter()
                .take(at)
                .filter(|b| **b == b'\n')
                .count()
                + 1
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let message = error.message().replace('\n', " ");
            (
                line(at),
                keyns::text::Escaped::new(&message).cut(200).to_string(),
            )
        })?;
        let mut changed: HashMap<&'static str, Vec<Key>> = HashMap::new();
        for (name, keys) in &file.keys {
            let entry = action::named(name.get_ref()).ok_or_else(|| {
                let at = name.span().start;
                let name = keyns::text::Escaped::new(name.get_ref())
                    .cut(40)
                    .to_string();
                (line(at), format!("there is no action “{name}”"))
            })?;
            let texts = match keys.get_ref() {
                OneOrMore::One(key) => std::slice::from_ref(key),
                OneOrMore::More(keys) => keys,
            };
            let parsed: Result<Vec<Key>, UnknownKey> =
                texts.iter().map(|key| key.parse()).collect();
            let parsed = parsed.map_err(|error| (line(keys.span().start), error.to_string()))?;
            changed.insert(entry.name, parsed);
        }
        Ok(Self {
            theme: file.theme,
            mouse: file.mouse,
            ascii: file.ascii,
            read_only: file.read_only,
            keymap: Keymap::new(&changed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;

    #[test]
    fn everything_in_it_has_an_effect() {
        let config = Config::parse(
            "theme = \"colour-blind\"\nmouse = false\nascii = true\nread-only = true\n\
             [keys]\nquit = \"ctrl-q\"\nmark = [\"g\", \"f5\"]\n",
        )
        .unwrap();
        assert_eq!(config.theme, Some(theme::Name::ColourBlind));
        assert_eq!(
            (config.mouse, config.ascii, config.read_only),
            (Some(false), Some(true), true)
        );
        assert_eq!(config.keymap.all(Action::Quit), "Ctrl-q");
        assert_eq!(config.keymap.all(Action::Mark), "g, F5");
    }

    #[test]
    fn what_is_unknown_is_refused_with_its_line() {
        for (text, line, cause) in [
            ("mouse = true\ncolour = 1\n", 2, "unknown field `colour`"),
            ("theme = \"pink\"\n", 1, "unknown variant `pink`"),
            ("\n[keys]\nfly = \"f\"\n", 3, "no action “fly”"),
            (
                "[keys]\nquit = \"q\"\nmark = [\"g\", \"f13\"]\n",
                3,
                "“f13” is no key",
            ),
            ("mouse = \"yes\"\n", 1, "invalid type"),
            ("mouse =\n", 1, ""),
        ] {
            let (at, message) = Config::parse(text).unwrap_err();
            assert_eq!(at, line, "{text}: {message}");
            assert!(message.contains(cause), "{text}: {message}");
        }
    }

    #[test]
    fn a_relative_directory_is_not_used() {
        let path = Config::default_path(|name| match name {
            "XDG_CONFIG_HOME" => Some("here".into()),
            _ => Some("/home/me".into()),
        });
        assert_eq!(path, Some("/home/me/.config/keyns/tui.toml".into()));
        assert_eq!(Config::default_path(|_| None), None);
    }
}
