//! A daemon of its own, containers in it, and denizens that ask for keys.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keyns::takeover::{TakeOver, TakeOverError, take_over};
use keyns_interfaces::agents::{Complete, NotMine, Registration, Reject, Serve};
use keyns_interfaces::containers::{Create, Namespace, Root, Run};
use keyns_interfaces::manager::GetFeatures;
use keyns_interfaces::upcalls::{
    Answer, Answered, Intercept, List, Listing, Response, Target, UpcallInfo,
};
use keyns_interfaces::{
    ByteText, Client, ClientError, Empty, Error, ErrorKind, Method, Payload, Subscription,
};
use keyns_tests::{bin_dir, unique};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One daemon with a take-over of `/sbin/request-key`, both ended with it.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    instance: String,
    service_uid: u32,
    daemon: Option<Child>,
    log: PathBuf,
    _taken: TakeOver,
}

impl World {
    pub(crate) fn start() -> Self {
        let instance = unique("up");
        let log = std::env::temp_dir().join(format!("{instance}.log"));
        let mut world = Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            instance,
            service_uid: keyns_tests::service_uid(),
            daemon: None,
            log,
            _taken: taken(),
        };
        world.start_daemon();
        world
    }

    /// The requests, as soon as so many have ended. A requester can have its answer before the daemon
    /// has noted that, where the kernel waits for no program.
    pub(crate) fn ended(&self, count: usize) -> Listing {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let listing = self.list();
            if listing.history.len() >= count || Instant::now() >= deadline {
                return listing;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the engine has a feature.
    pub(crate) fn has(&self, feature: &str) -> bool {
        let features = self.call(&GetFeatures {}).unwrap().features;
        let row = features.iter().find(|row| row.name == feature).unwrap();
        row.enforcer != "unavailable"
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start_daemon(&mut self) {
        let log = File::options()
            .append(true)
            .create(true)
            .open(&self.log)
            .unwrap();
        let child = Command::new(bin_dir().join("keynsd"))
            .args(["--engine", &keyns_tests::engine().to_string()])
            .args(["--instance", &self.instance, "--transient", "--helpers"])
            .arg(bin_dir())
            .args(["--service-uid", &self.service_uid.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while self.try_call(&List { history: 0 }).is_err() {
            assert!(
                Instant::now() < deadline,
                "the daemon does not start:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the daemon as a fault would.
    pub(crate) fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        Path::new("/run/keyns").join(&self.instance).join("keynsd")
    }

    /// All that the daemon has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn try_call<M: Method>(&self, call: &M) -> Result<M::Reply, ClientError> {
        self.runtime.block_on(async {
            let mut client = Client::connect(self.socket()).await?.with_timeout(PATIENCE);
            client.call(call, Vec::new()).await.map(|(reply, _)| reply)
        })
    }

    /// Calls a method on a connection of its own.
    pub(crate) fn call<M: Method>(&self, call: &M) -> Result<M::Reply, Error> {
        match self.try_call(call) {
            Ok(reply) => Ok(reply),
            Err(ClientError::Refused(error)) => Err(error),
            Err(other) => panic!("{}: {other:?}\n{}", M::NAME, self.log()),
        }
    }

    /// Calls a method that takes its time, on a thread of its own.
    pub(crate) fn call_aside<M: Method + Send + 'static>(&self, call: M) -> JoinHandle<bool> {
        let socket = self.socket();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let done = runtime.block_on(async {
                let client = Client::connect(socket).await.unwrap();
                client.with_timeout(PATIENCE).call(&call, Vec::new()).await
            });
            done.is_ok()
        })
    }

    /// Stops the daemon's key worker for up to 5 s: it waits for its shelter, which is stopped, to make
    /// the keyrings of one more container.
    pub(crate) fn stop_key_worker(&self) -> JoinHandle<bool> {
        let daemon = self.daemon.as_ref().unwrap().id();
        let children = fs::read_dir(format!("/proc/{daemon}/task")).unwrap();
        let children = children.flat_map(|task| {
            let children = fs::read_to_string(task.unwrap().path().join("children")).unwrap();
            let pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
            pids.collect::<Vec<i32>>()
        });
        let shelter = children
            .filter(|pid| {
                let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&text).contains("keyns-shelter")
            })
            .last();
        kill(Pid::from_raw(shelter.unwrap()), Signal::SIGSTOP).unwrap();
        let waits = self.call_aside(Create {
            name: "waits".into(),
            namespaces: vec![Namespace::User, Namespace::Pid, Namespace::Mount],
            root: Root::Usr,
            kill_on_close: false,
        });
        std::thread::sleep(Duration::from_millis(500));
        assert!(!waits.is_finished(), "the key worker does not wait");
        waits
    }

    /// Creates a container with namespaces that isolate its keys, and starts a denizen in it.
    pub(crate) fn container(&self, name: &str) -> Denizen {
        self.container_with(name, &[])
    }

    /// Same with more namespaces of its own.
    pub(crate) fn container_with(&self, name: &str, more: &[Namespace]) -> Denizen {
        let mut namespaces = vec![Namespace::User, Namespace::Pid, Namespace::Mount];
        namespaces.extend_from_slice(more);
        let create = Create {
            name: name.into(),
            namespaces,
            root: Root::Usr,
            kill_on_close: false,
        };
        self.call(&create).unwrap();
        let program = File::open(env!("CARGO_BIN_EXE_asker")).unwrap();
        let (stdin, to_denizen) = std::io::pipe().unwrap();
        let (from_denizen, stdout) = std::io::pipe().unwrap();
        let fds: Vec<OwnedFd> = vec![
            stdin.into(),
            stdout.into(),
            File::options().append(true).open(&self.log).unwrap().into(),
            program.into(),
        ];
        let run = Run {
            container: name.into(),
            command: vec![ByteText::from("asker")],
            environment: Vec::new(),
            uid: 0,
            gid: 0,
            terminal: false,
            program_passed: true,
        };
        let started = self.runtime.block_on(async {
            let mut client = Client::connect(self.socket()).await.unwrap();
            client.call(&run, fds).await
        });
        let (started, _) = started.unwrap_or_else(|e| panic!("{e:?}\n{}", self.log()));
        Denizen::new(started.pid, to_denizen, from_denizen)
    }

    pub(crate) fn intercept(&self, container: &str, type_: &str, target: Target) {
        self.call(&rule(container, type_, target)).unwrap();
    }

    pub(crate) fn list(&self) -> Listing {
        self.call(&List { history: 256 }).unwrap()
    }

    /// The one request that waits, as soon as there is one.
    pub(crate) fn pending(&self) -> UpcallInfo {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut waiting = self.list().upcalls;
            // One that has just ended may be among them for a moment, as in `ended`.
            if waiting.len() == 1
                && let Some(request) = waiting.pop()
            {
                return request;
            }
            assert!(
                Instant::now() < deadline,
                "not one waits: {waiting:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until so many requests wait.
    pub(crate) fn fills(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let waiting = self.list().upcalls.len();
            if waiting >= count {
                return;
            }
            assert!(Instant::now() < deadline, "{waiting}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn answer(&self, id: u64, payload: &str) -> Result<Answered, Error> {
        let response = Response::Payload(Payload::new(payload.into()));
        self.call(&Answer { id, response })
    }

    /// A process in the container of a denizen that descends from this one.
    pub(crate) fn child_in(&self, denizen: &Denizen) -> Denizen {
        let mut child = Command::new("nsenter")
            .args([
                "--pid",
                "--target",
                &denizen.pid.to_string(),
                env!("CARGO_BIN_EXE_asker"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = OwnedFd::from(child.stdin.take().unwrap());
        let from = OwnedFd::from(child.stdout.take().unwrap());
        let denizen = Denizen::new(child.id(), to.into(), from.into());
        // It ends with its standard input, at the latest with the container.
        std::thread::spawn(move || child.wait());
        denizen
    }

    pub(crate) fn agent(&self, name: &str, containers: &[&str]) -> Agent<'_> {
        self.serve(&Serve {
            name: name.into(),
            types: vec!["*".into()],
            containers: containers.iter().map(|c| (*c).to_owned()).collect(),
            max_in_flight: None,
        })
    }

    /// An agent that works on one request at a time.
    pub(crate) fn agent_for_one(&self) -> Agent<'_> {
        self.serve(&Serve {
            name: "one".into(),
            types: vec!["user".into()],
            containers: Vec::new(),
            max_in_flight: Some(1),
        })
    }

    fn serve(&self, call: &Serve) -> Agent<'_> {
        let mut requests = self.runtime.block_on(async {
            let client = Client::connect(self.socket()).await.unwrap();
            client.subscribe(call).await.unwrap()
        });
        let first = self.runtime.block_on(requests.next()).unwrap().unwrap();
        Agent {
            world: self,
            requests,
            registration: first.registration.unwrap(),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // Transient: it takes its containers along.
            kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM).unwrap();
            daemon.wait().unwrap();
        }
        if std::thread::panicking() {
            eprintln!(
                "--- log of the daemon\n{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
        let _ = fs::remove_file(&self.log);
    }
}

/// A rule with default limits.
pub(crate) fn rule(container: &str, type_: &str, target: Target) -> Intercept {
    Intercept {
        container: container.into(),
        type_: type_.into(),
        target,
        deadline_ms: None,
        rate: None,
        burst: None,
        pending: None,
    }
}

/// An answer that rejects for a second.
pub(crate) fn reject(errno: i32) -> Response {
    Response::Reject(keyns_interfaces::upcalls::Rejection { errno, timeout: 1 })
}

pub(crate) fn queue(name: &str) -> Target {
    Target::Queue(name.into())
}

/// Takes over `/sbin/request-key`; waits while a run with other programs has it.
fn taken() -> TakeOver {
    let program = bin_dir().join("keyns-upcall");
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match take_over(&program) {
            Ok(taken) => return taken,
            Err(TakeOverError::Held { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A process in a container.
pub(crate) struct Denizen {
    pub(crate) pid: u32,
    to: PipeWriter,
    from: mpsc::Receiver<String>,
}

impl Denizen {
    fn new(pid: u32, to: PipeWriter, from: std::io::PipeReader) -> Self {
        let (sender, lines) = mpsc::channel();
        // So that a denizen that hangs fails its test instead of hanging it too.
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                if line.is_ok_and(|line| sender.send(line).is_err()) {
                    break;
                }
            }
        });
        Self {
            pid,
            to,
            from: lines,
        }
    }

    /// Its real uid, as the host counts.
    pub(crate) fn uid(&self) -> u32 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        line.unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Begins something.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
    }

    /// How it ended: the value, or the errno.
    pub(crate) fn hear(&mut self) -> Result<String, i32> {
        let line = self.from.recv_timeout(PATIENCE * 4).unwrap();
        match line.split_once(' ').unwrap() {
            ("ok", value) => Ok(value.to_owned()),
            (_, errno) => Err(errno.parse().unwrap()),
        }
    }

    pub(crate) fn do_(&mut self, line: &str) -> Result<String, i32> {
        self.tell(line);
        self.hear()
    }
}

/// An agent of this process.
pub(crate) struct Agent<'a> {
    world: &'a World,
    requests: Subscription<Serve>,
    pub(crate) registration: Registration,
}

impl Agent<'_> {
    /// The next request that comes to it within a time.
    pub(crate) fn next_within(&mut self, most: Duration) -> Option<UpcallInfo> {
        let next = self.requests.next();
        let reply = self
            .world
            .runtime
            .block_on(async { timeout(most, next).await })
            .ok()?;
        reply.unwrap().unwrap().request
    }

    pub(crate) fn next(&mut self) -> UpcallInfo {
        self.next_within(PATIENCE).expect("no request comes")
    }

    pub(crate) fn complete(&self, id: u64, payload: &str) -> Result<Answered, Error> {
        let token = self.registration.token.clone();
        self.world.call(&Complete {
            token,
            id,
            payload: Payload::new(payload.into()),
        })
    }

    pub(crate) fn pass_on(&self, id: u64) -> Result<Empty, Error> {
        self.world.call(&NotMine {
            token: self.registration.token.clone(),
            id,
        })
    }

    pub(crate) fn reject(&self, id: u64, errno: i32) -> Result<Answered, Error> {
        let token = self.registration.token.clone();
        let rejection = keyns_interfaces::upcalls::Rejection { errno, timeout: 1 };
        self.world.call(&Reject {
            token,
            id,
            rejection,
        })
    }
}

/// The kind of a refusal.
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind
}
