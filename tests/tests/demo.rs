//! The demo, run as a person runs it: twice, after having been killed, interrupted, refused. What it
//! promises to leave as it was is looked at here by other means than its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keyns_tests::bin_dir;
use keyns_tests::instance::Instance;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the kernel may take to collect what has ended.
const COLLECTION: Duration = Duration::from_secs(10);

/// There is one `/sbin/request-key`, and one demo at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn demo(options: &[&str]) -> Command {
    let mut command = Command::new(bin_dir().join("keyctl-ns"));
    command
        .arg("demo")
        .args(options)
        .env_remove("KEYNS_SOCKET")
        .stdin(Stdio::null());
    command
}

/// Runs it to its end: exit status, standard output, standard error.
fn run(options: &[&str]) -> (Option<i32>, String, String) {
    let output = demo(options).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn assert_all_ok((status, out, err): (Option<i32>, String, String)) -> String {
    assert_eq!(
        out.lines().last(),
        Some("demo: 20 of 20 steps ok"),
        "{out}\n{err}"
    );
    assert_eq!(status, Some(0), "{out}\n{err}");
    err
}

/// Starts it and reads what it prints up to the first line that contains `marker`.
fn run_up_to(marker: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = demo(&["--yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(marker) {
        line.clear();
        assert!(
            lines.read_line(&mut line).unwrap() > 0,
            "it ended before “{marker}”"
        );
    }
    (child, lines)
}

/// What the demo promises to leave as it was.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    request_key: Option<Vec<u8>>,
    mounts: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
    keys: BTreeSet<String>,
    processes: BTreeSet<String>,
}

impl Machine {
    fn look() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let cgroup2 = fs::read_to_string("/proc/self/mounts").unwrap();
        let cgroup2 = cgroup2
            .lines()
            .find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let cgroups = PathBuf::from(cgroup2.unwrap().split(' ').nth(1).unwrap());
        let mut files = BTreeSet::new();
        walk(Path::new("/run/keyns"), &mut files);
        walk(Path::new("/var/lib/keyns"), &mut files);
        files.retain(|path| !is_of_others(path));
        // Everybody's, while anybody is there: with the take-over they outlive the demo.
        for common in ["ids", "live", "lock"] {
            files.remove(&Path::new("/run/keyns").join(common));
        }
        files.extend(names(&cgroups).into_iter().filter(|path| is_ours(path)));
        files.extend(
            names(Path::new("/run"))
                .into_iter()
                .filter(|path| is_ours(path)),
        );
        let keys = fs::read("/proc/keys").unwrap();
        let keys = String::from_utf8_lossy(&keys);
        let of_demo = |line: &&str| line.contains(" demo:") || line.contains("keyns:demo-");
        Self {
            request_key: fs::read("/sbin/request-key").ok(),
            mounts: mounts
                .lines()
                .filter(|line| !is_of_others(Path::new(line.split(' ').nth(4).unwrap())))
                .map(str::to_owned)
                .collect(),
            files,
            keys: keys.lines().filter(of_demo).map(str::to_owned).collect(),
            processes: processes(),
        }
    }

    /// Waits until the machine is as before.
    fn assert_as_before(&self) {
        let begin = Instant::now();
        loop {
            let now = Self::look();
            if now == *self {
                return;
            }
            if begin.elapsed() > COLLECTION {
                assert_eq!(now.processes, self.processes);
                assert_eq!(now.keys, self.keys);
                assert_eq!(now.files, self.files);
                assert_eq!(now.mounts, self.mounts);
                assert!(
                    now.request_key == self.request_key,
                    "/sbin/request-key is another one"
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Whether a file belongs to an instance that is no demo's, such as one of another program that runs
/// just now.
fn is_of_others(path: &Path) -> bool {
    let below = path
        .strip_prefix("/run/keyns")
        .or_else(|_| path.strip_prefix("/var/lib/keyns"));
    let mut names = below
        .iter()
        .flat_map(|below| below.iter())
        .map(|name| name.to_string_lossy());
    let (Some(first), second) = (names.next(), names.next()) else {
        return false;
    };
    match first.as_ref() {
        // Their entries say whose they are.
        "ids" | "live" => second.is_some_and(|name| {
            name != ".lock" && !fs::read_to_string(path).is_ok_and(|text| text.contains("demo-"))
        }),
        "lock" | "keyns-upcall" => false,
        other => {
            let shared = other.contains("request-key") || other.starts_with("takeover");
            !shared && !other.starts_with("demo-")
        }
    }
}

fn is_ours(path: &Path) -> bool {
    path.file_name()
        .unwrap()
        .to_string_lossy()
        .starts_with("keyns-demo")
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).map(|entries| entries.flatten().collect::<Vec<_>>());
    entries
        .unwrap_or_default()
        .iter()
        .map(fs::DirEntry::path)
        .collect()
}

fn walk(path: &Path, found: &mut BTreeSet<PathBuf>) {
    let Ok(about) = fs::symlink_metadata(path) else {
        return;
    };
    found.insert(path.to_owned());
    if about.is_dir() {
        names(path).iter().for_each(|name| walk(name, found));
    }
}

/// Command lines of processes that have to do with a demo, the dead that nobody reaped left out.
fn processes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for process in names(Path::new("/proc")) {
        let read = |name: &str| {
            let bytes = fs::read(process.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let (command, environment) = (read("cmdline"), read("environ"));
        let of_demo = command.contains("--instance demo-")
            || command.contains("keyns-probe")
            || command.starts_with("probe ")
            || environment.contains("KEYNS_SOCKET=/run/keyns/demo-");
        if of_demo {
            found.insert(command);
        }
    }
    found
}

#[test]
fn the_demo_succeeds_twice_in_a_row_and_leaves_the_machine_as_it_was() {
    let _turn = turn();
    let before = Machine::look();
    for _ in 0..2 {
        assert_all_ok(run(&["--yes"]));
        before.assert_as_before();
    }
}

#[test]
fn a_demo_that_was_killed_is_cleaned_up_by_the_next_one() {
    let _turn = turn();
    let before = Machine::look();
    // In the middle of a step each time: with a daemon that is dead, with containers in each other,
    // with nothing but a daemon, with an agent, with requests that wait.
    let markers = [
        "kill -KILL",
        "container run demo.inner",
        " 1 of 20",
        "agent serve",
        "probe flood",
    ];
    let mut former: Option<String> = None;
    for marker in markers {
        let (mut child, lines) = run_up_to(marker);
        child.kill().unwrap();
        child.wait().unwrap();
        drop(lines);
        let left = Machine::look();
        assert!(
            left != before,
            "nothing was left at “{marker}”: the test is idle"
        );
        let instance = format!("demo-{}", child.id());
        let of = |name: &str| {
            left.files
                .iter()
                .any(|file| file.to_string_lossy().contains(name))
        };
        assert!(of(&instance));
        if let Some(former) = former.replace(instance) {
            assert!(
                !of(&former),
                "{former} is left although a demo ran after it"
            );
        }
    }
    let said = assert_all_ok(run(&["--yes"]));
    assert!(
        said.contains("removed what an interrupted demo had left"),
        "{said}"
    );
    before.assert_as_before();
}

#[test]
fn an_interrupted_demo_cleans_up_itself() {
    let _turn = turn();
    let before = Machine::look();
    for (signal, marker) in [
        (Signal::SIGINT, "probe flood"),
        (Signal::SIGTERM, " 5 of 20"),
    ] {
        let (mut child, mut lines) = run_up_to(marker);
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
        assert!(rest.contains("interrupted"), "{rest}");
        assert!(rest.contains("not run: "), "{rest}");
        assert!(!rest.contains("demo: 20 of 20"), "{rest}");
        before.assert_as_before();
    }
}

#[test]
fn the_demo_asks_and_does_nothing_without_an_answer() {
    let _turn = turn();
    let before = Machine::look();
    let (status, out, err) = run(&[]);
    assert_eq!((status, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("--yes"), "{err}");
    before.assert_as_before();
}

#[test]
fn the_demo_is_refused_while_a_container_lives() {
    let _turn = turn();
    let instance = Instance::start("refused");
    let created = instance.run(&["container", "create", "web", "--root", "empty"]);
    assert_eq!(created.code, 0, "{}", created.err);
    let before = Machine::look();
    let (status, out, err) = run(&["--yes"]);
    assert_eq!((status, out.as_str()), (Some(1), ""), "{err}");
    assert!(
        err.contains("a container of keyns lives on this machine"),
        "{err}"
    );
    before.assert_as_before();
}

#[test]
fn two_demos_do_not_run_at_once() {
    let _turn = turn();
    let before = Machine::look();
    let (mut child, mut lines) = run_up_to(" 3 of 20");
    let (status, _, err) = run(&["--yes"]);
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("another one runs"), "{err}");
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    before.assert_as_before();
}
