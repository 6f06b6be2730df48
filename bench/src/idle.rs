//! What the daemon costs while nothing happens.

use std::fs;
use std::time::Duration;

use crate::Failure;
use crate::table::Row;
use crate::world::World;

const CONTAINERS: u32 = 10;
const WATCHED: Duration = Duration::from_secs(10);
/// KiB.
const MOST_MEMORY: u64 = 12 * 1024;

/// # Errors
/// What the daemon says.
pub(crate) fn measure() -> Result<Vec<Row>, Failure> {
    let world = World::start()?;
    for n in 0..CONTAINERS {
        world.create(&format!("c{n}"))?;
    }
    // Threads that are kept for a while after work, and the first second of whatever was started.
    std::thread::sleep(Duration::from_secs(12));
    let before = switches(world.pid())?;
    std::thread::sleep(WATCHED);
    let after = switches(world.pid())?;
    let seconds = WATCHED.as_secs();
    let resident = number(world.pid(), "status", "VmRSS:")?;
    let of_its_own = number(world.pid(), "smaps_rollup", "Private_Dirty:")?;
    let what = format!("idle daemon with {CONTAINERS} containers");
    Ok(vec![
        Row::count(
            format!("{what}, {seconds} s"),
            after - before,
            "wake-ups",
            Some(0),
        ),
        Row::count(
            format!("{what}, resident"),
            resident,
            "KiB",
            Some(MOST_MEMORY),
        ),
        Row::count(format!("{what}, of which written"), of_its_own, "KiB", None),
    ])
}

/// Times that any of its threads gave up the processor to wait.
fn switches(pid: u32) -> Result<u64, Failure> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.file_name();
        let status = format!("task/{}/status", task.to_string_lossy());
        sum += number(pid, &status, "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

pub(crate) fn number(pid: u32, file: &str, key: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(word
        .ok_or_else(|| format!("/proc/{pid}/{file} has no {key}"))?
        .parse()?)
}
