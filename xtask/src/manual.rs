//! Parts of manual pages, from the definition of a command line.
//!
//! Lists of options are those of `clap_mangen`. The rest is put together here, because one page holds
//! all commands of a program, with the arguments of a command before its options and examples line
//! by line.

use std::io;

use clap::{Arg, Command};
use clap_mangen::Man;

use crate::programs::{Leaf, leaves};
use crate::roff;

/// A line for each command: its name, and what it does.
#[must_use]
pub fn summary(program: &Command) -> String {
    let lines: String = leaves(program)
        .iter()
        .map(|leaf| {
            let about = leaf.command.get_about().map(ToString::to_string);
            format!(
                ".TP 20\n{}\n{}\n",
                roff::bold(&leaf.words.join(" ")),
                roff::text(&about.unwrap_or_default())
            )
        })
        .collect();
    format!(".PD 0\n{lines}.PD\n")
}

/// A section for each command: how it is typed, what it does, its arguments and options.
///
/// # Errors
/// Those of writing, of which there are none in memory.
pub fn commands(program: &Command) -> io::Result<String> {
    let mut out = String::new();
    for leaf in leaves(program) {
        out += &command(program, leaf)?;
    }
    Ok(out)
}

/// The options of a program itself.
///
/// # Errors
/// As [`commands`].
pub fn options(program: &Command) -> io::Result<String> {
    let mut bare = Command::new("options")
        .disable_help_flag(true)
        .disable_version_flag(true);
    for arg in program.get_arguments() {
        bare = bare.arg(arg.clone());
    }
    list(bare, |_| true)
}

fn command(program: &Command, leaf: Leaf) -> io::Result<String> {
    let name = leaf.words.join(" ");
    let whole = format!("{} {name}", program.get_name());
    let mut built = leaf.command.disable_help_flag(true).bin_name(whole.clone());
    let mut out = format!(".SS {}\n", roff::text(&name));
    let usage = built.render_usage().to_string();
    // A command that can stand alone lists its own commands in sections of their own.
    let lines = usage
        .lines()
        .map(|line| line.trim().trim_start_matches("Usage: "));
    let synopses: Vec<String> = lines
        .filter(|line| !line.is_empty())
        .map(|line| synopsis(&whole, line))
        .collect();
    out += &synopses.join("\n.br\n");
    out += "\n";
    let long = built.get_long_about().or_else(|| built.get_about());
    out += &prose(&whole_sentence(
        &long.map(ToString::to_string).unwrap_or_default(),
    ));
    out += &list(built.clone(), Arg::is_positional)?;
    out += &list(built.clone(), |arg| !arg.is_positional())?;
    let after = built
        .get_after_long_help()
        .or_else(|| built.get_after_help());
    if let Some(text) = after {
        out += &prose(&text.to_string());
    }
    Ok(out)
}

/// The first paragraph, which stands alone in lists of commands, with a period behind it.
fn whole_sentence(text: &str) -> String {
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let period = if first.is_empty() || first.ends_with(['.', ':']) {
        ""
    } else {
        "."
    };
    format!("{first}{period}\n\n{rest}")
}

/// A line of usage: the command in bold, values in italics.
fn synopsis(whole: &str, line: &str) -> String {
    let rest = line.strip_prefix(whole).unwrap_or(line);
    let mut out = roff::bold(if rest.len() < line.len() { whole } else { "" });
    let mut word = String::new();
    for c in rest.chars().chain(std::iter::once(' ')) {
        if c.is_alphanumeric() || matches!(c, '-' | '_') {
            word.push(c);
            continue;
        }
        out += &match word.as_str() {
            "" => String::new(),
            word if word.starts_with('-') => roff::bold(word),
            word if word.chars().any(char::is_lowercase) => roff::bold(word),
            word => roff::italic(word),
        };
        word.clear();
        // Values are in italics, which says as much as the brackets do.
        if !matches!(c, '<' | '>') {
            out += &roff::text(&c.to_string());
        }
    }
    out.trim_end().to_owned()
}

/// Paragraphs. Lines that are indented stay lines of their own, as do those behind an “Example”.
#[must_use]
pub fn prose(text: &str) -> String {
    let mut out = String::new();
    for paragraph in text.trim_end().split("\n\n") {
        out += ".PP\n";
        let mut verbatim = false;
        for line in paragraph.lines() {
            let (label, line) = match line.split_once(": ") {
                Some(("Example", rest)) => (Some("Example:"), rest),
                _ => (None, line),
            };
            if let Some(label) = label {
                out += &format!("{}\n", roff::text(label));
            }
            let indented = label.is_some() || line.starts_with("  ");
            if indented != verbatim {
                out += if indented {
                    ".RS 4\n.nf\n"
                } else {
                    ".fi\n.RE\n"
                };
                verbatim = indented;
            }
            let line = if indented { line.trim() } else { line };
            out += &format!("{}\n", roff::text(line));
        }
        if verbatim {
            out += ".fi\n.RE\n";
        }
    }
    out
}

/// The arguments for which `wanted` says so, as clap_mangen lists them.
fn list(command: Command, wanted: impl Fn(&Arg) -> bool) -> io::Result<String> {
    let command = command.mut_args(|arg| if wanted(&arg) { arg } else { arg.hide(true) });
    if command.get_arguments().all(Arg::is_hide_set) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    Man::new(command).render_options_section(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut out = String::new();
    for line in text.lines() {
        // Not a section of its own, but a part of one; and one line break is enough.
        let is_heading = [".SH", ".ie", ".el"].iter().any(|it| line.starts_with(it));
        if is_heading || line.is_empty() || line == ".br" && out.ends_with(".br\n") {
            continue;
        }
        // The crate would have the string defined that it uses for apostrophes.
        out += &line.replace("\\*(Aq", "\\(aq");
        out.push('\n');
    }
    Ok(out)
}
