//! Before the containers, and after them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use keyns::takeover::{self, Digest, Root, Started};
use keyns_interfaces::manager::GetFeatures;

use super::super::kernel::Answer;
use super::super::machine::{self, Machine};
use super::super::shell::Line;
use super::super::step::{Step, yes};
use super::super::story::Story;
use super::super::{kernel, leftovers};
use crate::error::CommandError;

/// How long the kernel may take to collect the keys of what has ended.
const COLLECTION: Duration = Duration::from_secs(10);

/// A request of the host must be served within this time, whatever containers do.
pub(super) const HOST: Duration = Duration::from_secs(1);

/// A request of the host, by a process that finds nothing by itself: its answer and how long it
/// took.
pub(super) fn host_request(
    step: &Step<'_>,
    description: &str,
) -> Result<(Answer, Duration), CommandError> {
    let begin = Instant::now();
    let ran = step.run(&Line::probe(&["fresh", "request", "user", description, ""]))?;
    Ok((Answer::of(&ran)?, begin.elapsed()))
}

pub(super) fn features(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let status = story.server.status()?;
    step.say(format!(
        "keynsd {} (engine {}) serves instance {} as process {}.",
        status.version, status.engine, status.instance, status.pid
    ));
    step.must(&Line::keyctl(&["features"]))?;
    let ran = step.must(&Line::probe(&["capabilities"]))?;
    let features = story.ask(&GetFeatures {})?.features;
    let known = ["kernel", "daemon", "advisory", "unavailable"];
    let odd: Vec<&str> = features
        .iter()
        .filter(|feature| !known.contains(&feature.enforcer.as_str()))
        .map(|feature| feature.name.as_str())
        .collect();
    let enforced = |name: &str| {
        features
            .iter()
            .any(|row| row.name == name && row.enforcer == "kernel")
    };
    story.lists = enforced("grant-inval-apart");
    step.check(
        "enforcers",
        odd.join(","),
        "",
        "every feature says who enforces it",
    );
    let release = kernel::read("/proc/sys/kernel/osrelease")?;
    let release = String::from_utf8_lossy(&release).trim().to_owned();
    step.check(
        "kernel",
        &status.kernel,
        &release,
        format!("the kernel is Linux {release}"),
    );
    // KEYCTL_CAPS1_NS_KEYRING_NAME of keyctl(2): the second byte's lowest bit.
    let by_kernel = ran.stdout.trim().rsplit_once(" = ").and_then(|(_, hex)| {
        u8::from_str_radix(hex.get(2..4)?, 16)
            .ok()
            .map(|byte| byte & 1 != 0)
    });
    step.check(
        "capabilities",
        yes(enforced("key-names-per-user-namespace")),
        yes(by_kernel.unwrap_or(false)),
        "the table agrees with what the kernel itself says it can do",
    );
    Ok(())
}

pub(super) fn take_over(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    step.say("The kernel starts one program for every key that is requested and not there.");
    let before = machine::request_key()?;
    let (first, _) = host_request(step, "demo:host-1")?;
    let failed = |error: takeover::TakeOverError| {
        CommandError::failure("cannot take over /sbin/request-key").cause(error.to_string())
    };
    let taken = takeover::take_over(&story.programs.upcall).map_err(failed)?;
    let now = machine::request_key()?;
    let status = takeover::status(&Root::default()).map_err(failed)?;
    step.did(
        "/sbin/request-key before and now (checksum)",
        format!(
            "before: {}\nnow:    {}",
            machine::shown(before),
            machine::shown(now)
        ),
    );
    step.say(match (taken.started(), status.means) {
        (Started::AlreadyOurs, _) => {
            "It was taken over already, for another program that runs now; it is shared."
        }
        (_, Some(takeover::Means::Placed)) => {
            "There was none; a copy of keyns-upcall lies there now, and will be removed."
        }
        _ => "The original is covered by a bind mount; no file of a package is changed.",
    });
    story.taken = Some(taken);
    let upcall = Digest::of(&story.programs.upcall).map_err(failed)?;
    step.check(
        "program",
        machine::shown(now),
        upcall,
        "the kernel starts keyns-upcall from now on",
    );
    let (second, took) = host_request(step, "demo:host-2")?;
    // Without a program the kernel itself says ENOENT to the first requester, and ENOKEY later.
    let (expected, meaning) = match before {
        None => (
            "ENOKEY",
            "a request of the host gets ENOKEY, as the kernel itself says from the second one on"
                .to_owned(),
        ),
        Some(_) => (
            first.word(),
            format!(
                "a request of the host gets what it got before ({})",
                first.word()
            ),
        ),
    };
    step.check("host-answer", second.word(), expected, meaning);
    step.check(
        "host-in-time",
        yes(took < HOST),
        "yes",
        format!("it was served within {} ms", took.as_millis()),
    );
    Ok(())
}

pub(super) fn give_back(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let clean = clean_up(step, story);
    let log = story.server.log();
    let spilled = story
        .payloads
        .iter()
        .filter(|payload| {
            log.windows(payload.len())
                .any(|window| window == payload.as_bytes())
        })
        .count();
    step.check(
        "log",
        spilled,
        0,
        format!(
            "none of the {} payloads is in the daemon's log",
            story.payloads.len()
        ),
    );
    let begin = Instant::now();
    let differences = loop {
        let now = Machine::look(&story.made.instance)?;
        let differences = now.differences(&story.before, &story.made);
        if differences.is_empty() || begin.elapsed() > COLLECTION {
            break differences;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let now = machine::request_key()?;
    step.check(
        "request-key",
        machine::shown(now),
        machine::shown(story.before.request_key),
        "/sbin/request-key is what it was, by checksum",
    );
    for difference in &differences {
        step.say(difference);
    }
    step.check(
        "machine",
        differences.len(),
        0,
        format!(
            "mounts, cgroups, /run/keyns, /var/lib/keyns and keys are as before, {} ms after the end",
            begin.elapsed().as_millis()
        ),
    );
    let directory = Path::new("/run/keyns").join(&story.made.instance);
    step.check(
        "instance",
        yes(fs::symlink_metadata(directory).is_ok()),
        "no",
        "nothing of the demo's instance is left",
    );
    clean
}

/// Ends the containers, gives `/sbin/request-key` back and stops the daemon: as much of it as can be
/// done. The daemon goes last, because it removes what all instances share.
fn clean_up(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let mut failures = Vec::new();
    let mut note = |result: Result<String, CommandError>, what: &str| match result {
        Ok(done) => step.did(what, done),
        Err(error) => {
            let cause = error
                .cause
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            step.did(what, format!("{}{cause}", error.message));
            failures.push(error.message);
        }
    };
    let ended = match story.server.status() {
        Ok(_) => Ok(()),
        // It died in a step; only a daemon can end what a daemon has made.
        Err(_) => story.server.start(),
    };
    let ended = ended.and_then(|()| leftovers::end_containers(&story.server));
    note(
        ended.map(|()| "none is left".to_owned()),
        "end the containers",
    );
    if let Some(taken) = story.taken.take() {
        let given = taken.give_back().map(|undone| match undone {
            true => "done".to_owned(),
            false => "another program that runs now still uses it".to_owned(),
        });
        let given = given.map_err(|error| {
            CommandError::failure("cannot give /sbin/request-key back").cause(error.to_string())
        });
        note(given, "give /sbin/request-key back");
    }
    let stopped = story.server.stop();
    note(stopped.map(|()| "done".to_owned()), "stop keynsd");
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(CommandError::failure(first.clone())),
    }
}
