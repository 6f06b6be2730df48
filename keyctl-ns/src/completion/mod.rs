//! Completion: what may follow on a command line that is being typed.
//!
//! The scripts in `completions/` ask the program itself, so that they never grow old and every value
//! that exists can be offered: keys by name, containers, requests. They call
//!
//! ```text
//! keyctl-ns __complete INDEX WORD…
//! ```
//!
//! with the words of the command line, the program's name first, and the number of the one to be
//! completed, from 0. Each line of the answer is a value, a tab and a remark, which may be empty. A
//! value that begins with a colon is for the script: `:files` and `:commands` stand for file and
//! command names, which shells complete better themselves, and the remark is what precedes the name
//! in its word (`--file=`). The answer is always success, and nothing else is ever said: an error in
//! the middle of typing helps nobody.
//!
//! Nothing is changed by it. It reads no input, so it cannot prompt, starts no daemon, and makes no
//! key request. The daemon has [`live::PATIENCE`] to answer; where it does not, what it knows is
//! missing.
//!
//! **Values are foreign text** (descriptions of keys are chosen by whoever made them) and land on a
//! command line that somebody may send off unread. So only [words](word) are offered in which no
//! shell finds anything to interpret; a key with another name is offered by its serial.

pub mod live;
mod source;
pub mod word;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::CommandFactory as _;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, complete};

use crate::args;
use crate::cli::{Cli, GlobalArgs};
use crate::context::Context;
use crate::ui::Color;
use live::Live;
use source::Source;

/// The first argument of a call for completion.
pub const COMMAND: &str = "__complete";

/// Answers a call for completion, and returns the exit code; `None` if `arguments` (the program's
/// name first) are something else.
#[must_use]
pub fn answer(arguments: &[OsString]) -> Option<u8> {
    let [_, command, index, words @ ..] = arguments else {
        return None;
    };
    if command != COMMAND {
        return None;
    }
    let index = index.to_str()?.parse().ok()?;
    // A shell that has gone needs no answer.
    let _ = std::io::stdout().write_all(&lines(words, index));
    Some(0)
}

/// The answer for the word at `index`, as the module's text describes it.
#[must_use]
pub fn lines(words: &[OsString], index: usize) -> Vec<u8> {
    let Some(current) = words.get(index) else {
        return Vec::new();
    };
    let before = words.get(..index).unwrap_or_default();
    let live = Arc::new(Live::new(addresses(before)));
    let mut command = with_values(begun(Cli::command(), before), &live);
    let found = match behind_dashes(&command, words, index, &live) {
        Some(found) => found,
        None => {
            let mut words = words.to_vec();
            if let Some(word) = words.get_mut(index).filter(|word| *word == "-") {
                // Options by their names, which say what they mean.
                word.push("-");
            }
            complete(&mut command, words, index, None).unwrap_or_default()
        }
    };
    let mut answer = Vec::new();
    for candidate in found.iter().filter(|found| is_wanted(found, current)) {
        let (value, remark) = shown(candidate);
        answer.extend_from_slice(&value);
        answer.push(b'\t');
        answer.extend_from_slice(&remark);
        answer.push(b'\n');
    }
    answer
}

/// The command line with no other command than the one that was begun: preparing dozens of them to
/// complete one is most of what completion would cost.
fn begun(program: clap::Command, words: &[OsString]) -> clap::Command {
    let own = words.get(1..).unwrap_or_default();
    let Some(command) = own.iter().find_map(|word| program.find_subcommand(word)) else {
        return program;
    };
    program
        .get_arguments()
        .fold(clap::Command::new("keyctl-ns"), |alone, arg| {
            alone.arg(arg.clone())
        })
        .disable_help_subcommand(true)
        .subcommand(command.clone())
}

/// The sockets of the daemon that the words before the current one name.
fn addresses(words: &[OsString]) -> Vec<PathBuf> {
    let value = |option: &str| {
        let mut words = words.iter().take_while(|word| *word != "--");
        while let Some(word) = words.next() {
            let Some(rest) = word.as_bytes().strip_prefix(option.as_bytes()) else {
                continue;
            };
            match rest {
                [] => return words.next().cloned(),
                [b'=', value @ ..] => return Some(OsStr::from_bytes(value).to_owned()),
                _ => {}
            }
        }
        None
    };
    let instance = value("--instance")
        .and_then(|name| args::instance(name.to_str()?).ok())
        .unwrap_or_else(|| "main".to_owned());
    let socket = value("--socket").or_else(|| std::env::var_os("KEYNS_SOCKET"));
    Context::new(GlobalArgs {
        json: false,
        quiet: true,
        color: Color::Never,
        socket: socket.map(PathBuf::from),
        instance,
    })
    .addresses()
}

/// The command line with completers at all arguments whose values are known.
fn with_values(command: clap::Command, live: &Arc<Live>) -> clap::Command {
    command
        .mut_args(|arg| {
            let Some(source) = Source::of(&arg) else {
                return arg;
            };
            arg.add(ArgValueCompleter::new(Values {
                source,
                live: Arc::clone(live),
            }))
        })
        .mut_subcommands(|command| with_values(command, live))
}

/// The completer of one argument.
struct Values {
    source: Source,
    live: Arc<Live>,
}

impl clap_complete::engine::ValueCompleter for Values {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        self.complete_at(0, current)
    }

    fn complete_at(&self, at: usize, current: &OsStr) -> Vec<CompletionCandidate> {
        // What is not text is no word that could be completed.
        current
            .to_str()
            .map(|current| self.source.values(at, current, &self.live))
            .unwrap_or_default()
    }
}

/// The values for the arguments behind `--`, where the command has such; the engine would count them
/// among those before.
fn behind_dashes(
    program: &clap::Command,
    words: &[OsString],
    index: usize,
    live: &Live,
) -> Option<Vec<CompletionCandidate>> {
    let (current, before) = words.get(..=index)?.split_last()?;
    let dashes = before.iter().position(|word| word == "--")?;
    let mut command = program;
    for word in before.get(1..dashes)? {
        if let Some(inner) = command.find_subcommand(word) {
            command = inner;
        }
    }
    let arg = command.get_arguments().find(|arg| arg.is_last_set())?;
    let (source, current) = match (Source::of(arg), current.to_str()) {
        (Some(source), Some(current)) => (source, current),
        _ => return Some(Vec::new()),
    };
    Some(source.values(index - dashes - 1, current, live))
}

/// Options only when a dash asks for them.
fn is_wanted(candidate: &CompletionCandidate, current: &OsStr) -> bool {
    let is_option = |word: &OsStr| word.as_bytes().first() == Some(&b'-');
    is_option(current) || !is_option(candidate.get_value())
}

/// Value and remark, each on one line.
fn shown(candidate: &CompletionCandidate) -> (Vec<u8>, Vec<u8>) {
    let value = candidate.get_value().as_bytes();
    for mark in [source::FILES, source::COMMANDS] {
        // Behind what precedes it in the word.
        if let Some(before) = value.strip_suffix(mark.as_bytes()) {
            return (mark.as_bytes().to_vec(), before.to_vec());
        }
    }
    let remark = candidate
        .get_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let line = remark.lines().next().unwrap_or_default();
    // Foreign text in it is escaped already where it comes from.
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    (value.to_vec(), line.into_bytes())
}

#[cfg(test)]
mod tests;
