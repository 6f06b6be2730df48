//! Faults of the command line, in the same form as all other errors.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind as Fault};

use crate::abbreviation;
use crate::cli::Cli;
use crate::error::CommandError;
use crate::ui::{Color, Ui};

/// Shows help, version or what is wrong with `arguments`, and returns the exit code.
pub fn report(error: &clap::Error, arguments: &[OsString]) -> u8 {
    if matches!(error.kind(), Fault::DisplayHelp | Fault::DisplayVersion) {
        return match error.print() {
            Ok(()) => 0,
            Err(failed) => CommandError::output(&failed).kind.exit_code(),
        };
    }
    // The options were not understood, so these two are looked for by hand; what follows `--`
    // belongs to another program.
    let own = arguments.iter().take_while(|a| *a != "--");
    let json = own.clone().any(|a| a == "--json");
    let color = if own.into_iter().any(|a| a == "--color=never") {
        Color::Never
    } else {
        Color::Auto
    };
    let ui = Ui::new(json, false, color);
    let error = describe(error, arguments);
    ui.error(&error);
    error.kind.exit_code()
}

/// The fault as one of our own errors.
fn describe(error: &clap::Error, arguments: &[OsString]) -> CommandError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let argument = bare(&text(ContextKind::InvalidArg).unwrap_or_default());
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let new = match error.kind() {
        Fault::ValueValidation => {
            CommandError::usage(format!("cannot use “{}” as {argument}", short(&value))).cause(
                std::error::Error::source(error)
                    .map(|fault| sentence(&fault.to_string()))
                    .unwrap_or_default(),
            )
        }
        Fault::InvalidValue if value.is_empty() => {
            CommandError::usage(format!("{argument} needs a value"))
        }
        Fault::InvalidValue => {
            CommandError::usage(format!("cannot use “{}” as {argument}", short(&value))).cause(
                format!(
                    "it is one of {}",
                    text(ContextKind::ValidValue).unwrap_or_default()
                ),
            )
        }
        Fault::UnknownArgument => {
            CommandError::usage(format!("unknown argument “{}”", short(&argument)))
        }
        Fault::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let meant = abbreviation::candidates(OsStr::new(&word));
            if meant.len() > 1 {
                return CommandError::usage(format!("ambiguous command “{}”", short(&word)))
                    .cause(format!("it may be {}", meant.join(", ")))
                    .hint("write enough of it, or keyctl-ns --help");
            }
            CommandError::usage(format!("unknown command “{}”", short(&word)))
        }
        Fault::MissingSubcommand | Fault::DisplayHelpOnMissingArgumentOrSubcommand => {
            CommandError::usage("a command is missing")
        }
        Fault::MissingRequiredArgument => CommandError::usage(format!("missing: {argument}")),
        Fault::ArgumentConflict => {
            let other = text(ContextKind::PriorArg)
                .map_or_else(|| "another option".to_owned(), |text| bare(&text));
            CommandError::usage(if argument == other {
                format!("{argument} is given twice")
            } else {
                format!("{argument} and {other} exclude each other")
            })
        }
        Fault::TooManyValues => CommandError::usage(format!(
            "too many values for {argument}: “{}”",
            short(&value)
        )),
        Fault::TooFewValues | Fault::WrongNumberOfValues => {
            CommandError::usage(format!("too few values for {argument}"))
        }
        Fault::NoEquals => CommandError::usage(format!("{argument} needs “=” before its value")),
        Fault::InvalidUtf8 => CommandError::usage("an argument is not valid UTF-8"),
        _ => CommandError::usage(first_line(&error.to_string())),
    };
    let suggestion = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ]
    .into_iter()
    .find_map(|kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        // The likeliest is the last one.
        ContextValue::Strings(texts) => {
            let texts: Vec<&str> = texts.iter().rev().map(String::as_str).collect();
            Some(texts.join(" or "))
        }
        _ => None,
    });
    match suggestion {
        Some(word) => new.hint(format!("did you mean {word}?")),
        None => new.hint(help_command(arguments)),
    }
}

/// The command line that explains the command that was misused: the words of `arguments` that name
/// commands, as far as they do.
fn help_command(arguments: &[OsString]) -> String {
    let root = Cli::command();
    let mut command = &root;
    let mut words = vec![root.get_name().to_owned()];
    for argument in arguments.iter().skip(1) {
        // An option before or between the commands, or its value.
        let Some(found) = argument
            .to_str()
            .and_then(|word| command.find_subcommand(word))
        else {
            continue;
        };
        command = found;
        words.push(found.get_name().to_owned());
    }
    words.push("--help".to_owned());
    words.join(" ")
}

/// Enough of a value to recognise it.
fn short(value: &str) -> String {
    keyns::text::Escaped::new(value).cut(60).to_string()
}

/// `<KEY>`, `[KEY]` and `<KEY>...` as KEY: that is for usage lines.
fn bare(argument: &str) -> String {
    let argument = argument.replace("...", "").replace(['<', '>'], "");
    // Part of an option's value: `UID[:GID]`.
    match argument.strip_prefix('[').and_then(|a| a.strip_suffix(']')) {
        Some(inner) => inner.to_owned(),
        None => argument,
    }
}

/// What clap and the standard library say of numbers, in words.
fn sentence(fault: &str) -> String {
    if let Some((_, range)) = fault.split_once(" is not in ")
        && let Some((least, most)) = range.split_once("..=")
    {
        return format!("it is a number from {least} to {most}");
    }
    match fault {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "it is a number".to_owned()
        }
        "number too large to fit in target type" => "the number is too large".to_owned(),
        other => other.to_owned(),
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
