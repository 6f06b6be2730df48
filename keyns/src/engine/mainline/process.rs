//! Starting processes in a container, and talking to its monitor.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::super::container::{ContainerId, ContainerRecord, Namespace};
use super::super::error::EngineError;
use super::build::STAGE_PIN;
use super::channel::Channel;
use super::engine::{Mainline, PATIENCE, nearest};
use super::enter::StartPlan;
use super::monitor::{Answer, Command, ProcessState};
use super::{pin, routes};

/// How long a monitor may refuse to quit.
const QUIT_PATIENCE: Duration = Duration::from_secs(2);

/// A process to be started in a container.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// Its number within the container; 1 is the first process.
    pub process: u64,
    /// Program and arguments.
    pub command: Vec<Vec<u8>>,
    /// `NAME=value` strings.
    pub environment: Vec<Vec<u8>>,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Whether it gets a terminal of the container.
    pub terminal: bool,
    /// Whether the last descriptor is the program.
    pub program_passed: bool,
}

/// A process that waits inside its container until it is released; dropped, it is killed.
#[derive(Debug)]
pub struct Prepared {
    channel: Channel,
    /// Its id on the host.
    pub pid: u32,
    /// Inode of the PID namespace it is process 1 of.
    pub pid_namespace: Option<u64>,
    /// Master of its terminal.
    pub terminal: Option<OwnedFd>,
}

impl Mainline {
    /// Forks a process into the container, which waits there. `lineage` begins with the container.
    ///
    /// # Errors
    /// What failed; no process is left then.
    pub fn prepare(
        &self,
        lineage: &[ContainerRecord],
        run: &RunSpec,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Prepared, EngineError> {
        let [record, ancestors @ ..] = lineage else {
            return Err(EngineError::Refused("no container".into()));
        };
        let ids = lineage.iter().find_map(|r| r.ids);
        let outside = |id: u32, what: &str| match ids {
            None => Ok(id),
            Some(range) => range.outside(id).ok_or_else(|| {
                EngineError::Refused(format!(
                    "{what} {id} does not exist in container “{}”, which has ids 0 to {}",
                    record.path,
                    range.count - 1
                ))
            }),
        };
        let first = run.process == 1;
        let own_pid = record.namespaces.contains(&Namespace::Pid);
        let new_pid = own_pid && first;
        let mut enter = Vec::new();
        for kind in Namespace::ALL {
            let from = if kind == Namespace::Pid && new_pid {
                ancestors
            } else {
                lineage
            };
            if let Some(owner) = nearest(from, kind) {
                enter.push((kind, self.pin_path(owner, kind)));
            }
        }
        let pins = self.paths.container_pins(record.id);
        let own_mounts = record.namespaces.contains(&Namespace::Mount);
        let procfs_into = (new_pid && own_mounts).then(|| {
            let staged = record.pins.contains_key(STAGE_PIN);
            pins.join(if staged {
                STAGE_PIN
            } else {
                Namespace::Mount.file()
            })
        });
        let kernel_uid = outside(run.uid, "user")?;
        outside(run.gid, "group")?;
        let id = record.id;
        let session = self
            .keys
            .call(move |keys| keys.prepare_session(id, kernel_uid))?;
        let plan = StartPlan {
            process: run.process,
            enter,
            new_pid_namespace: new_pid.then(|| pins.join(Namespace::Pid.file())),
            procfs_into,
            cgroup: record.cgroup.clone(),
            session,
            uid: run.uid,
            gid: run.gid,
            command: run.command.clone(),
            environment: run.environment.clone(),
            terminal: run.terminal,
            program_passed: run.program_passed,
        };
        if first {
            self.start_monitor(record.id)?;
        }
        let channel = self.connect(record.id)?;
        let (answer, mut received) = channel
            .call::<_, Answer>(&Command::Prepare(Box::new(plan)), fds)
            .map_err(EngineError::system("talk to the container's monitor"))?;
        match answer {
            Answer::Prepared { pid, pid_namespace } => Ok(Prepared {
                channel,
                pid,
                pid_namespace,
                terminal: received.pop(),
            }),
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(nonsense(&other)),
        }
    }

    /// Enters a process that is prepared into the routing table, so that its requests are known
    /// from the first on.
    ///
    /// # Errors
    /// Those of writing the table.
    pub fn register(
        &self,
        record: &mut ContainerRecord,
        prepared: &Prepared,
    ) -> Result<(), EngineError> {
        if let Some(inode) = prepared.pid_namespace {
            record.pins.insert(Namespace::Pid.file().to_owned(), inode);
            routes::publish(&self.routing, &self.paths, &self.cgroups, record)?;
        }
        Ok(())
    }

    /// Undoes [`Self::register`] for a process that could not be released.
    ///
    /// # Errors
    /// Those of writing the table.
    pub fn unregister(
        &self,
        record: &mut ContainerRecord,
        prepared_namespace: Option<u64>,
    ) -> Result<(), EngineError> {
        if let Some(inode) = prepared_namespace {
            record.pins.remove(Namespace::Pid.file());
            routes::withdraw_pid(&self.routing, &self.paths, record, inode)?;
        }
        Ok(())
    }

    /// Removes what is left of a first process that was registered by a daemon which died before
    /// it released it.
    ///
    /// # Errors
    /// Those of removing its pin.
    pub fn forget_first(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        let pin = self.pin_path(record, Namespace::Pid);
        if let Ok(found) = fs::metadata(&pin) {
            use std::os::unix::fs::MetadataExt as _;
            routes::withdraw_pid(&self.routing, &self.paths, record, found.ino())?;
        }
        pin::unpin(&pin).map_err(EngineError::system("remove a PID namespace's pin"))
    }

    /// Lets a prepared process execute its program.
    ///
    /// # Errors
    /// The error of executing the program; the process is gone then.
    pub fn release(&self, prepared: &Prepared) -> Result<(), EngineError> {
        let (answer, _) = prepared
            .channel
            .call::<_, Answer>(&Command::Release, &[])
            .map_err(EngineError::system("talk to the container's monitor"))?;
        match answer {
            Answer::Done => Ok(()),
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(nonsense(&other)),
        }
    }

    /// Sends a signal to a process started in the container.
    ///
    /// # Errors
    /// `ESRCH` when it ended or never was; `EINVAL` for an unknown signal.
    pub fn signal(&self, id: ContainerId, process: u64, signal: i32) -> Result<(), EngineError> {
        let (answer, _) = self
            .connect(id)?
            .call::<_, Answer>(&Command::Signal { process, signal }, &[])
            .map_err(EngineError::system("talk to the container's monitor"))?;
        match answer {
            Answer::Done => Ok(()),
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(nonsense(&other)),
        }
    }

    /// The processes of a container, and a descriptor on which [`next_exit`] reports each end.
    ///
    /// # Errors
    /// When the monitor is gone.
    pub fn watch(&self, id: ContainerId) -> Result<(Vec<ProcessState>, Channel), EngineError> {
        let channel = self.connect(id)?;
        let (answer, _) = channel
            .call::<_, Answer>(&Command::Watch, &[])
            .map_err(EngineError::system("talk to the container's monitor"))?;
        match answer {
            Answer::Processes(processes) => Ok((processes, channel)),
            other => Err(nonsense(&other)),
        }
    }

    /// Ends a container's monitor. Its processes are gone from the cgroup a moment before it can
    /// wait for them, so it may refuse at first.
    pub(super) fn dismiss_monitor(&self, id: ContainerId) -> Result<(), EngineError> {
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

    fn start_monitor(&self, id: ContainerId) -> Result<(), EngineError> {
        let path = self.paths.monitor(id);
        if Channel::connect(&path).is_ok() {
            // It survived a daemon that was killed before it started the first process.
            return Ok(());
        }
        let _ = fs::remove_file(&path);
        let listener =
            Channel::listen(&path).map_err(EngineError::system("make the monitor's socket"))?;
        let mut child = self
            .monitor
            .start(
                &[&self.cgroups.monitors().to_string_lossy(), &id.to_string()],
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
}

/// Reads the next end of a process from a descriptor of [`Mainline::watch`].
///
/// # Errors
/// `UnexpectedEof` when the monitor is gone.
pub fn next_exit(channel: &Channel) -> io::Result<ProcessState> {
    channel.receive().map(|(state, _)| state)
}

fn nonsense(answer: &Answer) -> EngineError {
    EngineError::Helper {
        operation: "watch over the container".into(),
        reason: format!("unexpected answer {answer:?}"),
    }
}

/// Lets a descriptor of the engine be polled.
impl AsFd for Prepared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
