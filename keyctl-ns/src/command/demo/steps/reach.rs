//! What is out of reach, with what would be in reach without the container.

use super::super::kernel::{Answer, read_payload};
use super::super::shell::Line;
use super::super::step::Step;
use super::super::story::{CONTAINER, INNER, PRIVATE, Story, TOKEN, search_inside};
use super::container::{create_line, hold_line};
use crate::error::CommandError;

/// nobody, on Debian and elsewhere.
const NOBODY: &str = "65534";

pub(super) fn isolated(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let (private, copy) = (story.private.to_string(), story.copy.to_string());
    step.say("From inside: the manager's other key, by name and by number.");
    let inside = search_inside(step, CONTAINER, PRIVATE)?;
    step.check(
        "private-by-name",
        inside.word(),
        "ENOKEY",
        "it is not found by name",
    );
    let read = step.run(&Line::inside(CONTAINER, &["read", &private]))?;
    step.check(
        "private-by-number",
        read_payload(&read.stdout).unwrap_or_default(),
        "EACCES",
        "knowing its number does not help",
    );
    let own = step.run(&Line::keyctl(&["read", "%user:demo:private"]))?;
    step.control(
        "manager",
        own.stdout,
        "private-1",
        "the manager itself reads it",
    );
    step.say("The same namespaces made without keyns keep the session keyring, and so the keys:");
    let plain = step.run(&Line::of(
        "unshare",
        &[
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount",
            "--net",
            "--ipc",
            "--uts",
            "$PROBE",
            "request",
            "user",
            PRIVATE,
        ],
    ))?;
    step.control(
        "unshare",
        Answer::of(&plain)?.word(),
        "private-1",
        "a process that only unshares its namespaces reads the manager's key",
    );
    step.say("From outside: the container's copy, by name and by number.");
    let by_name = step.run(&Line::probe(&["fresh", "request", "user", TOKEN]))?;
    step.check(
        "copy-by-name",
        Answer::of(&by_name)?.word(),
        "ENOKEY",
        "a process of the host without keys does not find it by name",
    );
    let by_number = step.run(&Line::probe(&["fresh", "as", NOBODY, "read", &copy]))?;
    step.check(
        "copy-by-number",
        read_payload(&by_number.stdout).unwrap_or_default(),
        "EACCES",
        "another user of the host may not read it by its number",
    );
    let inside = step.run(&Line::inside(CONTAINER, &["read", &copy]))?;
    step.control(
        "copy-inside",
        read_payload(&inside.stdout).unwrap_or_default(),
        "s3cret-1",
        "a process of the container may",
    );
    step.say(
        "Root of the host owns the copies and is not kept out: no container protects from it.",
    );
    Ok(())
}

pub(super) fn nested(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    step.must(&create_line(INNER))?;
    story.look_at(INNER)?;
    step.must(&hold_line(INNER))?;
    let inner = search_inside(step, INNER, TOKEN)?;
    step.check(
        "inner",
        inner.word(),
        "ENOKEY",
        "the nested container does not find the key",
    );
    let copy = story.copy.to_string();
    let by_number = step.run(&Line::inside(INNER, &["read", &copy]))?;
    step.check(
        "inner-by-number",
        read_payload(&by_number.stdout).unwrap_or_default(),
        "EACCES",
        "nor may it read it by its number",
    );
    let outer = search_inside(step, CONTAINER, TOKEN)?;
    step.control(
        "outer",
        outer.word(),
        "s3cret-1",
        "the container around it does",
    );
    step.must(&Line::keyctl(&["container", "kill", INNER]))?;
    Ok(())
}
