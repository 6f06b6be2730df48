//! Starting a process inside a container, in children of the monitor.
//!
//! The *stage* is a child of the monitor that puts itself into the container's cgroup, makes the
//! process' session keyring with the host's ids, enters the namespaces and forks the process as its
//! own sibling, so that the monitor is the parent of everything in the container. Until the daemon
//! has registered the process, it waits and does nothing.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use keyns_sys::process::{self, Fork, ForkOptions, SingleThreaded};

use super::build;
use super::channel::Channel;
use super::container::Namespace;
use super::failure::Failure;
use super::keyring::SessionPlan;
use super::object::{self, ObjectPlan};
use super::root;

/// How long a helper may take.
const HELPER_PATIENCE: Duration = Duration::from_secs(5);

/// Soft limit of open files that programs expect (`select(2)` cannot handle more).
const USUAL_FILES: u64 = 1024;

/// A process to be started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StartPlan {
    /// Number of the process within the container.
    pub(super) process: u64,
    /// Pins of the namespaces to enter, the container's own and inherited ones.
    pub(super) enter: Vec<(Namespace, PathBuf)>,
    /// The process is to be PID 1 of a new PID namespace, pinned there.
    pub(super) new_pid_namespace: Option<PathBuf>,
    /// Mount namespace in which to mount `/proc` for the new PID namespace.
    pub(super) procfs_into: Option<PathBuf>,
    pub(super) cgroup: PathBuf,
    /// The session keyring to make on the way; a container object has its own way.
    pub(super) session: Option<SessionPlan>,
    /// The process is forked into the container object that the monitor holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) object: Option<ObjectPlan>,
    /// Ids inside the container.
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) command: Vec<Vec<u8>>,
    pub(super) environment: Vec<Vec<u8>>,
    pub(super) terminal: bool,
    pub(super) program_passed: bool,
}

/// Descriptors that come with a plan.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// Standard input, output, error.
    pub(super) standard: Option<[OwnedFd; 3]>,
    pub(super) program: Option<OwnedFd>,
}

impl Descriptors {
    pub(super) fn sort(plan: &StartPlan, fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        let mut fds = fds.into_iter();
        let mut sorted = Self::default();
        if !plan.terminal {
            match (fds.next(), fds.next(), fds.next()) {
                (Some(a), Some(b), Some(c)) => sorted.standard = Some([a, b, c]),
                _ => return Err(Failure::because("start a process without its descriptors")),
            }
        }
        if plan.program_passed {
            let program = fds.next();
            sorted.program = Some(
                program.ok_or_else(|| Failure::because("execute a program that was not passed"))?,
            );
        }
        Ok(sorted)
    }
}

/// What the stage has forked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Forked {
    /// A helper with this process id, to be waited for; more follows.
    Helper(u32),
    /// The process; its pidfd comes along.
    Process,
}

/// What the stage reports.
pub(super) type StageReport = Result<Forked, Failure>;

/// What the process reports before it waits: ready (with the terminal's master, if any).
pub(super) type ProcessReport = Result<(), Failure>;

/// The stage. Never returns in the process it forks.
pub(super) fn stage(
    alone: &SingleThreaded,
    plan: &StartPlan,
    descriptors: &Descriptors,
    monitor: &Channel,
    process_end: &Channel,
) -> Result<(), Failure> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Failure::of("set a death signal"))?;
    let mut keep: Vec<BorrowedFd<'_>> = vec![monitor.as_fd(), process_end.as_fd()];
    keep.extend(descriptors.standard.iter().flatten().map(AsFd::as_fd));
    keep.extend(descriptors.program.iter().map(AsFd::as_fd));
    process::close_all_but(alone, 3, &keep).map_err(Failure::of("close inherited descriptors"))?;

    plan.session
        .as_ref()
        .ok_or_else(|| Failure::because("start a process without a session keyring"))?
        .take_up()?;
    enter_namespaces(plan)?;

    let inside_another = plan.enter.iter().any(|(kind, _)| *kind == Namespace::Pid);
    if plan.new_pid_namespace.is_some() && inside_another {
        // A PID namespace can only be made below the one the maker is in, not below the one its
        // children would be in (copy_pid_ns() in kernel/pid_namespace.c): so a child makes it.
        let sibling = ForkOptions {
            sibling: true,
            ..ForkOptions::default()
        };
        match process::fork(alone, sibling).map_err(Failure::of("fork into the parent"))? {
            Fork::Child => {}
            Fork::Parent { pid, .. } => {
                return monitor
                    .send(&StageReport::Ok(Forked::Helper(pid)), &[])
                    .map_err(Failure::of("report to the monitor"));
            }
        }
    }
    let options = ForkOptions {
        new_pid_namespace: plan.new_pid_namespace.is_some(),
        sibling: true,
        ..ForkOptions::default()
    };
    match process::fork(alone, options).map_err(Failure::of("fork into the container"))? {
        Fork::Child => {
            let failure = become_process(alone, plan, descriptors, process_end);
            let _ = process_end.send(&ProcessReport::Err(failure), &[]);
            std::process::exit(127);
        }
        Fork::Parent { pidfd, .. } => monitor
            .send(&StageReport::Ok(Forked::Process), &[pidfd.as_fd()])
            .map_err(Failure::of("report to the monitor")),
    }
}

fn enter_namespaces(plan: &StartPlan) -> Result<(), Failure> {
    // Opened while the host's file system is still in view. The user namespace comes last: until
    // then the host's capabilities reach the namespaces of every ancestor.
    let mut open = Vec::new();
    for (kind, pin) in &plan.enter {
        let file = std::fs::File::open(pin)
            .map_err(Failure::of(format!("open the {} namespace", kind.file())))?;
        open.push((*kind, file));
    }
    open.sort_by_key(|(kind, _)| match kind {
        Namespace::User => 2,
        Namespace::Mount => 1,
        _ => 0,
    });
    for (kind, file) in open {
        nix::sched::setns(file, build::clone_flag(kind))
            .map_err(Failure::of(format!("enter the {} namespace", kind.file())))?;
    }
    Ok(())
}

/// The process itself, up to its program. Only returns when something failed.
pub(super) fn become_process(
    alone: &SingleThreaded,
    plan: &StartPlan,
    descriptors: &Descriptors,
    monitor: &Channel,
) -> Failure {
    match prepare_process(alone, plan, descriptors, monitor) {
        Ok(()) => execute(plan, descriptors),
        Err(failure) => failure,
    }
}

fn prepare_process(
    alone: &SingleThreaded,
    plan: &StartPlan,
    descriptors: &Descriptors,
    monitor: &Channel,
) -> Result<(), Failure> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Failure::of("set a death signal"))?;
    // A terminal that is given up again would hang up this process before it can say why.
    SigSet::all()
        .thread_block()
        .map_err(Failure::of("block signals"))?;
    rustix::process::chdir("/").map_err(Failure::of("change to the root directory"))?;
    nix::unistd::setsid().map_err(Failure::of("start a session"))?;
    nix::unistd::setgroups(&[]).map_err(Failure::of("drop supplementary groups"))?;
    nix::unistd::setresgid(plan.gid.into(), plan.gid.into(), plan.gid.into())
        .map_err(Failure::of(format!("become group {}", plan.gid)))?;

    let mut master = None;
    if plan.terminal {
        // Who opens a terminal owns it, and only an id that is mapped inside can be given it.
        nix::unistd::setresuid(0.into(), 0.into(), 0.into())
            .map_err(Failure::of("become root inside"))?;
        let (ours, terminal) = open_terminal()?;
        rustix::process::ioctl_tiocsctty(&terminal)
            .map_err(Failure::of("make the terminal the controlling one"))?;
        // The terminal belongs to whoever works on it.
        rustix::fs::fchown(
            &terminal,
            Some(rustix::process::Uid::from_raw(plan.uid)),
            None,
        )
        .map_err(Failure::of("give the terminal to the user"))?;
        take_standard([&terminal, &terminal, &terminal])?;
        master = Some(ours);
    } else if let Some([a, b, c]) = &descriptors.standard {
        take_standard([a, b, c])?;
    }
    nix::unistd::setresuid(plan.uid.into(), plan.uid.into(), plan.uid.into())
        .map_err(Failure::of(format!("become user {}", plan.uid)))?;
    // Nobody inside may look at this process before it has its program. Changing ids cleared the
    // death signal (commit_creds() in kernel/cred.c).
    nix::sys::prctl::set_dumpable(false).map_err(Failure::of("stay undumpable"))?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Failure::of("set a death signal"))?;
    if let Some(way) = &plan.object {
        object::make_session(way)?;
    }

    let mut keep = vec![monitor.as_fd()];
    keep.extend(descriptors.program.iter().map(AsFd::as_fd));
    let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    monitor
        .send(&ProcessReport::Ok(()), &fds)
        .map_err(Failure::of("report to the monitor"))?;
    process::close_all_but(alone, 3, &keep).map_err(Failure::of("close inherited descriptors"))?;
    std::mem::forget(master);
    monitor
        .receive::<()>()
        .map_err(Failure::of("wait for the release"))?;

    nix::sys::prctl::set_pdeathsig(None).map_err(Failure::of("clear the death signal"))?;
    // What keyns set for itself is not the program's: ignored signals, the limit of open files.
    process::reset_signals(alone);
    SigSet::empty()
        .thread_set_mask()
        .map_err(Failure::of("unblock signals"))?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Failure::of("get a limit"))?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(USUAL_FILES), hard)
        .map_err(Failure::of("set a limit"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

fn take_standard(fds: [&OwnedFd; 3]) -> Result<(), Failure> {
    let [input, output, error] = fds;
    nix::unistd::dup2_stdin(input)
        .and_then(|()| nix::unistd::dup2_stdout(output))
        .and_then(|()| nix::unistd::dup2_stderr(error))
        .map_err(Failure::of("place standard descriptors"))
}

/// Master and terminal from the container's own devpts.
fn open_terminal() -> Result<(OwnedFd, OwnedFd), Failure> {
    let what = "open a terminal of the container (its root has no devpts)";
    let master = rustix::fs::open(
        "/dev/ptmx",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(Failure::of(what))?;
    let found = rustix::fs::fstat(&master).map_err(Failure::of(what))?;
    // The path is the container's, and may lead to anything.
    let multiplexer = rustix::fs::makedev(5, 2);
    if rustix::fs::FileType::from_raw_mode(found.st_mode) != rustix::fs::FileType::CharacterDevice
        || found.st_rdev != multiplexer
    {
        return Err(Failure::because(
            "use /dev/ptmx of the container, which is no terminal",
        ));
    }
    rustix::pty::unlockpt(&master).map_err(Failure::of("unlock the terminal"))?;
    // By descriptor: the name in the container could be anything.
    let terminal = rustix::pty::ioctl_tiocgptpeer(
        &master,
        rustix::pty::OpenptFlags::RDWR
            | rustix::pty::OpenptFlags::NOCTTY
            | rustix::pty::OpenptFlags::CLOEXEC,
    )
    .map_err(Failure::of("open the terminal's peer"))?;
    Ok((master, terminal))
}

fn execute(plan: &StartPlan, descriptors: &Descriptors) -> Failure {
    let strings = |list: &[Vec<u8>]| -> Result<Vec<CString>, Failure> {
        list.iter()
            .map(|bytes| CString::new(bytes.clone()))
            .collect::<Result<_, _>>()
            .map_err(|_| Failure::because("pass an argument that contains a NUL byte"))
    };
    let (arguments, environment) = match (strings(&plan.command), strings(&plan.environment)) {
        (Ok(a), Ok(e)) => (a, e),
        (Err(f), _) | (_, Err(f)) => return f,
    };
    let Some(name) = arguments.first() else {
        return Failure::because("execute nothing");
    };
    let shown = String::from_utf8_lossy(name.as_bytes()).into_owned();
    if let Some(program) = &descriptors.program {
        let Err(errno) = nix::unistd::execveat(
            program,
            c"",
            &arguments,
            &environment,
            nix::fcntl::AtFlags::AT_EMPTY_PATH,
        );
        return Failure {
            operation: format!("execute “{shown}”"),
            errno: errno as i32,
        };
    }
    let mut errno = nix::errno::Errno::ENOENT;
    for candidate in candidates(name.as_bytes(), &plan.environment) {
        let Err(error) = nix::unistd::execve(&candidate, &arguments, &environment);
        // As execvp(3): a directory without the program is no reason to stop looking.
        if error != nix::errno::Errno::ENOENT && error != nix::errno::Errno::ENOTDIR {
            errno = error;
            if error != nix::errno::Errno::EACCES {
                break;
            }
        }
    }
    Failure {
        operation: format!("execute “{shown}”"),
        errno: errno as i32,
    }
}

fn candidates(name: &[u8], environment: &[Vec<u8>]) -> Vec<CString> {
    if name.contains(&b'/') {
        return CString::new(name).into_iter().collect();
    }
    let path = environment
        .iter()
        .find_map(|variable| variable.strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    path.split(|b| *b == b':')
        .filter(|directory| !directory.is_empty())
        .filter_map(|directory| CString::new([directory, b"/", name].concat()).ok())
        .collect()
}

/// Mounts `/proc` for the PID namespace pinned at `pid_namespace`, if the container's root has such
/// a directory.
///
/// From inside this fails, since a new user namespace sees no complete procfs (`mount_too_revealing`
/// in fs/namespace.c); so a process of the host does it, which must be *in* the PID namespace, as
/// procfs shows its maker's.
pub(super) fn mount_procfs(
    alone: &SingleThreaded,
    pid_namespace: &std::path::Path,
    mount_namespace: &std::path::Path,
) -> Result<(), Failure> {
    let child = process::fork(alone, ForkOptions::default())
        .map_err(Failure::of("fork the procfs helper"))?;
    if let Fork::Parent { pid, .. } = child {
        return reap(pid, HELPER_PATIENCE, "mount /proc in the container");
    }
    let helper = || -> Result<(), Failure> {
        build::join(pid_namespace, CloneFlags::CLONE_NEWPID)?;
        match process::fork(alone, ForkOptions::default())
            .map_err(Failure::of("fork into the PID namespace"))?
        {
            Fork::Parent { pid, .. } => reap(pid, HELPER_PATIENCE, "mount /proc in the container"),
            Fork::Child => {
                let mounter = || -> Result<(), Failure> {
                    let tree = root::new_procfs().map_err(Failure::of("make a procfs"))?;
                    build::join(mount_namespace, CloneFlags::CLONE_NEWNS)?;
                    let target = std::path::Path::new("/proc");
                    if target.is_dir() {
                        root::attach(&tree, target).map_err(Failure::of("attach the procfs"))?;
                    }
                    Ok(())
                };
                std::process::exit(mounter().map_or_else(|f| f.errno.clamp(1, 255), |()| 0));
            }
        }
    };
    std::process::exit(helper().map_or_else(|f| f.errno.clamp(1, 255), |()| 0));
}

/// Waits for a helper whose exit code is 0 or an errno, and ends one that takes longer.
pub(super) fn reap(pid: u32, patience: Duration, operation: &str) -> Result<(), Failure> {
    let helper = Pid::from_raw(pid.cast_signed());
    let status = wait_bounded(helper, patience);
    match status {
        Some(WaitStatus::Exited(_, 0)) => return Ok(()),
        Some(WaitStatus::Exited(_, errno)) => {
            return Err(Failure {
                operation: operation.into(),
                errno,
            });
        }
        // Not waited for yet, so that the number is still its own.
        None => {
            let _ = nix::sys::signal::kill(helper, Signal::SIGKILL);
            let _ = wait_bounded(helper, patience);
        }
        Some(_) => {}
    }
    Err(Failure::because(format!("{operation} ({status:?})")))
}

/// Waits for a child for at most `patience`; `None` when it did not end.
pub(super) fn wait_bounded(pid: Pid, patience: Duration) -> Option<WaitStatus> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(50);
    loop {
        match nix::sys::wait::waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::EINTR) => {}
            Ok(status) => return Some(status),
            // Somebody else has its status.
            Err(_) => return Some(WaitStatus::Exited(pid, 0)),
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}
