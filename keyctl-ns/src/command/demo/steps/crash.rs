//! What dies while a request waits, and what does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keyns::probe::cgroup2_mount;
use keyns_interfaces::containers::ContainerInfo;

use super::super::shell::{Line, PATIENCE};
use super::super::step::{Step, yes};
use super::super::story::{CONTAINER, Story, answer_of, requester};
use super::super::{kernel, machine::Made};
use super::upcalls::{answer, intercept};
use crate::error::CommandError;

/// A container that is killed must be gone by then.
const GONE: Duration = Duration::from_secs(1);

pub(super) fn daemon_killed(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    intercept(step, "user", &["--to", "manual"])?;
    let mut asking = requester(step, "demo:patient", "")?;
    let upcall = story.arrival(step, &mut asking, "demo:patient")?;
    let pid = upcall.requester.pid;
    let daemon = story.server.pid().unwrap_or_default();
    story.server.kill()?;
    step.did(format!("kill -KILL {daemon}: keynsd"), "");
    let gone = step.run(&Line::keyctl(&["upcalls"]))?;
    step.control(
        "daemon",
        gone.status,
        6,
        "the daemon is gone: nobody can list or answer anything",
    );
    let state = kernel::status(pid, "State")?;
    let init = story.container()?.init_pid.unwrap_or_default();
    step.did(format!("/proc/{pid}/status"), format!("State: {state}"));
    step.check(
        "waits",
        state.get(..1).unwrap_or_default(),
        "D",
        "the requester waits on in the kernel",
    );
    step.check(
        "lives",
        kernel::status(init, "Name").is_ok(),
        true,
        "the container runs on",
    );
    story.server.start()?;
    step.did(
        story.server.line(),
        format!(
            "serves, as process {}",
            story.server.pid().unwrap_or_default()
        ),
    );
    let again = story.arrival(step, &mut asking, "demo:patient")?;
    step.must(&Line::keyctl(&["upcalls"]))?;
    step.check(
        "same-request",
        format!("key {} of process {}", again.key, again.requester.pid),
        format!("key {} of process {pid}", upcall.key),
        "the new daemon has the same request of the same process",
    );
    let shown = story.look_at(CONTAINER)?.container;
    step.check(
        "same-container",
        shown.init_pid.unwrap_or_default(),
        init,
        "and the same container",
    );
    let payload = story.payload("patience-1");
    answer(step, again.id, &payload)?;
    let got = answer_of(step, asking)?;
    step.check(
        "payload",
        got.word(),
        payload,
        "it is answered by hand, and the requester has its key",
    );
    Ok(())
}

/// What there is of a container, as the kernel and the file system show it.
fn remains(instance: &str, container: &ContainerInfo) -> Result<Vec<String>, CommandError> {
    let mut found = Vec::new();
    let (base, count) = (
        container.uid_base.unwrap_or(u32::MAX),
        container.uid_count.unwrap_or(0),
    );
    let made = Made {
        ids: [(base, count)].into(),
        ..Made::default()
    };
    let processes = fs::read_dir("/proc")
        .map_err(|error| CommandError::io("cannot list the processes", &error))?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_alive_of(*pid, &made))
        .count();
    if processes > 0 {
        found.push(format!("{processes} processes"));
    }
    let mount = cgroup2_mount()
        .map_err(|error| CommandError::io("cannot find cgroup2", &error))?
        .unwrap_or_default();
    let id = container.id.to_string();
    let paths: [(&str, PathBuf); 3] = [
        (
            "its cgroup",
            mount.join(format!("keyns-{instance}")).join(&id),
        ),
        (
            "pinned namespaces",
            Path::new("/run/keyns").join(instance).join("ns").join(&id),
        ),
        (
            "its ids",
            Path::new("/run/keyns/ids").join(base.to_string()),
        ),
    ];
    found.extend(
        paths
            .iter()
            .filter(|(_, path)| path.exists())
            .map(|(name, _)| (*name).to_owned()),
    );
    let routes = fs::read_dir("/run/keyns/live").map(|entries| {
        let of_instance = format!("instance={instance}\n");
        let of_container = format!("container={id}\n");
        entries
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path()).ok())
            .filter(|text| text.contains(&of_instance) && text.contains(&of_container))
            .count()
    });
    if let Ok(routes @ 1..) = routes {
        found.push(format!("{routes} entries of the routing table"));
    }
    if kernel::visible_key(container.keyring.unwrap_or(0))?.is_some() {
        found.push("its keyring".to_owned());
    }
    Ok(found)
}

/// Whether a process runs under an id of the container; a dead one that was not reaped does not.
fn is_alive_of(pid: u32, made: &Made) -> bool {
    let word = |label| kernel::status(pid, label).ok();
    let uid = word("Uid").and_then(|line| line.split_whitespace().next()?.parse().ok());
    uid.is_some_and(|uid| made.owns(uid))
        && word("State").is_some_and(|state| !state.starts_with('Z'))
}

pub(super) fn container_killed(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let mut asking = requester(step, "demo:doomed", "")?;
    let upcall = story.arrival(step, &mut asking, "demo:doomed")?;
    let container = story.look_at(CONTAINER)?.container;
    let instance = story.made.instance.clone();
    let before = remains(&instance, &container)?;
    step.did("what there is of the container", before.join(", "));
    step.control(
        "before",
        before.len(),
        6,
        format!(
            "it lives, with process {} waiting for a key",
            upcall.requester.pid
        ),
    );
    let begin = Instant::now();
    step.must(&Line::keyctl(&["container", "kill", CONTAINER]))?;
    let took = begin.elapsed();
    let left = step
        .shell()
        .until("the end of what is left", PATIENCE, || {
            let left = remains(&instance, &container)?;
            Ok((left.is_empty() || begin.elapsed() > GONE * 5).then_some(left))
        })?;
    step.did(
        "what there is of the container",
        if left.is_empty() {
            "nothing".into()
        } else {
            left.join(", ")
        },
    );
    step.check(
        "remains",
        left.join(", "),
        "",
        "no process, cgroup, namespace, id, route or keyring",
    );
    step.check(
        "in-time",
        yes(took < GONE),
        "yes",
        format!(
            "it took {} ms, although a process waited where no signal reaches it",
            took.as_millis()
        ),
    );
    let ran = step.finish(asking, PATIENCE)?;
    step.check(
        "requester",
        yes(ran.ok()),
        "no",
        "the process that asked has got no key: its request was rejected, and it was killed",
    );
    let waiting = story.server.status()?.pending_upcalls;
    step.check("upcalls", waiting, 0, "and no request waits any more");
    Ok(())
}
