//! A container and its keyring.

use std::fs;

use super::super::kernel::{self, rings, visible_key};
use super::super::shell::Line;
use super::super::step::{Step, yes};
use super::super::story::{CONTAINER, Story};
use crate::error::CommandError;

/// `/proc/PID/ns` files of the namespaces the container gets.
const OWN: [&str; 6] = ["user", "pid", "mnt", "net", "ipc", "uts"];

/// The command that creates a container of the demo.
pub(super) fn create_line(name: &str) -> Line {
    Line::keyctl(&[
        "container",
        "create",
        name,
        "--user",
        "--pid",
        "--mount",
        "--net",
        "--ipc",
        "--uts",
        "--root",
        "empty",
    ])
}

/// The command that starts its first process, which does nothing.
pub(super) fn hold_line(name: &str) -> Line {
    Line::keyctl(&[
        "container",
        "run",
        name,
        "--detach",
        "--program",
        "$PROBE",
        "--",
        "probe",
        "hold",
    ])
}

pub(super) fn create(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    step.must(&create_line(CONTAINER))?;
    story.look_at(CONTAINER)?;
    step.must(&hold_line(CONTAINER))?;
    step.must(&Line::keyctl(&["container", "list"]))?;
    let shown = story.look_at(CONTAINER)?;
    let container = shown.container;
    let pid = container
        .init_pid
        .ok_or_else(|| CommandError::failure("the container has no first process"))?;
    story.container = Some(container.clone());

    let of = |pid: &str| -> Result<Vec<String>, CommandError> {
        OWN.iter()
            .map(|kind| kernel::namespace(pid, kind))
            .collect()
    };
    let (here, there) = (of("self")?, of(&pid.to_string())?);
    step.did(
        format!("/proc/self/ns and /proc/{pid}/ns"),
        format!(
            "host:      {}\ncontainer: {}",
            here.join(" "),
            there.join(" ")
        ),
    );
    let own: Vec<&str> = OWN
        .iter()
        .zip(here.iter().zip(&there))
        .filter(|(_, (here, there))| here != there)
        .map(|(kind, _)| *kind)
        .collect();
    step.check(
        "namespaces",
        own.join(","),
        OWN.join(","),
        "the kernel shows other namespaces for its first process than for us",
    );
    let child = std::process::Command::new(&story.programs.probe)
        .arg("hold")
        .spawn()
        .map_err(|error| CommandError::io("cannot start the probe", &error));
    let mut child = child?;
    let ordinary = of(&child.id().to_string());
    let _ = child.kill();
    let _ = child.wait();
    step.control(
        "ordinary-child",
        yes(ordinary? == here),
        "yes",
        "a process that is just started shares ours",
    );
    let inner_pid = kernel::status(pid, "NSpid")?;
    let inner_pid = inner_pid
        .split_whitespace()
        .last()
        .unwrap_or_default()
        .to_owned();
    step.check(
        "pid-inside",
        inner_pid,
        1,
        format!("process {pid} of the host is its process 1"),
    );
    let uid = kernel::status(pid, "Uid")?;
    let uid: u32 = uid
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0);
    step.check(
        "uid",
        uid,
        container.uid_base.unwrap_or_default(),
        format!("its uid 0 is uid {uid} of the host, one of 65,536 that only it has"),
    );
    let root = format!("/proc/{pid}/root/");
    let files = fs::read_dir(&root)
        .map_err(|error| CommandError::io(format!("cannot list {root}"), &error))?
        .count();
    step.check(
        "root",
        files,
        0,
        "its root directory is empty: not even /proc is there",
    );
    Ok(())
}

pub(super) fn keyring(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    step.must(&Line::keyctl(&["container", "keyring", CONTAINER]))?;
    let serial = story.container()?.keyring.unwrap_or_default();
    let line = visible_key(serial)?;
    let shown = line
        .as_ref()
        .map(|key| String::from_utf8_lossy(&key.to_line()).into_owned());
    step.did(
        format!("/proc/keys, key {serial}"),
        shown.unwrap_or_default(),
    );
    let description = line.map_or_else(String::new, |key| {
        String::from_utf8_lossy(&key.summary).into_owned()
    });
    step.check(
        "description",
        description.split(':').next().unwrap_or_default(),
        "_container",
        "the kernel has it by this name",
    );
    step.check(
        "permissions",
        kernel::permissions(serial)?,
        story.permissions("083f0000", "search,link")?,
        "a process of the container may search it, but not add to it, take from it or change it",
    );
    let ran = step.must(&Line::inside(CONTAINER, &["ring"]))?;
    let rings = rings(&ran.stdout);
    let session = rings.first().cloned().unwrap_or_default();
    step.check(
        "in-session",
        yes(session == [serial]),
        "yes",
        "a process in the container has it, and only it, in its session keyring",
    );
    step.check(
        "empty",
        rings.get(1).map_or(-1, |members| members.len() as i32),
        0,
        "nothing is in it yet",
    );
    Ok(())
}
