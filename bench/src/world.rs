//! A daemon of its own, for this run only.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyns_interfaces::containers::{Create, Namespace, Root, Run};
use keyns_interfaces::upcalls::{Intercept, Target};
use keyns_interfaces::{ByteText, Method, blocking::Client, manager};
use keyns_tests::{bin_dir, unique};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Failure;
use crate::agent::Agent;
use crate::denizen::Denizen;

/// Longer than a daemon takes to start or to answer, with a thousand containers too.
const PATIENCE: Duration = Duration::from_secs(120);
/// No test uses so high a number of a service uid.
const SERVICE_UID: u32 = 0x8f00_0000;

/// A transient daemon, which takes all of its containers along when it ends.
pub(crate) struct World {
    instance: String,
    engine: &'static str,
    daemon: Option<Child>,
    log: PathBuf,
    /// The bus it serves on, too.
    bus: Option<String>,
}

impl World {
    /// Starts a daemon and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn start() -> Result<Self, Failure> {
        Self::start_with("auto", None)
    }

    /// Same with this engine.
    ///
    /// # Errors
    /// When it does not, or this kernel does not have what the engine needs.
    pub(crate) fn start_engine(engine: &'static str) -> Result<Self, Failure> {
        Self::start_with(engine, None)
    }

    /// Same with a daemon that serves on the bus at this address, too.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn start_on(bus: &str) -> Result<Self, Failure> {
        Self::start_with("auto", Some(bus.to_owned()))
    }

    fn start_with(engine: &'static str, bus: Option<String>) -> Result<Self, Failure> {
        let instance = unique("bench");
        let log = std::env::temp_dir().join(format!("{instance}.log"));
        let mut world = Self {
            instance,
            engine,
            daemon: None,
            log,
            bus,
        };
        world.start_daemon()?;
        Ok(world)
    }

    /// Starts the daemon; the time until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn start_daemon(&mut self) -> Result<Duration, Failure> {
        let log = File::options().append(true).create(true).open(&self.log)?;
        let begun = Instant::now();
        let daemon = Command::new(bin_dir().join("keynsd"))
            .args(["--instance", &self.instance, "--engine", self.engine])
            .args(["--transient", "--helpers"])
            .arg(bin_dir())
            .args([
                "--service-uid",
                &(SERVICE_UID + std::process::id() % 0x10_0000).to_string(),
            ])
            .args(self.bus.iter().flat_map(|address| ["--bus", address]))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.daemon = Some(daemon);
        loop {
            match self.call(&manager::GetStatus {}) {
                Ok(_) => return Ok(begun.elapsed()),
                Err(_) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                Err(error) => {
                    return Err(
                        format!("the daemon does not start: {error}\n{}", self.log()).into(),
                    );
                }
            }
        }
    }

    /// Ends the daemon as a fault would: its containers live on.
    ///
    /// # Errors
    /// `wait(2)`.
    pub(crate) fn kill_daemon(&mut self) -> io::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill()?;
            daemon.wait()?;
        }
        Ok(())
    }

    /// Process id of the daemon.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Child::id)
    }

    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn socket(&self) -> PathBuf {
        Path::new("/run/keyns").join(&self.instance).join("keynsd")
    }

    /// A failure with what the daemon says about it.
    pub(crate) fn explain(&self, failure: &Failure) -> Failure {
        format!("{failure}\nthe daemon's log:\n{}", self.log()).into()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A connection to the daemon.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(self.socket())?.with_timeout(PATIENCE))
    }

    /// Calls a method on a connection of its own.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn call<M: Method>(&self, call: &M) -> Result<M::Reply, Failure> {
        Ok(self.connect()?.call(call, Vec::new())?.0)
    }

    /// A denizen of a container “web” whose requests an agent answers.
    ///
    /// # Errors
    /// What the daemon says, or the agent.
    pub(crate) fn answered(&self) -> Result<(Agent, Denizen), Failure> {
        self.create("web")?;
        self.intercept("web")?;
        let agent = Agent::start(&self.socket())?;
        Ok((agent, self.denizen("web")?))
    }

    /// Creates a container with namespaces that isolate its keys.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn create(&self, name: &str) -> Result<(), Failure> {
        self.call(&creation(name)).map(drop)
    }

    /// Starts an asking process as the first one of a container.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn denizen(&self, container: &str) -> Result<Denizen, Failure> {
        let (stdin, to) = io::pipe()?;
        let (from, stdout) = io::pipe()?;
        let fds: Vec<OwnedFd> = vec![
            stdin.into(),
            stdout.into(),
            File::options().append(true).open(&self.log)?.into(),
            File::open("/proc/self/exe")?.into(),
        ];
        let run = Run {
            container: container.into(),
            command: vec![ByteText::from("keyns-bench"), ByteText::from("denizen")],
            environment: Vec::new(),
            uid: 0,
            gid: 0,
            terminal: false,
            program_passed: true,
        };
        self.connect()?.call(&run, fds)?;
        Ok(Denizen::new(to, from))
    }

    /// Sends all requests of a container for `user` keys to agents, as many as it makes.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn intercept(&self, container: &str) -> Result<(), Failure> {
        let rule = Intercept {
            container: container.into(),
            type_: "user".into(),
            target: Target::Agent(String::new()),
            deadline_ms: None,
            rate: Some(100_000),
            burst: None,
            pending: Some(256),
        };
        self.call(&rule).map(drop)
    }
}

pub(crate) fn creation(name: &str) -> Create {
    Create {
        name: name.into(),
        namespaces: vec![Namespace::User, Namespace::Pid, Namespace::Mount],
        root: Root::Usr,
        kill_on_close: false,
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM);
            let _ = daemon.wait();
        }
        let _ = fs::remove_file(&self.log);
    }
}
