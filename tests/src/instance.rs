//! A daemon of its own for one test, driven by the real command line.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use keyns::engine::EngineChoice;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{bin_dir, engine, keyctl_as, service_uid, unique};

/// Longer than anything here takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the engine for kernels with container objects must have.
pub const PATCHED: [&str; 4] = [
    "container-membership-without-namespaces",
    "container-nesting",
    "grant-inval-apart",
    "upcall-killable",
];

/// A transient daemon: when this is dropped, it ends its containers and leaves nothing.
#[derive(Debug)]
pub struct Instance {
    /// Name of the instance.
    pub name: String,
    service_uid: u32,
    daemon: Option<Child>,
    log: PathBuf,
    /// What the daemon logs (`RUST_LOG`).
    level: &'static str,
    /// The bus it serves on (`--bus`).
    bus: Option<String>,
    /// Of the daemon that was started last.
    engine: EngineChoice,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit code; −1 for a signal.
    pub code: i32,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

impl Instance {
    /// Starts a daemon and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(what: &str) -> Self {
        Self::start_as(unique(what))
    }

    /// Same under a name of [`unique`] that is known already.
    ///
    /// # Panics
    /// When the daemon does not answer.
    #[must_use]
    pub fn start_as(name: String) -> Self {
        Self::start_logging(name, "info")
    }

    /// Same with a daemon that logs as much as `level` says.
    ///
    /// # Panics
    /// When the daemon does not answer.
    #[must_use]
    pub fn start_logging(name: String, level: &'static str) -> Self {
        Self::start_with(name, level, None)
    }

    /// Same with a daemon that serves on the bus at this address, too.
    ///
    /// # Panics
    /// When the daemon does not answer.
    #[must_use]
    pub fn start_on_bus(what: &str, address: &str) -> Self {
        Self::start_with(unique(what), "debug", Some(address.to_owned()))
    }

    fn start_with(name: String, level: &'static str, bus: Option<String>) -> Self {
        let log = std::env::temp_dir().join(format!("keyns-{name}.log"));
        let mut instance = Self {
            name,
            service_uid: service_uid(),
            daemon: None,
            log,
            level,
            bus,
            engine: engine(),
        };
        instance.start_daemon();
        instance
    }

    /// Starts the daemon again.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start_daemon(&mut self) {
        self.start_daemon_by(engine());
    }

    /// Same with the engine that is named.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start_daemon_by(&mut self, engine: EngineChoice) {
        self.spawn_daemon_by(engine);
        let deadline = Instant::now() + PATIENCE;
        while self.run(&["container", "list"]).code != 0 {
            let ended = self
                .daemon
                .as_mut()
                .is_some_and(|d| d.try_wait().unwrap().is_some());
            assert!(
                !ended && Instant::now() < deadline,
                "the daemon does not start:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts the daemon and does not wait for it.
    ///
    /// # Panics
    /// When it cannot be executed.
    pub fn spawn_daemon(&mut self) {
        self.spawn_daemon_by(engine());
    }

    fn spawn_daemon_by(&mut self, engine: EngineChoice) {
        self.engine = engine;
        let log = File::options()
            .append(true)
            .create(true)
            .open(&self.log)
            .unwrap();
        let child = Command::new(bin_dir().join("keynsd"))
            .env("RUST_LOG", self.level)
            .args(["--engine", &engine.to_string()])
            .args(["--instance", &self.name, "--transient", "--helpers"])
            .arg(bin_dir())
            .args(["--service-uid", &self.service_uid.to_string()])
            .args(self.bus.iter().flat_map(|address| ["--bus", address]))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(child);
    }

    /// Ends the daemon as a fault would.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Starts a daemon that refuses to, and returns what it says.
    ///
    /// # Panics
    /// When it serves.
    pub fn refused_daemon(&mut self, engine: EngineChoice) -> String {
        let before = self.log().len();
        self.spawn_daemon_by(engine);
        let status = self.daemon.take().unwrap().wait().unwrap();
        assert_eq!(status.code(), Some(1), "{}", self.log());
        self.log().split_off(before)
    }

    /// The daemon's process.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn daemon_pid(&self) -> Pid {
        Pid::from_raw(self.daemon.as_ref().unwrap().id().cast_signed())
    }

    /// Whether the engine has a feature, be it by the kernel or the daemon. What tests expect
    /// differently on another engine follows from this and from nothing else.
    ///
    /// # Panics
    /// When there is no such feature at all.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        let has = self.enforcer(feature) != "unavailable";
        // Or what needs it would be tested nowhere.
        let promised = self.engine == EngineChoice::Patched && PATCHED.contains(&feature);
        assert!(has || !promised, "the engine “patched” has no {feature}");
        has
    }

    /// Who enforces a feature: `kernel`, `daemon`, `advisory` or `unavailable`.
    ///
    /// # Panics
    /// When there is no such feature at all.
    #[must_use]
    pub fn enforcer(&self, feature: &str) -> String {
        let rows: Value = serde_json::from_str(&self.ok(&["features", "--json"])).unwrap();
        let rows = rows["features"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == feature).unwrap();
        row["enforcer"].as_str().unwrap().to_owned()
    }

    /// The varlink socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime().join("keynsd")
    }

    /// The runtime directory.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        Path::new("/run/keyns").join(&self.name)
    }

    /// The instance's cgroup.
    ///
    /// # Panics
    /// Without cgroup2.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        let mount = keyns::probe::cgroup2_mount().unwrap().unwrap();
        mount.join(format!("keyns-{}", self.name))
    }

    /// All that the daemon has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A `keyctl-ns` command for this instance.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.to_it(Command::new(bin_dir().join("keyctl-ns")), arguments)
    }

    /// Same, as another user.
    pub fn command_as(&self, uid: u32, arguments: &[&str]) -> Command {
        self.to_it(keyctl_as(uid), arguments)
    }

    fn to_it(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .env_remove("KEYNS_SOCKET")
            .args(["--instance", &self.name])
            .args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Runs `keyctl-ns` to its end.
    ///
    /// # Panics
    /// When it cannot be executed.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs `keyctl-ns`, which must succeed, and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(
            ran.code,
            0,
            "{arguments:?}: {}{}\n{}",
            ran.out,
            ran.err,
            self.log()
        );
        ran.out
    }

    /// Runs `keyctl-ns --json` and parses what it printed.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    /// Waits until `condition` holds.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    #[track_caller]
    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "not in time: {what}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the daemon and checks that nothing of the instance is left.
    ///
    /// # Panics
    /// When something is.
    pub fn stop(mut self) {
        self.end();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let runtime = self.runtime();
        assert!(!mounts.contains(runtime.to_str().unwrap()), "{mounts}");
        assert!(
            !runtime.exists(),
            "{} is left\n{}",
            runtime.display(),
            self.log()
        );
        assert!(
            !self.cgroup().exists(),
            "{} is left",
            self.cgroup().display()
        );
        assert!(!Path::new("/var/lib/keyns").join(&self.name).exists());
        if let Ok(entries) = fs::read_dir("/run/keyns/live") {
            for entry in entries {
                let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
                assert!(
                    !text.contains(&format!("instance={}\n", self.name)),
                    "{text}"
                );
            }
        }
    }

    fn end(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM).unwrap();
            daemon.wait().unwrap();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- log of the daemon\n{}", self.log());
        }
        let _ = fs::remove_file(&self.log);
    }
}
