//! The daemon's side of the containers' monitors.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::container::{ContainerId, Namespace};
use super::enter::StartPlan;
use super::error::EngineError;
use super::monitor::{Answer, Command};
use super::paths::Paths;
use super::process::ProcessState;
use super::program::SealedProgram;

/// How long a helper or a monitor may take for one step.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a monitor may refuse to quit.
const QUIT_PATIENCE: Duration = Duration::from_secs(2);

/// The monitors of an instance's containers.
#[derive(Debug)]
pub(super) struct Monitors {
    paths: Paths,
    program: SealedProgram,
    /// The cgroup they live in.
    cgroup: PathBuf,
}

/// A process that waits inside its container until it is released; dropped, it is killed.
#[derive(Debug)]
pub struct Prepared {
    channel: Channel,
    /// Its id on the host.
    pub pid: u32,
    /// Inodes of the namespaces that came to be with it and are pinned, by the name of the pin.
    pub namespaces: BTreeMap<String, u64>,
    /// Master of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Reports each end of a process of one container.
#[derive(Debug)]
pub struct Exits(Channel);

impl Monitors {
    pub(super) fn new(paths: Paths, program: SealedProgram, cgroup: PathBuf) -> Self {
        Self {
            paths,
            program,
            cgroup,
        }
    }

    /// Starts the monitor of a container, unless one is left of a daemon that was killed.
    pub(super) fn start(&self, id: ContainerId) -> Result<(), EngineError> {
        let path = self.paths.monitor(id);
        if Channel::connect(&path).is_ok() {
            return Ok(());
        }
        let _ = fs::remove_file(&path);
        let listener =
            Channel::listen(&path).map_err(EngineError::system("make the monitor's socket"))?;
        let mut child = self
            .program
            .start(
                &[&self.cgroup.to_string_lossy(), &id.to_string()],
                &listener,
            )
            .map_err(EngineError::system("start keyns-monitor"))?;
        // The process started forks the monitor and ends.
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            other => Err(EngineError::Helper {
                operation: "watch over the container".into(),
                reason: format!("{other:?}"),
            }),
        }
    }

    /// Whether the container's monitor has ended. In doubt it has not: another one would take its place.
    pub(super) fn is_gone(&self, id: ContainerId) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        Channel::connect(&self.paths.monitor(id))
            .is_err_and(|error| matches!(error.kind(), ConnectionRefused | NotFound))
    }

    /// Has a process started that waits for its release.
    pub(super) fn prepare(
        &self,
        id: ContainerId,
        plan: StartPlan,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Prepared, EngineError> {
        let channel = self.connect(id)?;
        let (answer, mut received) = talk(&channel, &Command::Prepare(Box::new(plan)), fds)?;
        match answer {
            Answer::Prepared {
                pid,
                pid_namespace,
                mut namespaces,
            } => {
                let inode = pid_namespace.map(|inode| (Namespace::Pid.file().to_owned(), inode));
                namespaces.extend(inode);
                Ok(Prepared {
                    channel,
                    pid,
                    namespaces,
                    terminal: received.pop(),
                })
            }
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(nonsense(&other)),
        }
    }

    /// Gives a container object to its monitor, so that it outlives the daemon.
    pub(super) fn hold(&self, id: ContainerId, object: BorrowedFd<'_>) -> Result<(), EngineError> {
        let channel = self.connect(id)?;
        done(talk(&channel, &Command::Hold, &[object])?.0)
    }

    /// The container object that a monitor holds.
    pub(super) fn fetch(&self, id: ContainerId) -> Result<OwnedFd, EngineError> {
        let channel = self.connect(id)?;
        match talk(&channel, &Command::Fetch, &[])? {
            (Answer::Object, mut fds) => fds.pop().ok_or_else(|| nonsense(&Answer::Object)),
            (Answer::Failed(failure), _) => Err(failure.into()),
            (other, _) => Err(nonsense(&other)),
        }
    }

    pub(super) fn signal(
        &self,
        id: ContainerId,
        process: u64,
        signal: i32,
    ) -> Result<(), EngineError> {
        let channel = self.connect(id)?;
        done(talk(&channel, &Command::Signal { process, signal }, &[])?.0)
    }

    pub(super) fn watch(&self, id: ContainerId) -> Result<(Vec<ProcessState>, Exits), EngineError> {
        let channel = self.connect(id)?;
        match talk(&channel, &Command::Watch, &[])?.0 {
            Answer::Processes(processes) => Ok((processes, Exits(channel))),
            other => Err(nonsense(&other)),
        }
    }

    /// Ends a container's monitor. Its processes are gone from the cgroup a moment before it can
    /// wait for them, so it may refuse at first.
    pub(super) fn dismiss(&self, id: ContainerId) -> Result<(), EngineError> {
        let deadline = Instant::now() + QUIT_PATIENCE;
        loop {
            let Ok(channel) = self.connect(id) else {
                return Ok(());
            };
            match channel.call::<_, Answer>(&Command::Quit, &[]) {
                Ok((Answer::Done, _)) => return Ok(()),
                Ok((Answer::Failed(failure), _)) if Instant::now() >= deadline => {
                    return Err(failure.into());
                }
                Ok(_) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => {
                    return Err(EngineError::system("dismiss the container's monitor")(
                        error,
                    ));
                }
            }
        }
    }

    fn connect(&self, id: ContainerId) -> Result<Channel, EngineError> {
        let channel = Channel::connect(&self.paths.monitor(id))
            .map_err(EngineError::system("reach the container's monitor"))?;
        channel
            .set_timeout(Some(PATIENCE))
            .map_err(EngineError::system("set a time-out"))?;
        Ok(channel)
    }
}

impl Prepared {
    /// Lets the process execute its program.
    ///
    /// # Errors
    /// The error of executing the program; the process is gone then.
    pub fn release(&self) -> Result<(), EngineError> {
        done(talk(&self.channel, &Command::Release, &[])?.0)
    }
}

impl Exits {
    /// The next end of a process.
    ///
    /// # Errors
    /// `UnexpectedEof` when the monitor is gone; `WouldBlock` if the descriptor was made so.
    pub fn next(&self) -> io::Result<ProcessState> {
        self.0.receive().map(|(state, _)| state)
    }
}

/// To be polled: readable when an end is to be reported.
impl AsFd for Exits {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn talk(
    channel: &Channel,
    command: &Command,
    fds: &[BorrowedFd<'_>],
) -> Result<(Answer, Vec<OwnedFd>), EngineError> {
    channel
        .call(command, fds)
        .map_err(EngineError::system("talk to the container's monitor"))
}

fn done(answer: Answer) -> Result<(), EngineError> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Failed(failure) => Err(failure.into()),
        other => Err(nonsense(&other)),
    }
}

fn nonsense(answer: &Answer) -> EngineError {
    EngineError::Helper {
        operation: "watch over the container".into(),
        reason: format!("unexpected answer {answer:?}"),
    }
}
