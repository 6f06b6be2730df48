//! `keyctl`, the original of Debian and ours, side by side on the running kernel.
//!
//! `commands.txt` holds command lines, good and bad. Each is run by both programs, in session
//! keyrings of their own that have been prepared alike; standard output, standard error and the exit
//! status must be the same, once the serials that the kernel chose are replaced by names.
//!
//! What is different on purpose is in [`deliberate`], and nowhere else.

mod deliberate;
mod script;
mod side;
mod wall;

use std::path::PathBuf;

use keyns_tests::{bin_dir, stock};
use script::Story;
use side::Side;
use wall::{Outcome, Tag};

/// The original.
fn theirs() -> Side {
    let package = stock::unpacked().expect("the packages keyutils and libkeyutils1");
    Side::new(
        package.join("bin/keyctl"),
        Some(stock::environment(&package).unwrap()),
    )
}

/// The program that is the personality alone.
fn ours() -> Side {
    Side::new(bin_dir().canonicalize().unwrap().join("keyctl"), None)
}

/// `keyctl-ns` under the name `keyctl`; the directory lives as long as the second value.
fn renamed() -> (Side, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("keyctl");
    let program = bin_dir().canonicalize().unwrap().join("keyctl-ns");
    std::os::unix::fs::symlink(program, &link).unwrap();
    (Side::new(link, None), directory)
}

/// What the programs say differently, in full.
fn difference(story: &Story, theirs: &[Outcome], ours: &[Outcome]) -> Vec<String> {
    story
        .lines
        .iter()
        .zip(theirs.iter().zip(ours))
        .filter(|(_, (theirs, ours))| theirs != ours && !theirs.is_crash())
        .map(|(line, (theirs, ours))| {
            let text = &line.text;
            format!("keyctl {text}\n  theirs: {theirs:?}\n  ours:   {ours:?}")
        })
        .collect()
}

#[track_caller]
fn compare(stories: &[Story], sides: &[&Side]) {
    let (theirs, tag) = (theirs(), Tag::new());
    let mut differences = Vec::new();
    for story in stories {
        let expected = theirs.run(story, &tag);
        assert_eq!(expected.len(), story.lines.len());
        for ours in sides {
            differences.extend(difference(story, &expected, &ours.run(story, &tag)));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        stories.len(),
        differences.join("\n")
    );
}

fn table() -> Vec<Story> {
    let stories = script::parse(include_str!("commands.txt"));
    let lines: usize = stories.iter().map(|story| story.lines.len()).sum();
    assert!(lines > 400, "{lines} lines are not the whole table");
    stories
}

#[test]
fn command_lines_have_the_same_effect_as_with_the_original() {
    let (renamed, _directory) = renamed();
    compare(&table(), &[&ours(), &renamed]);
}

/// Every command with every number of arguments that lead nowhere, with and without options.
#[test]
fn wrong_numbers_of_arguments_are_told_alike() {
    let mut lines = Vec::new();
    for command in script::commands() {
        for count in 0..7 {
            lines.push(format!("{command}{}", " @x".repeat(count)));
        }
        for count in 0..5 {
            for option in ["-x", "-f", "-v", "-p", "-"] {
                lines.push(format!("{command} {option}{}", " @x".repeat(count)));
            }
        }
    }
    assert!(lines.len() > 1500);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    compare(&[Story::of(&lines)], &[&ours()]);
}

#[test]
fn no_abbreviation_is_a_command() {
    let commands = script::commands();
    let lines: Vec<String> = commands
        .iter()
        .flat_map(|command| (0..command.len()).map(move |length| &command[..length]))
        .filter(|name| !commands.contains(&(*name).to_owned()))
        .map(|name| format!("\"{name}\" @s"))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    compare(&[Story::of(&lines)], &[&ours()]);
}

#[test]
fn the_limits_of_the_kernel_are_tested_alike() {
    compare(&[Story::line("--test limits")], &[&ours()]);
}

#[test]
fn what_is_different_is_different_on_purpose() {
    let (theirs, ours, tag) = (theirs(), ours(), Tag::new());
    for deviation in deliberate::ALL {
        let story = Story::of(deviation.lines);
        let (a, b) = (theirs.run(&story, &tag), ours.run(&story, &tag));
        let (a, b) = (a.last().unwrap(), b.last().unwrap());
        let line = deviation.lines.last().unwrap();
        assert_eq!(a.summary(), deviation.theirs, "theirs: {line}");
        assert_eq!(b.summary(), deviation.ours, "ours: {line}");
    }
}

#[test]
fn versions_differ_in_the_date_at_most() {
    let story = Story::line("--version and more");
    let version = |side: &Side| {
        let text = side.run(&story, &Tag::new())[0].stdout.clone();
        let (version, date) = text.split_once(" (Built ").unwrap();
        assert_eq!(date.len(), "2022-12-18)\n".len(), "{date}");
        version.to_owned()
    };
    assert_eq!(version(&ours()), version(&theirs()));
}

#[test]
fn the_document_names_every_deviation() {
    let file = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../man/keyctl-differences.md"
    ));
    let text = std::fs::read_to_string(file).unwrap();
    for deviation in deliberate::ALL {
        assert!(
            text.contains(deviation.what),
            "not in the document: {}",
            deviation.what
        );
    }
}
