//! Parts of the manual page of `keyns-tui`, from the tables that the program itself works by.

use std::fmt::Write as _;

use clap::ValueEnum as _;
use keyns_tui::action::{Scope, TABLE};
use keyns_tui::filter::Field;
use keyns_tui::theme;

use crate::roff;

/// A section for each place in which keys are used: keys as the configuration writes them, the name
/// of the action, what it does.
#[must_use]
pub fn keys() -> String {
    let mut out = String::new();
    for scope in Scope::ALL {
        let mut entries = TABLE.iter().filter(|entry| entry.scope == scope).peekable();
        if entries.peek().is_none() {
            // A page that is only looked at.
            continue;
        }
        let _ = writeln!(out, ".SS {}", roff::text(scope.title()));
        for entry in entries {
            let keys: Vec<String> = entry.keys.split_whitespace().map(roff::bold).collect();
            let _ = writeln!(
                out,
                ".TP\n{}  ({})\n{}",
                keys.join(", "),
                roff::italic(entry.name),
                roff::text(entry.help)
            );
        }
    }
    out
}

/// The fields that a word of a filter can be bound to.
#[must_use]
pub fn fields() -> String {
    let words: Vec<String> = Field::WORDS.iter().map(|it| roff::bold(it.0)).collect();
    format!("{}\n", words.join(", "))
}

/// The themes, and how each looks.
#[must_use]
pub fn themes() -> String {
    let entries = theme::Name::value_variants().iter().filter_map(|name| {
        let value = name.to_possible_value()?;
        let help = value.get_help().map(ToString::to_string);
        Some(format!(
            "{} ({})",
            roff::bold(&format!("\"{}\"", value.get_name())),
            roff::text(&help.unwrap_or_default())
        ))
    });
    format!("{}.\n", entries.collect::<Vec<_>>().join(", "))
}
