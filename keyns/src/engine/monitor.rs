//! The monitor: parent of everything in one container.
//!
//! It outlives the daemon. It holds what would be lost with it: exit statuses, and the masters of
//! terminals. The daemon reaches it by a socket in the instance's runtime directory, once per
//! command and once to watch; a new daemon connects to the same socket.
//!
//! One thread, one loop. Starting a process takes some milliseconds in which nothing else is
//! served; each step of it has a time limit, also waiting for a helper's end, since what is in view
//! of a container can be stopped from there.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};

use keyns_sys::process::{self as child, Fork, ForkOptions, SingleThreaded};

use super::channel::Channel;
use super::container::{ExitStatus, Namespace};
use super::enter::{self, Descriptors, Forked, ProcessReport, StageReport, StartPlan};
use super::failure::Failure;
use super::object::{self, ObjectPlan};
use super::process::{ENDED_KEPT, ProcessState};
use super::{cgroup, pin};

/// How long a helper or a discarded process may take to end.
const HELPER_PATIENCE: Duration = Duration::from_secs(3);

/// Time for each step of starting a process, and for the daemon to release it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command of the daemon; the answer is a [`Answer`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Command {
    /// Fork a process that waits; then [`Command::Release`] on the same connection.
    Prepare(Box<StartPlan>),
    /// Let the prepared process execute its program.
    Release,
    /// Send a signal to a process.
    Signal { process: u64, signal: i32 },
    /// Report the processes, and from now on each end.
    Watch,
    /// Keep the descriptor that comes along: the container object.
    Hold,
    /// Give a copy of that descriptor.
    Fetch,
    /// The daemon has stored everything; nothing runs any more.
    Quit,
}

/// An answer to a command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The process waits; with the terminal's master, if it has one.
    Prepared {
        pid: u32,
        pid_namespace: Option<u64>,
        /// Inodes of the namespaces pinned with it, where that is more than one.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        namespaces: BTreeMap<String, u64>,
    },
    /// The container object comes along.
    Object,
    /// Done.
    Done,
    /// Not done.
    Failed(Failure),
    /// The processes there are and were.
    Processes(Vec<ProcessState>),
}

struct Process {
    state: ProcessState,
    pidfd: OwnedFd,
    /// Kept so that a terminal survives the client that watched it.
    _terminal: Option<OwnedFd>,
}

struct Prepared {
    process: Process,
    channel: Channel,
    /// Where the namespaces that came to be with it are pinned, by name.
    pins: Vec<(&'static str, PathBuf)>,
}

struct Monitor {
    alone: SingleThreaded,
    processes: BTreeMap<u64, Process>,
    /// The container object, on kernels that have such. It lives as long as somebody holds this.
    object: Option<OwnedFd>,
    /// Helpers and discarded processes that did not end in time.
    strays: Vec<Pid>,
    watchers: Vec<Channel>,
}

/// `main` of the monitor: standard input is a listening socket.
///
/// # Errors
/// When it cannot begin; later failures are answers.
pub fn main() -> io::Result<()> {
    let alone = SingleThreaded::prove()?;
    nix::sys::prctl::set_dumpable(false)?;
    let listener = child::take_inherited(&alone, 0)?;
    child::close_all_but(&alone, 3, &[])?;
    // Not the daemon's child: the daemon waits for nobody, and a new one would not know it.
    let cgroup = std::env::args_os()
        .nth(1)
        .map(|path| cgroup::open(Path::new(&path)))
        .transpose()?;
    let options = ForkOptions {
        cgroup: cgroup.as_ref().map(AsFd::as_fd),
        ..ForkOptions::default()
    };
    if let Fork::Parent { .. } = child::fork(&alone, options)? {
        std::process::exit(0);
    }
    drop(cgroup);
    nix::unistd::setsid()?;
    // The monitor possesses nothing it could pass on.
    keyns_sys::key::join_session_keyring(None)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.add(Signal::SIGPIPE);
    mask.thread_block()?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let monitor = Monitor {
        alone,
        processes: BTreeMap::new(),
        object: None,
        strays: Vec::new(),
        watchers: Vec::new(),
    };
    monitor.serve(&listener, &signals)
}

impl Monitor {
    fn serve(mut self, listener: &OwnedFd, signals: &SignalFd) -> io::Result<()> {
        loop {
            let watched = self.watchers.len();
            let mut fds = vec![
                PollFd::new(listener, PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
            ];
            fds.extend(self.watchers.iter().map(|w| PollFd::new(w, PollFlags::IN)));
            match rustix::event::poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let at = |index: usize| ready.get(index).copied().unwrap_or(false);
            // A watcher says nothing; readable means it hung up.
            for index in (0..watched).rev() {
                if at(index + 2) {
                    drop(self.watchers.remove(index));
                }
            }
            if at(1) {
                while let Ok(Some(_)) = signals.read_signal() {}
                self.reap();
            }
            if at(0) {
                // One bad connection is that connection's end and nothing else's.
                if let Ok(channel) = Channel::accept(listener)
                    && self.converse(channel).unwrap_or(false)
                {
                    return Ok(());
                }
            }
        }
    }

    /// Serves one connection; true: quit.
    fn converse(&mut self, channel: Channel) -> io::Result<bool> {
        channel.set_timeout(Some(PATIENCE))?;
        let (command, mut fds) = channel.receive::<Command>()?;
        match command {
            Command::Prepare(plan) => {
                match self.prepare(&plan, fds) {
                    Err(failure) => channel.send(&Answer::Failed(failure), &[])?,
                    Ok(prepared) => self.offer(&channel, prepared)?,
                }
                Ok(false)
            }
            Command::Release => {
                let failure = Failure::because("release a process that was not prepared");
                channel.send(&Answer::Failed(failure), &[])?;
                Ok(false)
            }
            Command::Signal { process, signal } => {
                channel.send(&self.signal(process, signal), &[])?;
                Ok(false)
            }
            Command::Watch => {
                self.reap();
                let states = self.processes.values().map(|p| p.state.clone()).collect();
                channel.send(&Answer::Processes(states), &[])?;
                self.watchers.push(channel);
                Ok(false)
            }
            Command::Hold => {
                self.object = fds.pop();
                channel.send(&Answer::Done, &[])?;
                Ok(false)
            }
            Command::Fetch => {
                match &self.object {
                    Some(object) => channel.send(&Answer::Object, &[object.as_fd()])?,
                    None => {
                        let failure = Failure::because("give a descriptor that is not held");
                        channel.send(&Answer::Failed(failure), &[])?;
                    }
                }
                Ok(false)
            }
            Command::Quit => {
                self.reap();
                let alive = self.processes.values().any(|p| p.state.exit.is_none())
                    || !self.strays.is_empty();
                if alive {
                    let failure = Failure::because("quit while a process is left");
                    channel.send(&Answer::Failed(failure), &[])?;
                } else {
                    channel.send(&Answer::Done, &[])?;
                }
                Ok(!alive)
            }
        }
    }

    fn signal(&self, process: u64, signal: i32) -> Answer {
        let what = format!("send signal {signal} to process {process}");
        let Some(target) = self
            .processes
            .get(&process)
            .filter(|p| p.state.exit.is_none())
        else {
            return Answer::Failed(Failure {
                operation: what,
                errno: libc_esrch(),
            });
        };
        let Some(number) = rustix::process::Signal::from_named_raw(signal) else {
            return Answer::Failed(Failure {
                operation: what,
                errno: libc_einval(),
            });
        };
        match rustix::process::pidfd_send_signal(&target.pidfd, number) {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(Failure::of(what)(error)),
        }
    }

    fn prepare(&mut self, plan: &StartPlan, fds: Vec<OwnedFd>) -> Result<Prepared, Failure> {
        if self.processes.contains_key(&plan.process) {
            return Err(Failure::because("use the number of another process"));
        }
        let descriptors = Descriptors::sort(plan, fds)?;
        let (channel, process_end) = pair()?;
        let (pid, pidfd) = match &plan.object {
            Some(way) => self.fork_into_object(plan, way, &descriptors, &process_end)?,
            None => self.fork_by_stage(plan, &descriptors, &process_end)?,
        };
        drop((process_end, descriptors));
        let state = ProcessState {
            process: plan.process,
            pid,
            exit: None,
        };
        let mut prepared = Prepared {
            process: Process {
                state,
                pidfd,
                _terminal: None,
            },
            channel,
            pins: Vec::new(),
        };
        match self.equip(plan, &mut prepared) {
            Ok(()) => Ok(prepared),
            Err(failure) => {
                self.discard(prepared);
                Err(failure)
            }
        }
    }

    /// Forks the process straight into the container object.
    fn fork_into_object(
        &self,
        plan: &StartPlan,
        way: &ObjectPlan,
        descriptors: &Descriptors,
        process_end: &Channel,
    ) -> Result<(u32, OwnedFd), Failure> {
        let object = self.object.as_ref().ok_or_else(|| {
            Failure::because("start a process without the container’s descriptor")
        })?;
        match object::fork_into(&self.alone, object)? {
            Fork::Child => {
                let failure = object::run(&self.alone, plan, way, descriptors, process_end);
                let _ = process_end.send(&ProcessReport::Err(failure), &[]);
                std::process::exit(127);
            }
            Fork::Parent { pid, pidfd } => Ok((pid, pidfd)),
        }
    }

    /// Has a stage fork the process, on the way through its namespaces.
    fn fork_by_stage(
        &mut self,
        plan: &StartPlan,
        descriptors: &Descriptors,
        process_end: &Channel,
    ) -> Result<(u32, OwnedFd), Failure> {
        let (ours, stage_end) = pair()?;
        let cgroup = cgroup::open(&plan.cgroup).map_err(Failure::of("open the cgroup"))?;
        let options = ForkOptions {
            cgroup: Some(cgroup.as_fd()),
            ..ForkOptions::default()
        };
        let stage = match child::fork(&self.alone, options).map_err(Failure::of("fork"))? {
            Fork::Child => {
                let outcome = enter::stage(&self.alone, plan, descriptors, &stage_end, process_end);
                if let Err(failure) = outcome {
                    let _ = stage_end.send(&StageReport::Err(failure), &[]);
                }
                std::process::exit(0);
            }
            Fork::Parent { pid, .. } => pid,
        };
        drop(stage_end);
        // Helpers end by themselves; nobody else may take their status for a process'.
        let mut helpers = vec![Pid::from_raw(stage.cast_signed())];
        let report = loop {
            match ours.receive::<StageReport>() {
                Ok((Ok(Forked::Helper(pid)), _)) => helpers.push(Pid::from_raw(pid.cast_signed())),
                other => break other,
            }
        };
        for helper in helpers {
            if report.is_err() {
                let _ = nix::sys::signal::kill(helper, Signal::SIGKILL);
            }
            if enter::wait_bounded(helper, HELPER_PATIENCE).is_none() {
                let _ = nix::sys::signal::kill(helper, Signal::SIGKILL);
                self.strays.push(helper);
            }
        }
        let (report, mut fds) = report.map_err(Failure::of("hear from the stage"))?;
        report?;
        let pidfd = fds
            .pop()
            .ok_or_else(|| Failure::because("get the process' descriptor"))?;
        Ok((host_pid(&pidfd)?, pidfd))
    }

    /// What must be there before the process runs: its ids, its report, its pins, its `/proc`.
    fn equip(&self, plan: &StartPlan, prepared: &mut Prepared) -> Result<(), Failure> {
        let pid = prepared.process.state.pid;
        if let Some(way) = &plan.object {
            object::settle(&self.alone, plan, way, pid)?;
            prepared
                .channel
                .send(&(), &[])
                .map_err(Failure::of("let the process go on"))?;
        }
        let (report, mut fds) = prepared
            .channel
            .receive::<ProcessReport>()
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => Failure::because(format!(
                    "hear from the process within {PATIENCE:?}; root of a container around may have \
                     stopped it"
                )),
                _ => Failure::of("hear from the process")(error),
            })?;
        report?;
        prepared.process._terminal = fds.pop();
        let inside = plan.new_pid_namespace.iter();
        let inside = inside.map(|target| (Namespace::Pid, target.clone()));
        let pins = match &plan.object {
            Some(way) => way.pins.clone(),
            None => inside.collect(),
        };
        for (kind, target) in pins {
            let source = PathBuf::from(format!("/proc/{pid}/ns/{}", kind.file()));
            pin::pin(&source, &target)
                .map_err(Failure::of(format!("pin the {} namespace", kind.file())))?;
            prepared.pins.push((kind.file(), target));
        }
        if let (Some(target), Some(mounts)) = (&plan.new_pid_namespace, &plan.procfs_into) {
            enter::mount_procfs(&self.alone, target, mounts)?;
        }
        Ok(())
    }

    /// Ends a process that never ran.
    fn discard(&mut self, prepared: Prepared) {
        let _ = rustix::process::pidfd_send_signal(
            &prepared.process.pidfd,
            rustix::process::Signal::KILL,
        );
        let pid = Pid::from_raw(prepared.process.state.pid.cast_signed());
        if enter::wait_bounded(pid, HELPER_PATIENCE).is_none() {
            self.strays.push(pid);
        }
        for (_, target) in prepared.pins {
            let _ = pin::unpin(&target);
        }
    }

    /// Tells the daemon of a prepared process and waits for its release.
    fn offer(&mut self, channel: &Channel, prepared: Prepared) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt as _;

        let inode = |(name, pin): &(&'static str, PathBuf)| {
            let found = std::fs::metadata(pin).ok()?;
            Some(((*name).to_owned(), found.ino()))
        };
        let namespaces: BTreeMap<String, u64> = prepared.pins.iter().filter_map(inode).collect();
        let answer = Answer::Prepared {
            pid: prepared.process.state.pid,
            pid_namespace: namespaces.get(Namespace::Pid.file()).copied(),
            namespaces,
        };
        let fds: Vec<_> = prepared.process._terminal.iter().map(AsFd::as_fd).collect();
        let released = channel
            .send(&answer, &fds)
            .and_then(|()| channel.receive::<Command>())
            .is_ok_and(|(command, _)| matches!(command, Command::Release));
        if !released {
            // The daemon died or gave up: what it does not know must not run.
            self.discard(prepared);
            return Ok(());
        }
        let failure = match prepared.channel.call::<(), ProcessReport>(&(), &[]) {
            // The descriptor closes when the program is executed.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => Some(Failure::of("release the process")(error)),
            Ok((report, _)) => report.err(),
        };
        if let Some(failure) = failure {
            self.discard(prepared);
            return channel.send(&Answer::Failed(failure), &[]);
        }
        self.processes
            .insert(prepared.process.state.process, prepared.process);
        channel.send(&Answer::Done, &[])?;
        // It may have ended before it was entered in the table.
        self.reap();
        Ok(())
    }

    fn reap(&mut self) {
        self.strays
            .retain(|pid| enter::wait_bounded(*pid, Duration::ZERO).is_none());
        let running: Vec<(u64, Pid)> = self
            .processes
            .values()
            .filter(|p| p.state.exit.is_none())
            .map(|p| (p.state.process, Pid::from_raw(p.state.pid.cast_signed())))
            .collect();
        for (number, pid) in running {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
            let exit = match nix::sys::wait::waitpid(pid, Some(flags)) {
                Ok(WaitStatus::Exited(_, code)) => ExitStatus::Exited(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => ExitStatus::Killed(signal as i32),
                Ok(_) => continue,
                Err(_) => ExitStatus::Unknown,
            };
            if let Some(process) = self.processes.get_mut(&number) {
                process.state.exit = Some(exit);
                let state = process.state.clone();
                // A watcher that is gone is noticed by poll; one that does not read loses its
                // connection, not the status.
                self.watchers.retain(|w| w.send(&state, &[]).is_ok());
            }
        }
        self.forget_old();
    }

    /// Keeps the first process, the living and the last that ended.
    fn forget_old(&mut self) {
        let ended: Vec<u64> = self
            .processes
            .values()
            .filter(|p| p.state.exit.is_some() && p.state.process != 1)
            .map(|p| p.state.process)
            .collect();
        for number in ended.iter().take(ended.len().saturating_sub(ENDED_KEPT)) {
            self.processes.remove(number);
        }
    }
}

fn pair() -> Result<(Channel, Channel), Failure> {
    let (ours, theirs) = Channel::pair().map_err(Failure::of("make a socket pair"))?;
    ours.set_timeout(Some(PATIENCE))
        .map_err(Failure::of("set a time-out"))?;
    Ok((ours, theirs))
}

/// The process id behind a pidfd as the host numbers it (`proc_pid_fdinfo(5)`).
fn host_pid(pidfd: &OwnedFd) -> Result<u32, Failure> {
    use std::os::fd::AsRawFd as _;

    let what = "find the process' id";
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))
        .map_err(Failure::of(what))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .ok_or_else(|| Failure::because(what))
}

fn libc_esrch() -> i32 {
    rustix::io::Errno::SRCH.raw_os_error()
}

fn libc_einval() -> i32 {
    rustix::io::Errno::INVAL.raw_os_error()
}
