//! Commands by the beginning of their name.
//!
//! `keyctl-ns desc @s` is `describe`, as the manual of keyctl(1) has always promised. Only commands are
//! shortened, not what stands below them: `intercept li user` is about a container named “li”.

use std::ffi::{OsStr, OsString};

use clap::{Args as _, Command, CommandFactory as _};

use crate::cli::{Cli, GlobalArgs};

/// The shortest beginning that is completed. With fewer letters, what a script calls would change with
/// every command that is added.
const SHORTEST: usize = 3;

/// Writes the command's name out, if `arguments` have the beginning of exactly one; returns whether.
pub(crate) fn expand(arguments: &mut [OsString]) -> bool {
    let Some((at, word)) = command_word(arguments) else {
        return false;
    };
    let names = candidates(&word);
    let ([name], Some(place)) = (names.as_slice(), arguments.get_mut(at)) else {
        return false;
    };
    *place = name.into();
    true
}

/// The commands of which `word` is the beginning; none if it is the name of one, or too short.
pub(crate) fn candidates(word: &OsStr) -> Vec<String> {
    let root = Cli::command();
    let Some(word) = word.to_str().filter(|word| word.len() >= SHORTEST) else {
        return Vec::new();
    };
    if root.find_subcommand(word).is_some() {
        return Vec::new();
    }
    let begins = |command: &&Command| {
        let mut names = std::iter::once(command.get_name()).chain(command.get_all_aliases());
        !command.is_hide_set() && names.any(|name| name.starts_with(word))
    };
    root.get_subcommands()
        .filter(begins)
        .map(|command| command.get_name().to_owned())
        .collect()
}

/// Where the command's name stands, after options of every command and their values.
fn command_word(arguments: &[OsString]) -> Option<(usize, OsString)> {
    let root = GlobalArgs::augment_args(Command::new("keyctl-ns"))
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(clap::value_parser!(OsString))
        .disable_help_subcommand(true)
        .disable_help_flag(true);
    let found = root.try_get_matches_from(arguments).ok()?;
    let (_, rest) = found.subcommand()?;
    let rest = rest.get_many::<OsString>("").map_or(0, Iterator::count);
    let at = arguments.len().checked_sub(rest + 1)?;
    Some((at, arguments.get(at)?.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded(line: &str) -> String {
        let mut words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        expand(&mut words);
        words.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn the_beginning_of_one_command_is_enough() {
        for (short, long) in [
            ("k desc @s", "k describe @s"),
            (
                "k --instance desc desc desc",
                "k --instance desc describe desc",
            ),
            ("k --json inv 1", "k --json invalidate 1"),
            ("k new-s", "k new_session"),
            // Exact, although others begin with it.
            ("k request user x", "k request user x"),
            ("k watch keys", "k watch keys"),
            // Several, none, too short.
            ("k req user x", "k req user x"),
            ("k frob", "k frob"),
            ("k de @s", "k de @s"),
            ("k", "k"),
            // Not a command.
            ("k intercept lis user", "k intercept lis user"),
            ("k container cre web", "k container cre web"),
            ("k --instance", "k --instance"),
            ("k container run web -- desc", "k container run web -- desc"),
        ] {
            assert_eq!(expanded(short), long);
        }
    }

    #[test]
    fn every_command_is_itself() {
        for command in Cli::command().get_subcommands() {
            let line = format!("k {}", command.get_name());
            assert_eq!(expanded(&line), line);
        }
    }

    proptest! {
        #[test]
        fn nothing_but_the_command_is_changed(words in proptest::collection::vec("[-a-z=]{0,8}", 1..6)) {
            let before: Vec<OsString> = words.iter().map(OsString::from).collect();
            let mut after = before.clone();
            let is_changed = expand(&mut after);
            let changed = before.iter().zip(&after).filter(|(b, a)| b != a).count();
            prop_assert_eq!(changed, usize::from(is_changed));
            prop_assert_eq!(before.len(), after.len());
        }
    }
}
