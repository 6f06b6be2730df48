//! Containers of the engine alone: namespaces, roots, ids, keyrings, nesting, and that nothing
//! stays behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyns::engine::container::{
    ContainerId, ContainerRecord, ContainerSpec, ExitStatus, Namespace, Namespaces, Root, State,
};
use keyns::engine::paths::Paths;
use keyns::engine::{self, Options};
use keyns_tests::{bin_dir, run_spec, unique};

struct Engine {
    engine: Arc<dyn engine::Engine>,
    paths: Paths,
    next: u64,
    made: Vec<ContainerRecord>,
}

impl Engine {
    fn start() -> Self {
        let paths = Paths::new(&unique("engine")).unwrap();
        let service_uid = keyns_tests::service_uid();
        let engine = keyns_tests::engine()
            .start(
                Options {
                    paths: paths.clone(),
                    helpers: bin_dir(),
                    service_uid,
                    foreign: Vec::new(),
                },
                &[],
            )
            .unwrap();
        Self {
            engine,
            paths,
            next: 1,
            made: Vec::new(),
        }
    }

    fn create(
        &mut self,
        name: &str,
        namespaces: Namespaces,
        root: Root,
        lineage: &[ContainerRecord],
    ) -> ContainerRecord {
        let spec = ContainerSpec {
            id: ContainerId(self.next),
            path: name.parse().unwrap(),
            namespaces,
            root,
            kill_on_close: false,
        };
        self.next += 1;
        let record = self.engine.create(&spec, lineage, &[]).unwrap();
        self.made.push(record.clone());
        record
    }

    /// Runs a command to its end as process `number` and returns what it printed.
    fn run(
        &mut self,
        lineage: &mut [ContainerRecord],
        number: u64,
        command: &[&str],
    ) -> (ExitStatus, String) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        let spec = run_spec(number, command);
        let writer = OwnedFd::from(writer);
        let fds = [null.as_fd(), writer.as_fd(), writer.as_fd()];
        let prepared = self.engine.prepare(lineage, &spec, &fds).unwrap();
        self.engine.register(&mut lineage[0], &prepared).unwrap();
        if let Some(made) = self.made.iter_mut().find(|made| made.id == lineage[0].id) {
            made.pins = lineage[0].pins.clone();
        }
        prepared.release().unwrap();
        drop((writer, null));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        (self.exit_of(lineage[0].id, number), text)
    }

    /// Has a first process that stays, and its record from then on.
    fn start_in(&mut self, record: ContainerRecord) -> ContainerRecord {
        let null = fs::File::open("/dev/null").unwrap();
        let spec = run_spec(1, &["/usr/bin/sleep", "1000"]);
        let fds = [null.as_fd(), null.as_fd(), null.as_fd()];
        let mut lineage = [record];
        let prepared = self.engine.prepare(&lineage, &spec, &fds).unwrap();
        self.engine.register(&mut lineage[0], &prepared).unwrap();
        prepared.release().unwrap();
        let [mut record] = lineage;
        record.state = State::Running;
        let made = self.made.iter_mut().find(|made| made.id == record.id);
        *made.unwrap() = record.clone();
        record
    }

    fn remove(&self, record: &ContainerRecord) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.engine.kill(record).unwrap() {
            assert!(Instant::now() < deadline, "{} does not end", record.path);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.engine.destroy(record).unwrap();
    }

    fn exit_of(&self, id: ContainerId, number: u64) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let (processes, _) = self.engine.watch(id).unwrap();
            if let Some(exit) = processes.iter().find(|p| p.process == number).unwrap().exit {
                return exit;
            }
            assert!(
                Instant::now() < deadline,
                "process {number} of {id} does not end"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Nested ones first.
        for record in self.made.iter().rev() {
            self.remove(record);
        }
        // A range of ids would never be used again.
        for range in fs::read_dir("/run/keyns/ids").into_iter().flatten() {
            let text = fs::read_to_string(range.unwrap().path()).unwrap_or_default();
            assert_ne!(text.split(' ').next(), Some(self.paths.instance()));
        }
        self.engine.dissolve().unwrap();
        let runtime = self.paths.runtime();
        assert!(!runtime.exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(runtime.to_str().unwrap()),
            "a pin stays behind:\n{mounts}"
        );
    }
}

fn set(kinds: &[Namespace]) -> Namespaces {
    kinds.iter().copied().collect()
}

fn namespace_of(path: &str) -> String {
    fs::read_link(path).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_container_with_every_namespace_shares_none_with_the_host() {
    let mut engine = Engine::start();
    let all: BTreeSet<_> = Namespace::ALL.into_iter().collect();
    let record = engine.create("all", all, Root::Usr, &[]);
    let (exit, text) = engine.run(
        &mut [record],
        1,
        &[
            "sh",
            "-c",
            "cd /proc/self/ns; for n in user pid mnt net ipc uts cgroup; do readlink $n; done",
        ],
    );
    assert_eq!(exit, ExitStatus::Exited(0), "{text}");
    for line in text.lines() {
        let kind = line.split(':').next().unwrap();
        assert_ne!(line, namespace_of(&format!("/proc/self/ns/{kind}")));
    }
    assert_eq!(text.lines().count(), 7, "{text}");
}

#[test]
fn each_set_of_namespaces_runs_a_process_and_is_removed() {
    let mut engine = Engine::start();
    for bits in 0..128u32 {
        let kinds: Vec<_> = Namespace::ALL
            .into_iter()
            .enumerate()
            .filter(|(index, _)| bits & (1 << index) != 0)
            .map(|(_, kind)| kind)
            .collect();
        // A private copy of the mounts suits those that keep the host's other namespaces.
        let root = if bits & 1 == 0 { Root::Copy } else { Root::Usr };
        let record = engine.create(&format!("set{bits}"), set(&kinds), root, &[]);
        let (exit, text) = engine.run(&mut [record.clone()], 1, &["sh", "-c", "echo $$; exit 7"]);
        assert_eq!(exit, ExitStatus::Exited(7), "{kinds:?}: {text}");
        if kinds.contains(&Namespace::Pid) {
            assert_eq!(text.trim(), "1", "{kinds:?}");
        }
        let record = engine.made.pop().unwrap();
        engine.remove(&record);
    }
}

/// Tells the namespaces of the process that reads it.
const TELL: &str =
    "cd /proc/self/ns; for n in user pid mnt net ipc uts cgroup; do readlink $n; done";

fn nest_each_set(outer_kinds: Namespaces) {
    let mut engine = Engine::start();
    let outer = engine.create("outer", outer_kinds, Root::Usr, &[]);
    let outer = engine.start_in(outer);
    let (_, around) = engine.run(&mut [outer.clone()], 2, &["sh", "-c", TELL]);
    let around: BTreeSet<_> = around.lines().map(str::to_owned).collect();
    assert_eq!(around.len(), 7, "{around:?}");
    for bits in 0..128u32 {
        let kinds: Namespaces = Namespace::ALL
            .into_iter()
            .enumerate()
            .filter(|(index, _)| bits & (1 << index) != 0)
            .map(|(_, kind)| kind)
            .collect();
        let root = if bits & 2 == 0 { Root::Copy } else { Root::Usr };
        let name = format!("outer.set{bits}");
        let inner = engine.create(&name, kinds.clone(), root, std::slice::from_ref(&outer));
        let mut lineage = [inner, outer.clone()];
        let (exit, text) = engine.run(&mut lineage, 1, &["sh", "-c", TELL]);
        assert_eq!(exit, ExitStatus::Exited(0), "{kinds:?}: {text}");
        let inside: BTreeSet<_> = text.lines().map(str::to_owned).collect();
        assert_eq!(inside.len(), 7, "{kinds:?}: {text}");
        // What it has of its own is not the container's around, all else is.
        let own: BTreeSet<_> = inside
            .difference(&around)
            .filter_map(|line| line.split(':').next())
            .collect();
        let wanted: BTreeSet<_> = kinds.iter().map(|kind| kind.file()).collect();
        assert_eq!(own, wanted, "{inside:?} in {around:?}");
        let inner = engine.made.pop().unwrap();
        engine.remove(&inner);
    }
}

#[test]
fn each_set_of_namespaces_also_works_in_a_container_with_all_of_its_own() {
    nest_each_set(Namespace::ALL.into_iter().collect());
}

#[test]
fn each_set_of_namespaces_also_works_in_a_container_that_has_the_hosts_ids() {
    nest_each_set(set(&[Namespace::Pid, Namespace::Mount]));
}

#[test]
fn root_inside_maps_to_an_unused_id_outside_and_sees_its_own_processes_only() {
    let mut engine = Engine::start();
    let kinds = set(&[Namespace::User, Namespace::Pid, Namespace::Mount]);
    let record = engine.create("ids", kinds, Root::Usr, &[]);
    let base = record.ids.unwrap().base;
    let (exit, text) = engine.run(
        &mut [record],
        1,
        &[
            "sh",
            "-c",
            "id -u; cat /proc/self/uid_map; ls -d /proc/[0-9]* | wc -l; ls /",
        ],
    );
    assert_eq!(exit, ExitStatus::Exited(0), "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "0");
    let map: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(map, ["0", &base.to_string(), "65536"]);
    assert!(lines[2].parse::<u32>().unwrap() <= 4, "{text}");
    assert!(lines.contains(&"usr") && !lines.contains(&"work"), "{text}");
}

#[test]
fn a_nested_container_gets_a_slice_of_its_parents_ids_and_dies_with_it() {
    let mut engine = Engine::start();
    let kinds = set(&[
        Namespace::User,
        Namespace::Pid,
        Namespace::Mount,
        Namespace::Net,
    ]);
    let outer = engine.create("outer", kinds.clone(), Root::Usr, &[]);
    // The parent must live: a nested PID namespace is made below its own.
    let outer = engine.start_in(outer);

    let inner = engine.create(
        "outer.inner",
        kinds,
        Root::Usr,
        std::slice::from_ref(&outer),
    );
    let (parent, child) = (outer.ids.unwrap(), inner.ids.unwrap());
    assert_eq!(child.count, 4_096);
    assert!(parent.inside(child.base).is_some_and(|id| id >= 32_768));
    let mut lineage = [inner.clone(), outer.clone()];
    let (exit, text) = engine.run(
        &mut lineage,
        1,
        &["sh", "-c", "id -u; cat /proc/self/uid_map; hostname"],
    );
    assert_eq!(exit, ExitStatus::Exited(0), "{text}");
    let map = text
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap();
    // Seen from inside, the map is in the parent's ids.
    assert_eq!(map.parse::<u32>().ok(), parent.inside(child.base));
    assert!(inner.cgroup.starts_with(&outer.cgroup));
}

#[test]
fn early_mounts_cannot_be_made_writable_from_inside() {
    let mut engine = Engine::start();
    let kinds = set(&[Namespace::User, Namespace::Pid, Namespace::Mount]);
    let record = engine.create("locked", kinds, Root::Usr, &[]);
    let (exit, text) = engine.run(
        &mut [record],
        1,
        &[
            "sh",
            "-c",
            "mount -o remount,bind,rw /usr; echo $?; umount /usr; echo $?; touch /usr/x",
        ],
    );
    let codes: Vec<_> = text
        .lines()
        .filter(|line| line.parse::<u32>().is_ok())
        .collect();
    assert_eq!(codes.len(), 2, "{text}");
    assert!(codes.iter().all(|code| *code != "0"), "{text}");
    assert_ne!(exit, ExitStatus::Exited(0), "{text}");
}

#[test]
fn a_process_possesses_the_container_keyring_and_nothing_of_the_host() {
    let mut engine = Engine::start();
    let kinds = set(&[Namespace::User, Namespace::Pid, Namespace::Mount]);
    let record = engine.create("keyring", kinds, Root::Usr, &[]);
    let serial = record.keyrings.container;
    let (_, text) = engine.run(&mut [record], 1, &["cat", "/proc/keys"]);
    // The kernel lists a key to its possessor only if the possessor may view it, which the
    // container keyring does not allow; its session is its own.
    assert!(text.contains("_ses"), "{text}");
    assert!(!text.contains(&format!("{serial:08x}")), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_program_that_does_not_exist_is_an_error_with_its_reason() {
    let mut engine = Engine::start();
    let record = engine.create(
        "typo",
        set(&[Namespace::User, Namespace::Pid]),
        Root::Empty,
        &[],
    );
    let null = fs::File::open("/dev/null").unwrap();
    let spec = run_spec(1, &["/no/such/program"]);
    let fds = [null.as_fd(), null.as_fd(), null.as_fd()];
    let mut lineage = [record];
    let prepared = engine.engine.prepare(&lineage, &spec, &fds).unwrap();
    let error = prepared.release().unwrap_err();
    assert_eq!(error.errno(), Some(2), "{error}");
    let undone = engine
        .engine
        .unregister(&mut lineage[0], &[], &prepared.namespaces);
    undone.unwrap();
    // It never ran, so another one may.
    let prepared = engine
        .engine
        .prepare(&lineage, &run_spec(1, &["/bin/true"]), &fds);
    prepared.unwrap().release().unwrap();
}

#[test]
fn the_hosts_own_root_is_refused_as_a_root() {
    let mut engine = Engine::start();
    for (path, reason) in [
        ("/", "own root"),
        ("/proc/self/root", "own root"),
        ("etc", "absolute"),
        ("/etc/passwd", "not a directory"),
    ] {
        let spec = ContainerSpec {
            id: ContainerId(engine.next),
            path: "root".parse().unwrap(),
            namespaces: set(&[Namespace::User, Namespace::Mount]),
            root: Root::Dir(PathBuf::from(path)),
            kill_on_close: false,
        };
        engine.next += 1;
        let error = engine
            .engine
            .create(&spec, &[], &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{path}: {error}");
        assert!(!Path::new("/run/keyns/ids").join("none").exists());
    }
}
