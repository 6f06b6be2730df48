//! Colours. They never carry meaning alone.

use anstyle::{AnsiColor, Style};

/// `error:` and `cause:`.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// `warning:`.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// `hint:`.
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
/// `note:`.
pub const NOTE: Style = AnsiColor::Cyan.on_default();
/// `ok`.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Column headings and field names.
pub const HEADING: Style = Style::new().bold();
/// What is there but not of interest.
pub const FAINT: Style = Style::new().dimmed();

/// Colours of the help texts.
#[must_use]
pub const fn help() -> clap::builder::Styles {
    clap::builder::Styles::styled()
        .header(HEADING)
        .usage(HEADING)
        .literal(AnsiColor::Cyan.on_default())
        .placeholder(AnsiColor::Green.on_default())
}
