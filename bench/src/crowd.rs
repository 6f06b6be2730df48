//! A daemon with a thousand containers of ten keys each.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyns_interfaces::blocking::Client;
use keyns_interfaces::containers::Remove;
use keyns_interfaces::keys::Add;
use keyns_interfaces::{ByteText, Payload};
use keyns_tests::bin_dir;

use crate::Failure;
use crate::sample::Sample;
use crate::table::Row;
use crate::world::{World, creation};

const CONTAINERS: u32 = 1_000;
const KEYS: u32 = 10;
const LIST_GOAL: Duration = Duration::from_millis(50);
const CREATE_GOAL: f64 = 1.5;
/// Containers made to find out what one costs.
const TRIES: u32 = 50;
const LISTS: u32 = 50;

/// # Errors
/// Whatever the daemon refuses.
pub(crate) fn measure() -> Result<Vec<Row>, Failure> {
    let mut world = World::start()?;
    let mut daemon = world.connect()?;
    let first = create(&mut daemon)?;
    let alone = list(&world)?;
    for n in 0..CONTAINERS {
        let name = format!("c{n}");
        daemon.call(&creation(&name), Vec::new())?;
        for k in 0..KEYS {
            let add = Add {
                container: name.clone(),
                type_: "user".into(),
                description: ByteText(format!("key-{k}").into_bytes()),
                payload: Payload::new(b"payload".to_vec()),
                timeout: None,
            };
            daemon.call(&add, Vec::new())?;
        }
    }
    let next = create(&mut daemon)?;
    let full = list(&world)?;
    drop(daemon);
    world.kill_daemon()?;
    let restart = Sample::new(vec![world.start_daemon()?])?;
    let crowd = format!("{CONTAINERS} containers with {KEYS} keys");
    Ok(vec![
        Row::reference("keyctl-ns container list, no container", &alone),
        Row::limit(
            format!("keyctl-ns container list, {crowd}"),
            &full,
            LIST_GOAL,
        ),
        Row::reference("creating the first container", &first),
        Row::ratio(
            format!("creating the next of {crowd}"),
            &next,
            &first,
            Some(CREATE_GOAL),
        ),
        Row::reference(format!("daemon killed and started, {crowd}"), &restart),
    ])
}

/// How long it takes to create one more container.
///
/// They are removed when all have been created: after each removal the kernel looks through all keys
/// of the machine for those that are dead, and whoever makes a key meanwhile waits for it.
fn create(daemon: &mut Client) -> Result<Sample, Failure> {
    let names: Vec<_> = (0..TRIES).map(|n| format!("try-{n}")).collect();
    let mut times = Vec::new();
    for name in &names {
        let begun = Instant::now();
        daemon.call(&creation(name), Vec::new())?;
        times.push(begun.elapsed());
    }
    for container in names {
        daemon.call(&Remove { container }, Vec::new())?;
    }
    Sample::new(times)
}

/// How long the command takes, from its start to its end.
fn list(world: &World) -> Result<Sample, Failure> {
    let mut times = Vec::new();
    for _ in 0..LISTS {
        let begun = Instant::now();
        let status = Command::new(bin_dir().join("keyctl-ns"))
            .args(["--instance", world.instance(), "container", "list"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        times.push(begun.elapsed());
        if !status.success() {
            return Err("keyctl-ns container list has failed".into());
        }
    }
    Sample::new(times)
}
