//! Pages as they are written by hand, and what takes the place of their marks.
//!
//! | Line | What comes there |
//! |---|---|
//! | `.\"@ summary PROGRAM` | a line for each command |
//! | `.\"@ commands PROGRAM` | a section for each command |
//! | `.\"@ options PROGRAM` | the program's own options |
//! | `.\"@ bus INTERFACE` | everything of an interface on the bus, from its description |
//! | `.\"@ markdown FILE` | a document in `man/` |
//! | `.\"@ keys`, `fields`, `themes` | what `keyns-tui` knows: actions with their keys, fields of filters, themes |
//!
//! `@VERSION@` in a line is the version with the name of the suite, `@NUMBER@` the version alone.

use std::io;

use clap::Command;

use crate::{bus, dashboard, manual, markdown, programs, roff, root};

const MARK: &str = ".\\\"@ ";

/// The page of this name with everything filled in.
///
/// # Errors
/// A mark that means nothing; a document that cannot be read.
pub fn fill(name: &str, template: &str) -> io::Result<String> {
    let mut page = format!(
        ".\\\" Made by cargo xtask man from man/src/{name} and the texts of the program: do not edit.\n"
    );
    for line in template.lines() {
        match line.strip_prefix(MARK) {
            None => page += &format!("{}\n", versions(line)),
            Some(mark) => page += &replacement(mark)?,
        }
    }
    Ok(roff::ascii(&page))
}

fn versions(line: &str) -> String {
    let number = env!("CARGO_PKG_VERSION");
    line.replace("@VERSION@", &format!("keyns {number}"))
        .replace("@NUMBER@", number)
}

fn replacement(mark: &str) -> io::Result<String> {
    let words: Vec<&str> = mark.split_whitespace().collect();
    let made = match words[..] {
        ["summary", program] => manual::summary(&command(program)?),
        ["commands", program] => manual::commands(&command(program)?)?,
        ["options", program] => manual::options(&command(program)?)?,
        ["bus", interface] => bus::interface(interface)?,
        ["markdown", file] => {
            markdown::to_roff(&std::fs::read_to_string(root().join("man").join(file))?)
        }
        ["keys"] => dashboard::keys(),
        ["fields"] => dashboard::fields(),
        ["themes"] => dashboard::themes(),
        _ => return Err(io::Error::other(format!("unknown mark: {mark}"))),
    };
    Ok(format!(".\\\" made: {mark}\n{made}.\\\" made up to here\n"))
}

fn command(name: &str) -> io::Result<Command> {
    programs::all()
        .into_iter()
        .find(|(program, _, _)| *program == name)
        .map(|(_, _, command)| command)
        .ok_or_else(|| io::Error::other(format!("unknown program: {name}")))
}
