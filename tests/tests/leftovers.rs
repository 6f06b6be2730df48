//! What a killed test leaves is found and removed by the next run.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyns::engine::paths::SHARED;
use keyns::routing::{DIRECTORY, RoutingEntry, RoutingKey, RoutingTable};
use keyns_tests::{bin_dir, leftovers};

/// The value of a line of `/proc/PID/status`; `None` when the process is gone.
fn status(pid: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Some(line?.trim().to_owned())
}

fn runs(pid: &str) -> bool {
    status(pid, "State").is_some_and(|state| !state.starts_with('Z'))
}

/// Where the instance still shows.
fn traces(name: &str) -> Vec<&'static str> {
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let shared = Path::new(SHARED);
    let entries = fs::read_dir(shared.join("live"))
        .into_iter()
        .flatten()
        .flatten();
    let table: String = entries
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .collect();
    let cgroups = keyns::probe::cgroup2_mount().unwrap().unwrap();
    let found = [
        ("directory", shared.join(name).exists()),
        ("mounts", read("/proc/self/mountinfo").contains(name)),
        (
            "routing table",
            table.contains(&format!("instance={name}\n")),
        ),
        (
            "keys",
            read("/proc/keys").contains(&format!("keyns:{name}")),
        ),
        ("cgroups", cgroups.join(format!("keyns-{name}")).exists()),
    ];
    found
        .into_iter()
        .filter_map(|(what, there)| there.then_some(what))
        .collect()
}

struct Doomed(Child);

impl Doomed {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // Whatever the test found: it must not live on.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_a_killed_test_left_is_removed() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doomed"));
    let mut doomed = Doomed(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(doomed.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let (name, pid) = line.trim().split_once(' ').unwrap();
    let monitor = status(pid, "PPid").unwrap();
    let arguments = fs::read_to_string(format!("/proc/{monitor}/cmdline")).unwrap();
    assert!(arguments.starts_with("keyns-monitor\0"), "{arguments:?}");

    // As long as it lives it is left alone.
    assert!(
        !leftovers::remove(&bin_dir())
            .unwrap()
            .iter()
            .any(|removed| removed == name)
    );
    let before = traces(name);
    assert_eq!(
        before,
        ["directory", "mounts", "routing table", "keys", "cgroups"]
    );

    doomed.kill();
    assert_eq!(traces(name), before);
    assert!(
        runs(pid) && runs(&monitor),
        "the container outlives its maker"
    );

    assert!(
        leftovers::remove(&bin_dir())
            .unwrap()
            .iter()
            .any(|removed| removed == name)
    );
    // The kernel collects keys in its own time.
    let deadline = Instant::now() + Duration::from_secs(20);
    while traces(name) == ["keys"] && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(traces(name), [""; 0]);
    assert!(!runs(pid) && !runs(&monitor));
}

#[test]
fn routes_that_a_killed_test_wrote_by_itself_are_withdrawn() {
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let instance = format!("test-{}-1", gone.id());
    let key = RoutingKey::AnyId {
        instance: instance.clone(),
        container: 1,
    };
    let table = RoutingTable::open(Path::new(DIRECTORY)).unwrap();
    let entry = RoutingEntry {
        instance: instance.clone(),
        container: 1,
        socket: "/nowhere".into(),
        cgroup: None,
    };
    table.publish(&key, &entry).unwrap();
    let removed = leftovers::remove(&bin_dir()).unwrap();
    assert!(removed.contains(&instance), "{removed:?}");
    assert!(!Path::new(DIRECTORY).join(key.file_name()).exists());
}
