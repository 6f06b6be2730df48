//! Colours and emphasis. They never carry meaning alone: whatever is coloured is also a word or a
//! sign.

use clap::ValueEnum;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

/// The themes by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// The 16 colours that the terminal is set to
    #[default]
    Terminal,
    /// White, yellow and bold on black
    HighContrast,
    /// Blue, orange and white, which are told apart with any kind of colour vision
    ColourBlind,
    /// No colours
    Mono,
}

/// How each kind of thing is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    /// The whole screen.
    pub base: Style,
    /// Frames.
    pub border: Style,
    /// Titles, names of fields.
    pub heading: Style,
    /// What is there but not of interest.
    pub faint: Style,
    /// Keys to press, names of containers.
    pub accent: Style,
    /// The row under the cursor, the field that is typed into.
    pub selected: Style,
    /// What was marked.
    pub marked: Style,
    /// What is well.
    pub good: Style,
    /// What wants attention.
    pub warning: Style,
    /// What failed or destroys.
    pub bad: Style,
}

impl Theme {
    /// The theme of this name.
    #[must_use]
    pub const fn new(name: Name) -> Self {
        const PLAIN: Style = Style::new();
        const BOLD: Style = PLAIN.add_modifier(Modifier::BOLD);
        const fn of(colour: Color) -> Style {
            PLAIN.fg(colour)
        }
        match name {
            Name::Terminal => Self {
                base: PLAIN,
                border: of(Color::DarkGray),
                heading: BOLD,
                faint: of(Color::DarkGray),
                accent: of(Color::Cyan),
                selected: PLAIN.add_modifier(Modifier::REVERSED),
                marked: of(Color::Magenta).add_modifier(Modifier::BOLD),
                good: of(Color::Green),
                warning: of(Color::Yellow),
                bad: of(Color::Red).add_modifier(Modifier::BOLD),
            },
            Name::HighContrast => Self {
                base: of(Color::White).bg(Color::Black),
                border: of(Color::White),
                heading: of(Color::White).add_modifier(Modifier::BOLD),
                faint: of(Color::White),
                accent: of(Color::LightYellow).add_modifier(Modifier::BOLD),
                selected: of(Color::Black).bg(Color::LightYellow),
                marked: of(Color::LightYellow).add_modifier(Modifier::UNDERLINED),
                good: of(Color::White),
                warning: of(Color::LightYellow).add_modifier(Modifier::BOLD),
                bad: of(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD),
            },
            Name::ColourBlind => Self {
                base: PLAIN,
                border: of(Color::DarkGray),
                heading: BOLD,
                faint: of(Color::DarkGray),
                accent: of(Color::LightBlue),
                selected: PLAIN.add_modifier(Modifier::REVERSED),
                marked: of(Color::White).add_modifier(Modifier::UNDERLINED),
                good: of(Color::LightBlue),
                warning: of(Color::Yellow),
                bad: of(Color::Yellow)
                    .add_modifier(Modifier::BOLD)
                    .add_modifier(Modifier::UNDERLINED),
            },
            Name::Mono => Self {
                base: PLAIN,
                border: PLAIN,
                heading: BOLD,
                faint: PLAIN,
                accent: BOLD,
                selected: PLAIN.add_modifier(Modifier::REVERSED),
                marked: PLAIN.add_modifier(Modifier::UNDERLINED),
                good: PLAIN,
                warning: BOLD,
                bad: BOLD.add_modifier(Modifier::UNDERLINED),
            },
        }
    }
}

/// Whether the locale's characters are those of Unicode (`LC_ALL`, `LC_CTYPE`, `LANG`).
#[must_use]
pub fn locale_is_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
    let name = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set);
    name.is_some_and(|name| {
        let name = name.to_ascii_lowercase();
        name.contains("utf-8") || name.contains("utf8")
    })
}

/// Replaces what a terminal without Unicode cannot show. The last step of a frame, so that nothing
/// that draws has to think of it.
pub fn reduce(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            let ascii = ascii(cell.symbol());
            cell.set_symbol(ascii);
        }
    }
}

fn ascii(symbol: &str) -> &'static str {
    match symbol {
        "─" | "━" | "–" | "—" => "-",
        "│" | "┃" => "|",
        "┌" | "┐" | "└" | "┘" | "├" | "┤" | "┬" | "┴" | "┼" | "╭" | "╮" | "╰" | "╯" => {
            "+"
        }
        "▾" => "v",
        "▸" => ">",
        "●" | "•" => "*",
        "·" => ".",
        "…" => "~",
        "“" | "”" => "\"",
        "‘" | "’" => "'",
        "✓" => "x",
        "←" => "<",
        "→" => ">",
        "↑" => "^",
        "↓" => "v",
        "▏" | "▎" | "▍" | "▌" | "▋" | "▊" | "▉" | "█" => "#",
        "▁" | "▂" => "_",
        "▃" | "▄" => "-",
        "▅" | "▆" | "▇" => "=",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::layout::Rect;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let locale = |all: &'static str, lang: &'static str| {
            locale_is_unicode(move |name| match name {
                "LC_ALL" => Some(all.to_owned()),
                "LANG" => Some(lang.to_owned()),
                _ => None,
            })
        };
        assert!(locale("", "en_US.UTF-8"));
        assert!(locale("C.utf8", "C"));
        assert!(!locale("C", "en_US.UTF-8"));
        assert!(!locale_is_unicode(|_| None));
    }

    #[test]
    fn a_reduced_screen_is_ascii() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 1));
        buffer.set_string(0, 0, "┌─▾…鍵e\u{301}", Style::new());
        reduce(&mut buffer);
        assert!(buffer.content.iter().all(|cell| cell.symbol().is_ascii()));
    }

    #[test]
    fn without_colours_there_are_none() {
        let theme = Theme::new(Name::Mono);
        for style in [
            theme.base,
            theme.accent,
            theme.bad,
            theme.faint,
            theme.selected,
        ] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
