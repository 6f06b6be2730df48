//! A daemon, processes inside and outside of its containers, and what was found.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Facts;
use super::puppet::{self, Puppet};
use super::varlink::{Connection, Daemon, base64};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) instance: String,
    pub(crate) programs: PathBuf,
    pub(crate) puppet: PathBuf,
    pub(crate) daemon: Daemon,
    pub(crate) log: PathBuf,
    child: Option<Child>,
    facts: Facts,
    step: &'static str,
    _directory: tempfile::TempDir,
}

impl World {
    /// Starts a daemon, plays, stops the daemon, and returns what was found.
    pub(crate) fn run(programs: &Path, play: fn(&mut Self)) -> Facts {
        let directory = tempfile::tempdir().unwrap();
        let instance = format!("raw-{}-0", std::process::id());
        let mut world = Self {
            puppet: puppet::build(directory.path()),
            daemon: Daemon {
                socket: Path::new("/run/keyns").join(&instance).join("keynsd"),
            },
            log: directory.path().join("log"),
            programs: programs.to_owned(),
            instance,
            child: None,
            facts: Facts::new(),
            step: "",
            _directory: directory,
        };
        world.start();
        play(&mut world);
        std::mem::take(&mut world.facts)
    }

    /// What follows belongs to this step.
    pub(crate) fn step(&mut self, name: &'static str) {
        self.step = name;
    }

    /// Notes what was found under the name that the demo has for it.
    pub(crate) fn found(&mut self, check: &str, value: impl ToString) {
        let key = (self.step.to_owned(), check.to_owned());
        assert!(
            self.facts.insert(key, value.to_string()).is_none(),
            "{check} twice"
        );
    }

    pub(crate) fn start(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let child = Command::new(self.programs.join("keynsd"))
            .args(["--instance", &self.instance, "--transient", "--helpers"])
            .arg(&self.programs)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let socket = self.daemon.socket.clone();
        until("the daemon", || Connection::open(&socket).is_ok());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn call(&self, method: &str, parameters: Value) -> Value {
        self.daemon.call(method, parameters)
    }

    /// A container of the demo's kind.
    pub(crate) fn create(&self, name: &str) -> Value {
        let namespaces = ["user", "pid", "mount", "net", "ipc", "uts"];
        let call = json!({"name": name, "namespaces": namespaces, "root": {"empty": {}}});
        self.call("Containers.Create", call)["container"].clone()
    }

    /// A puppet inside a container, as its first process or a further one; with its host pid.
    pub(crate) fn inside(&self, container: &str, first: bool) -> (Puppet, u32) {
        let (puppet, end) = Puppet::pair();
        let program = fs::File::open(&self.puppet).unwrap();
        let method = if first {
            "Containers.Run"
        } else {
            "Containers.Exec"
        };
        let call = json!({"container": container, "command": ["puppet"], "program_passed": true});
        let fds = [end.as_fd(), end.as_fd(), end.as_fd(), program.as_fd()];
        let started = self.daemon.open().call_with(method, call, &fds);
        let pid = started.unwrap_or_else(|e| panic!("{method}: {e:?}"))["pid"]
            .as_u64()
            .unwrap();
        (puppet, pid.try_into().unwrap())
    }

    /// Everything about a container.
    pub(crate) fn show(&self, container: &str) -> Value {
        self.call("Containers.Show", json!({"container": container}))
    }

    pub(crate) fn intercept(&self, type_: &str, target: Value, options: Value) {
        let mut call = json!({"container": "demo", "type": type_, "target": target});
        for (key, value) in options.as_object().unwrap() {
            call[key] = value.clone();
        }
        self.call("Upcalls.Intercept", call);
    }

    /// The requests that wait.
    pub(crate) fn waiting(&self) -> Vec<Value> {
        self.call("Upcalls.List", json!({}))["upcalls"]
            .as_array()
            .unwrap()
            .clone()
    }

    /// Waits for a request with this description.
    pub(crate) fn arrival(&self, description: &str) -> Value {
        let mut found = None;
        until(description, || {
            found = self
                .waiting()
                .into_iter()
                .find(|u| u["description"] == description);
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn answer(&self, id: &Value, payload: &str) {
        let response = json!({"payload": base64(payload.as_bytes())});
        self.call("Upcalls.Answer", json!({"id": id, "response": response}));
    }

    /// Requests that wait, by the daemon's count.
    pub(crate) fn pending(&self) -> u64 {
        self.call("Manager.GetStatus", json!({}))["pending_upcalls"]
            .as_u64()
            .unwrap()
    }

    /// What there is of a container.
    pub(crate) fn remains(&self, container: &Value, host: &mut Puppet) -> BTreeSet<&'static str> {
        let id = &container["id"];
        let cgroup = cgroups().join(format!("keyns-{}/{id}", self.instance));
        let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        let owned = Path::new("/run/keyns").join(&self.instance);
        let entries: Vec<String> = fs::read_dir("/run/keyns/live")
            .map(|entries| entries.flatten().collect())
            .unwrap_or_else(|_| Vec::new())
            .iter()
            .filter_map(|entry: &fs::DirEntry| fs::read_to_string(entry.path()).ok())
            .filter(|text| {
                text.contains(&self.instance) && text.contains(&format!("container={id}\n"))
            })
            .collect();
        let described = host.ask(&format!("describe {}", container["keyring"]));
        let there = [
            ("processes", !processes.trim().is_empty()),
            ("cgroup", cgroup.exists()),
            ("namespaces", owned.join(format!("ns/{id}")).exists()),
            (
                "ids",
                Path::new("/run/keyns/ids")
                    .join(container["uid_base"].to_string())
                    .exists(),
            ),
            ("routes", !entries.is_empty()),
            ("keyring", described.is_ok()),
        ];
        there
            .into_iter()
            .filter(|(_, there)| *there)
            .map(|(name, _)| name)
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A test that failed: the daemon undoes what there is.
        if self.child.is_none() && self.daemon.socket.exists() && std::thread::panicking() {
            self.start();
        }
        self.stop();
    }
}

/// The cgroup2 file system.
pub(crate) fn cgroups() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))
        .unwrap();
    line.split(' ').nth(1).unwrap().into()
}

pub(crate) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !happened() {
        assert!(
            begin.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        sleep(Duration::from_millis(5));
    }
}

/// A field of `/proc/PID/status`.
pub(crate) fn status(pid: u32, label: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

pub(crate) fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
