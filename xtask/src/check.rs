//! What must hold between the command lines, the manual pages and the files that are checked in.

use std::collections::BTreeSet;

use clap::{Arg, Command};

use crate::generated::{self, Generated};
use crate::programs::{self, leaves};
use crate::{roff, root};

/// Everything that does not hold, a line each.
#[must_use]
pub fn all() -> Vec<String> {
    let files = match generated::files() {
        Ok(files) => files,
        Err(error) => return vec![format!("cannot read the templates: {error}")],
    };
    let mut faults = without_text();
    faults.extend(missing_in_pages(&files));
    faults.extend(unknown_in_pages(&files));
    faults.extend(stale(&files));
    faults
}

/// Commands and arguments without a text that explains them.
#[must_use]
pub fn without_text() -> Vec<String> {
    let mut faults = Vec::new();
    for (_, _, program) in programs::all() {
        texts(&program, program.get_name(), &mut faults);
    }
    faults
}

fn texts(command: &Command, path: &str, faults: &mut Vec<String>) {
    let is_empty = |text: Option<String>| text.is_none_or(|text| text.trim().is_empty());
    if is_empty(command.get_about().map(ToString::to_string)) {
        faults.push(format!("{path}: nothing says what it does"));
    }
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        if is_empty(arg.get_help().map(ToString::to_string)) {
            faults.push(format!("{path}: nothing says what {} is", name(arg)));
        }
    }
    for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        texts(inner, &format!("{path} {}", inner.get_name()), faults);
    }
}

fn name(arg: &Arg) -> String {
    match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => arg.get_id().to_string(),
    }
}

/// Commands and options that the program's manual page does not explain.
#[must_use]
pub fn missing_in_pages(files: &[Generated]) -> Vec<String> {
    let mut faults = Vec::new();
    for (program, page, command) in programs::all() {
        let text = page_text(files, page);
        let section = |of: &[String]| {
            let heading = format!(".SS {}\n", of.join(" "));
            let (_, rest) = text.split_once(&heading)?;
            // Up to the next one.
            let end = rest.find("\n.S").map_or(rest.len(), |at| at + 1);
            rest.get(..end)
        };
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            if !text.contains(&name(arg)) {
                faults.push(format!("{page}: {} of {program} is missing", name(arg)));
            }
        }
        for leaf in leaves(&command) {
            let words = leaf.words.join(" ");
            let Some(section) = section(&leaf.words) else {
                faults.push(format!("{page}: {program} {words} has no section"));
                continue;
            };
            for arg in leaf.command.get_arguments().filter(|a| !a.is_hide_set()) {
                let shown = match arg.get_value_names().and_then(|names| names.first()) {
                    Some(value) if arg.is_positional() => value.to_string(),
                    _ => name(arg),
                };
                if !section.contains(&shown) && !section.contains(&shown.to_uppercase()) {
                    faults.push(format!("{page}: {program} {words}: {shown} is missing"));
                }
            }
        }
    }
    faults
}

fn page_text(files: &[Generated], page: &str) -> String {
    let file = files.iter().find(|file| file.path.ends_with(page));
    file.map(|file| roff::plain(&String::from_utf8_lossy(&file.content)))
        .unwrap_or_default()
}

/// Options that pages written by hand speak of, and no program of ours has.
#[must_use]
pub fn unknown_in_pages(files: &[Generated]) -> Vec<String> {
    let mut known: BTreeSet<String> = ["--help", "--version"].map(str::to_owned).into();
    for (_, _, program) in programs::all() {
        long_options(&program, &mut known);
    }
    // Of keyctl, of dpkg, and of the keyns-request-key that has no clap definition.
    known.extend(
        [
            "--raw",
            "--list",
            "--test",
            "--divert",
            "--rename",
            "--no-rename",
        ]
        .map(str::to_owned),
    );
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("man")) {
        let text = roff::plain(&String::from_utf8_lossy(&file.content));
        for (at, _) in text.match_indices("--") {
            let is_inside = text.get(..at).is_some_and(|before| {
                before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
            });
            let rest = text.get(at + 2..).unwrap_or_default();
            let end = rest
                .find(|c: char| !(c.is_ascii_lowercase() || c == '-'))
                .unwrap_or(rest.len());
            let option = format!("--{}", rest.get(..end).unwrap_or_default());
            // `keyctl-ns … -- COMMAND`, and masks such as `alswrv-----v----`.
            if is_inside || option.ends_with('-') || known.contains(&option) {
                continue;
            }
            faults.push(format!("{}: no program has {option}", file.path.display()));
        }
    }
    faults
}

fn long_options(command: &Command, known: &mut BTreeSet<String>) {
    for arg in command.get_arguments() {
        known.extend(arg.get_long().map(|long| format!("--{long}")));
    }
    for inner in command.get_subcommands() {
        long_options(inner, known);
    }
}

/// Files that are not as they would be made now.
#[must_use]
pub fn stale(files: &[Generated]) -> Vec<String> {
    let differs = |file: &&Generated| {
        std::fs::read(root().join(&file.path)).ok().as_ref() != Some(&file.content)
    };
    let mut faults: Vec<String> = files
        .iter()
        .filter(differs)
        .map(|file| {
            format!(
                "{} is not up to date: cargo xtask man; cargo xtask completions",
                file.path.display()
            )
        })
        .collect();
    let made: BTreeSet<_> = files.iter().map(|file| file.path.clone()).collect();
    for entry in std::fs::read_dir(root().join("man")).into_iter().flatten() {
        let Ok(entry) = entry else { continue };
        let path = std::path::Path::new("man").join(entry.file_name());
        let is_page = path.extension().is_some_and(|section| {
            section.len() == 1 && section.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        });
        if is_page && !made.contains(&path) {
            faults.push(format!(
                "{} is made from nothing in man/src",
                path.display()
            ));
        }
    }
    faults
}
