//! A key for the container: added, granted, used, updated, taken back.

use std::time::{Duration, Instant};

use keyns_interfaces::containers::GetKeyring;

use super::super::kernel::{self, read_payload};
use super::super::shell::{Line, PATIENCE, Ran};
use super::super::step::{Step, yes};
use super::super::story::{CONTAINER, PRIVATE, STORED, Story, TOKEN, search_inside};
use crate::error::CommandError;

/// How long a changed key may take to reach its copies: the daemon looks once a second.
const POLL: Duration = Duration::from_secs(1);

/// The serial that a command printed first.
fn serial(ran: &Ran) -> Result<i32, CommandError> {
    let word = ran
        .stdout
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    word.ok_or_else(|| CommandError::failure(format!("no serial number from: {}", ran.line)))
}

fn add_one(
    step: &Step<'_>,
    story: &mut Story,
    description: &str,
    payload: &str,
    options: &[&str],
) -> Result<i32, CommandError> {
    let payload = story.payload(payload);
    let words = [&["add", "user", description][..], options].concat();
    let serial = serial(&step.must(&Line::keyctl(&words).input(&payload))?)?;
    story.made.serials.insert(serial);
    Ok(serial)
}

pub(super) fn add(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    story.token = add_one(step, story, TOKEN, "s3cret-1", &[])?;
    story.private = add_one(step, story, PRIVATE, "private-1", &[])?;
    step.say(
        "These two are in the manager's session keyring; the next goes to the container's store.",
    );
    let stored = add_one(step, story, STORED, "stored-1", &["--container", CONTAINER])?;
    let ran = step.must(&Line::probe(&["read", &story.token.to_string()]))?;
    let payload = read_payload(&ran.stdout).unwrap_or_default();
    step.check(
        "payload",
        payload,
        "s3cret-1",
        "the kernel has what came from standard input",
    );
    let store = kernel::visible_key(stored)?;
    let (owner, mask) = store.map_or((None, 0), |key| (key.uid, key.mask.raw()));
    step.check(
        "stored",
        format!("uid {}, mask {mask:08x}", owner.unwrap_or(u32::MAX)),
        "uid 0, mask 3f010000",
        format!("key {stored} of the store belongs to the host's root, not to the container"),
    );
    let inside = search_inside(step, CONTAINER, STORED)?;
    step.check(
        "not-granted",
        inside.word(),
        "ENOKEY",
        "it is not granted, so it is not found inside",
    );
    Ok(())
}

fn grant_line(key: &str, options: &[&str]) -> Line {
    let words = ["grant", key, "container:demo", "search"];
    Line::keyctl(&[&words, options].concat())
}

pub(super) fn grant_refused(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let implied = story.implied();
    step.say(format!(
        "On this kernel a process that may search a key may also {} it.",
        if story.lists {
            "read"
        } else {
            "read and invalidate"
        }
    ));
    let ran = step.run(&grant_line("%user:demo:token", &[]))?;
    step.check(
        "exit",
        ran.status,
        8,
        "the grant is refused with the exit code for it",
    );
    let named = implied.iter().all(|right| ran.stderr.contains(right));
    step.check(
        "named",
        yes(named),
        "yes",
        "the refusal names the rights that would come along",
    );
    let inside = search_inside(step, CONTAINER, TOKEN)?;
    step.check(
        "inside",
        inside.word(),
        "ENOKEY",
        "the container has not got the key",
    );
    let accepted = ["--accept-implied", &implied.join(","), "--dry-run"];
    let dry = step.run(&grant_line("%user:demo:token", &accepted))?;
    step.control(
        "accepted",
        dry.status,
        0,
        "with these rights accepted by name it would be given (nothing is changed yet)",
    );
    Ok(())
}

pub(super) fn grant(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let implied = story.implied().join(",");
    let accepted = ["--accept-implied", &implied];
    step.must(&grant_line("%user:demo:token", &accepted))?;
    step.must(&grant_line("demo/user:demo:stored", &accepted))?;
    step.must(&Line::keyctl(&["acl", "%user:demo:token"]))?;
    let keyring = story.ask(&GetKeyring {
        container: CONTAINER.to_owned(),
    })?;
    story
        .made
        .serials
        .extend(keyring.keys.iter().map(|key| key.serial));
    for (check, description) in [("copy", TOKEN), ("stored-copy", STORED)] {
        let copy = keyring
            .keys
            .iter()
            .find(|key| key.description.bytes() == description.as_bytes());
        let copy = copy
            .ok_or_else(|| CommandError::failure(format!("there is no copy of {description}")))?;
        if description == TOKEN {
            story.copy = copy.serial;
        }
        let line = kernel::visible_key(copy.serial)?;
        let shown = line
            .as_ref()
            .map(|key| String::from_utf8_lossy(&key.to_line()).into_owned());
        step.did(
            format!("/proc/keys, key {}", copy.serial),
            shown.unwrap_or_default(),
        );
        step.check(
            check,
            kernel::permissions(copy.serial)?,
            story.permissions("083f0000", "read,search")?,
            format!(
                "the container's copy of {description} gives it search, which implies {}",
                story.implied().join(" and ")
            ),
        );
    }
    step.check(
        "own-copy",
        yes(story.copy != story.token),
        "yes",
        format!(
            "key {} of the container is a key of its own: destroying it does not destroy key {}",
            story.copy, story.token
        ),
    );
    Ok(())
}

pub(super) fn use_inside(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let found = search_inside(step, CONTAINER, TOKEN)?;
    step.check(
        "payload",
        found.word(),
        "s3cret-1",
        "request_key(2) finds it and its payload is right",
    );
    step.check(
        "serial",
        found.serial().unwrap_or_default(),
        story.copy,
        "what it finds is the copy that was granted",
    );
    let stored = search_inside(step, CONTAINER, STORED)?;
    step.check(
        "stored-payload",
        stored.word(),
        "stored-1",
        "the same for the key of the store",
    );
    step.say("The control was before the grant: the same search gave ENOKEY.");
    Ok(())
}

pub(super) fn update(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let payload = story.payload("stored-2");
    step.must(&Line::keyctl(&["update", "demo/user:demo:stored"]).input(&payload))?;
    let stored = search_inside(step, CONTAINER, STORED)?;
    step.check(
        "stored",
        stored.word(),
        "stored-2",
        "a key of the store is updated with all its copies before the command ends",
    );
    let before = search_inside(step, CONTAINER, TOKEN)?;
    step.control(
        "before",
        before.word(),
        "s3cret-1",
        "the lent key has its old payload so far",
    );
    let payload = story.payload("s3cret-2");
    step.say("The manager updates its own key by a system call; the daemon notices when it looks.");
    let begin = Instant::now();
    step.must(&Line::keyctl(&["update", "%user:demo:token"]).input(&payload))?;
    let line = Line::inside(CONTAINER, &["await", "user", TOKEN, &payload, "10"]);
    let ran = step.must(&line)?;
    let took = begin.elapsed();
    step.check(
        "lent",
        super::super::kernel::Answer::of(&ran)?.word(),
        "s3cret-2",
        format!(
            "a process inside saw the new payload {} ms after the update began",
            took.as_millis()
        ),
    );
    // Between two looks, and the time the two commands need to start.
    step.check(
        "in-time",
        yes(took < POLL * 2),
        "yes",
        "that is within one look of the daemon",
    );
    Ok(())
}

pub(super) fn ungrant(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let before = search_inside(step, CONTAINER, TOKEN)?;
    step.control(
        "before",
        before.word(),
        "s3cret-2",
        "before, a process inside finds the key",
    );
    step.must(&Line::keyctl(&[
        "ungrant",
        "%user:demo:token",
        "container:demo",
    ]))?;
    let mut inside = search_inside(step, CONTAINER, TOKEN)?;
    let begin = Instant::now();
    // keyring_search_iterator(): the link of an invalidated key stays until it is collected.
    while inside.word() == "EKEYREVOKED" && begin.elapsed() < PATIENCE {
        step.say("The kernel has not collected the copy yet; once more:");
        inside = search_inside(step, CONTAINER, TOKEN)?;
    }
    step.check("inside", inside.word(), "ENOKEY", "now it does not");
    let ran = step.run(&Line::probe(&["read", &story.copy.to_string()]))?;
    step.check(
        "copy",
        read_payload(&ran.stdout).unwrap_or_default(),
        "ENOKEY",
        "the copy does not exist any more, not even for the host's root",
    );
    let ran = step.must(&Line::keyctl(&["read", "%user:demo:token"]))?;
    step.check(
        "manager",
        ran.stdout,
        "s3cret-2",
        "the manager's own key is untouched",
    );
    Ok(())
}
