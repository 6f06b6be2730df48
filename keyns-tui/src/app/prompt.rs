//! The line at the bottom that is typed into: a filter, or a command.

use crate::action::{self, Action, Scope};
use crate::edit::{Edit, Line};
use crate::theme;

/// What the line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/`
    Filter,
    /// `:`
    Command,
}

/// The line.
#[derive(Debug)]
pub struct Prompt {
    /// What it is for.
    pub kind: Kind,
    /// What was typed.
    pub line: Line,
    // What was typed before the first completion, and which one is shown.
    completing: Option<(String, usize)>,
}

/// A command that was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// An action of the table.
    Action(Action),
    /// `theme NAME`
    Theme(theme::Name),
    /// `filter TERMS`
    Filter(String),
    /// `page NAME`
    Page(String),
}

/// The commands that take a word, and what for.
const WITH_WORD: [(&str, &str); 3] = [
    ("filter", "what to show"),
    ("page", "which page"),
    ("theme", "which colours"),
];

impl Prompt {
    /// An empty line, or one with the text to begin with.
    #[must_use]
    pub fn new(kind: Kind, text: &str) -> Self {
        Self {
            kind,
            line: Line::new(text),
            completing: None,
        }
    }

    /// Something was typed.
    pub fn edit(&mut self, edit: &Edit) {
        self.completing = None;
        self.line.edit(edit);
    }

    /// The next completion of what was typed, or the one before.
    pub fn complete(&mut self, pages: &[&str], backwards: bool) {
        let (typed, at) = match self.completing.take() {
            Some((typed, at)) => (typed, Some(at)),
            None => (self.line.text().to_owned(), None),
        };
        let all = match self.kind {
            Kind::Filter => fields(&typed),
            Kind::Command => commands(&typed, pages),
        };
        let next = match (at, backwards) {
            (None, false) => 0,
            (None, true) => all.len().saturating_sub(1),
            (Some(at), false) => (at + 1) % all.len().max(1),
            (Some(at), true) => (at + all.len().saturating_sub(1)) % all.len().max(1),
        };
        if let Some(text) = all.get(next) {
            self.line = Line::new(text.clone());
            self.completing = Some((typed, next));
        }
    }
}

/// Filters that begin with what was typed.
fn fields(typed: &str) -> Vec<String> {
    let start = typed.rfind(' ').map_or(0, |at| at + 1);
    let (before, word) = typed.split_at_checked(start).unwrap_or(("", typed));
    crate::filter::Field::WORDS
        .iter()
        .filter(|(name, _)| name.starts_with(word))
        .map(|(name, _)| format!("{before}{name}:"))
        .collect()
}

/// Commands that begin with what was typed.
#[must_use]
pub fn commands(typed: &str, pages: &[&str]) -> Vec<String> {
    let Some((name, word)) = typed.split_once(' ') else {
        let mut names: Vec<String> = action::TABLE
            .iter()
            .filter(|entry| {
                entry.scope != Scope::Dialog && !WITH_WORD.iter().any(|it| it.0 == entry.name)
            })
            .map(|entry| entry.name.to_owned())
            .chain(WITH_WORD.iter().map(|(name, _)| format!("{name} ")))
            .filter(|name| name.starts_with(typed))
            .collect();
        names.sort();
        return names;
    };
    let words: Vec<String> = match name {
        "theme" => themes().map(|(name, _)| name).collect(),
        "page" => pages.iter().map(|page| page.to_lowercase()).collect(),
        _ => Vec::new(),
    };
    words
        .into_iter()
        .filter(|one| one.starts_with(word))
        .map(|one| format!("{name} {one}"))
        .collect()
}

fn themes() -> impl Iterator<Item = (String, theme::Name)> {
    use clap::ValueEnum as _;
    theme::Name::value_variants()
        .iter()
        .filter_map(|name| Some((name.to_possible_value()?.get_name().to_owned(), *name)))
}

/// Reads a command. Names can be shortened as long as only one begins so.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str, pages: &[&str]) -> Result<Command, String> {
    let text = text.trim();
    let (name, word) = text.split_once(' ').unwrap_or((text, ""));
    let word = word.trim();
    let all = commands(name, pages);
    let exact = all.iter().find(|one| one.trim() == name);
    let name = match (exact, all.as_slice()) {
        (Some(one), _) => one.trim(),
        (None, [one]) => one.trim(),
        (None, []) => {
            return Err(format!(
                "there is no command “{}”; Tab lists them",
                crate::text::line(name, 40)
            ));
        }
        (None, several) => {
            let some: Vec<&str> = several.iter().take(6).map(|one| one.trim()).collect();
            return Err(format!(
                "“{}” could be {}",
                crate::text::line(name, 40),
                some.join(", ")
            ));
        }
    };
    match (name, word) {
        ("filter", _) => Ok(Command::Filter(word.to_owned())),
        ("page", _) => pages
            .iter()
            .find(|page| !word.is_empty() && page.to_lowercase().starts_with(&word.to_lowercase()))
            .map(|page| Command::Page((*page).to_owned()))
            .ok_or_else(|| format!("the pages are {}", pages.join(", "))),
        ("theme", _) => themes()
            .find(|(name, _)| name == word)
            .map(|(_, name)| Command::Theme(name))
            .ok_or_else(|| {
                let names: Vec<String> = themes().map(|(name, _)| name).collect();
                format!("the themes are {}", names.join(", "))
            }),
        (name, "") => action::named(name)
            .map(|entry| Command::Action(entry.action))
            .ok_or_else(|| format!("there is no command “{name}”")),
        (name, _) => Err(format!("“{name}” takes no word behind it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: [&str; 2] = ["Keys", "Containers"];

    #[test]
    fn commands_are_completed_and_can_be_shortened() {
        assert_eq!(commands("theme h", &PAGES), ["theme high-contrast"]);
        assert_eq!(commands("page ", &PAGES), ["page keys", "page containers"]);
        assert_eq!(parse("qu", &PAGES), Ok(Command::Action(Action::Quit)));
        assert_eq!(
            parse("page cont", &PAGES),
            Ok(Command::Page("Containers".into()))
        );
        assert_eq!(
            parse("theme mono", &PAGES),
            Ok(Command::Theme(theme::Name::Mono))
        );
        assert_eq!(
            parse("filter type:user  x", &PAGES),
            Ok(Command::Filter("type:user  x".into()))
        );
    }

    #[test]
    fn what_is_no_command_is_explained() {
        for (text, cause) in [
            ("fly", "no command"),
            ("p", "could be"),
            ("theme pink", "the themes are"),
            ("page", "the pages are"),
            ("quit now", "takes no word"),
            ("\u{1b}", "no command"),
            ("", "could be"),
        ] {
            let error = parse(text, &PAGES).unwrap_err();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }

    #[test]
    fn completions_follow_each_other_both_ways() {
        let mut prompt = Prompt::new(Kind::Command, "page ");
        prompt.complete(&PAGES, false);
        assert_eq!(prompt.line.text(), "page keys");
        prompt.complete(&PAGES, false);
        assert_eq!(prompt.line.text(), "page containers");
        prompt.complete(&PAGES, true);
        assert_eq!(prompt.line.text(), "page keys");
        let mut prompt = Prompt::new(Kind::Filter, "x ty");
        prompt.complete(&PAGES, false);
        assert_eq!(prompt.line.text(), "x type:");
    }
}
