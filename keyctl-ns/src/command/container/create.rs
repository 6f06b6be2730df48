//! `container create`

use std::io::IsTerminal as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use clap::Args;
use keyns::name::ContainerPath;
use keyns_interfaces::containers::{Create, Created, Namespace, Root};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::args::{self, NAMESPACES, Namespaces};
use crate::context::Context;
use crate::daemon;
use crate::error::CommandError;
use crate::view;

/// Create a container; nothing runs in it yet
///
/// It gets a keyring of its own and, unless said otherwise, all namespaces of its own and the root
/// directory usr. With those nested in it, it has at most 4096 processes and threads, where the machine
/// has the pids controller in cgroup2.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name, or PARENT.NAME for a container nested in another; 1 to 23 characters
    #[arg(value_parser = args::container())]
    pub name: ContainerPath,
    /// Namespaces of its own, joined by commas: user, pid, mount, net, ipc, uts, cgroup; or none
    #[arg(long, value_name = "LIST", conflicts_with_all = ["user", "pid", "mount", "net", "ipc", "uts", "cgroup"])]
    pub namespaces: Option<Namespaces>,
    /// All namespaces of its own (the default)
    #[arg(long, conflicts_with_all = ["namespaces", "user", "pid", "mount", "net", "ipc", "uts", "cgroup"])]
    pub all: bool,
    /// Root directory: empty, usr (a tmpfs with the host's /usr, read-only), copy (the host's
    /// mounts), or a directory of the host
    #[arg(long, value_name = "ROOT", value_parser = args::root())]
    pub root: Option<Root>,
    /// Stay in the foreground, and kill the container when this command ends in any way
    #[arg(long)]
    pub kill_on_close: bool,
    /// Namespaces by one option each; the others are shared.
    #[command(flatten)]
    pub single: SingleNamespaces,
}

/// One option for each namespace.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Only these namespaces of its own")]
#[allow(clippy::struct_excessive_bools, reason = "one flag for each namespace")]
pub struct SingleNamespaces {
    /// User and group ids
    #[arg(long)]
    pub user: bool,
    /// Process ids
    #[arg(long)]
    pub pid: bool,
    /// Mounts
    #[arg(long)]
    pub mount: bool,
    /// Network
    #[arg(long)]
    pub net: bool,
    /// System V IPC and POSIX message queues
    #[arg(long)]
    pub ipc: bool,
    /// Host name
    #[arg(long)]
    pub uts: bool,
    /// Cgroup root
    #[arg(long)]
    pub cgroup: bool,
}

impl CreateArgs {
    /// The namespaces asked for; all, unless some were named.
    fn chosen(&self) -> Vec<Namespace> {
        if let Some(Namespaces(list)) = &self.namespaces {
            return list.clone();
        }
        let single = &self.single;
        let flags = [
            (single.user, Namespace::User),
            (single.pid, Namespace::Pid),
            (single.mount, Namespace::Mount),
            (single.net, Namespace::Net),
            (single.ipc, Namespace::Ipc),
            (single.uts, Namespace::Uts),
            (single.cgroup, Namespace::Cgroup),
        ];
        let named: Vec<Namespace> = flags
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, n)| n)
            .collect();
        if named.is_empty() {
            NAMESPACES.map(|(namespace, _)| namespace).to_vec()
        } else {
            named
        }
    }
}

/// Creates the container.
///
/// # Errors
/// What the daemon says; a usage error for a root directory without a mount namespace.
pub fn run(context: &Context, args: &CreateArgs) -> Result<(), CommandError> {
    let namespaces = args.chosen();
    if args.root.is_some() && !namespaces.contains(&Namespace::Mount) {
        return Err(
            CommandError::usage(format!("cannot create container “{}”", args.name))
                .cause("a root directory of its own needs a mount namespace of its own")
                .hint("add --mount, or leave out --root"),
        );
    }
    let call = Create {
        name: args.name.to_string(),
        namespaces,
        root: args.root.clone().unwrap_or(Root::Usr),
        kill_on_close: args.kill_on_close,
    };
    let (created, descriptors) = context.daemon()?.call_with(&call, Vec::new())?;
    context.ui.print(&created, show)?;
    for caveat in &created.container.caveats {
        context
            .ui
            .warn(&format!("container “{}”: {caveat}", args.name));
    }
    if !args.kill_on_close {
        return Ok(());
    }
    let lease = descriptors.into_iter().next().ok_or_else(|| {
        CommandError::failure(format!("cannot hold container “{}”", args.name))
            .cause("the daemon sent no lease")
            .hint("keyctl-ns and keynsd must be of the same version")
    })?;
    hold(context, &args.name, lease)
}

fn show(out: &mut dyn std::io::Write, created: &Created) -> std::io::Result<()> {
    let container = &created.container;
    write!(
        out,
        "container “{}” is created, number {}",
        view::safe(&container.name),
        container.id
    )?;
    match container.keyring {
        Some(keyring) => writeln!(out, ", keyring {keyring}"),
        None => writeln!(out),
    }
}

/// How often a lease is looked at while there is no daemon.
const NO_DAEMON: std::time::Duration = std::time::Duration::from_millis(200);

/// Waits for the end of standard input, a signal, or the end of the lease at the daemon's side.
/// Closing the lease is what kills the container, also if this process is killed.
fn hold(context: &Context, name: &ContainerPath, lease: OwnedFd) -> Result<(), CommandError> {
    let how = if std::io::stdin().is_terminal() {
        "Ctrl-D or Ctrl-C"
    } else {
        "the end of standard input"
    };
    context.ui.note(&format!(
        "container “{name}” lives as long as this command; {how} kills it"
    ));
    daemon::runtime()?.block_on(async {
        let failed = |error: std::io::Error| CommandError::io("cannot wait for signals", &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let (sender, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let lost = until_closed(lease.as_fd());
            // Nobody waits any more if a signal came first.
            let _ = sender.send(lost);
            drop(lease);
        });
        let lost = tokio::select! {
            lost = ended => lost.unwrap_or(false),
            _ = interrupt.recv() => false,
            _ = terminate.recv() => false,
            _ = hangup.recv() => false,
        };
        if lost {
            context
                .ui
                .warn(&format!("the daemon ended the lease of container “{name}”"));
        }
        Ok(())
    })
}

/// Returns at the end of standard input, or true when the daemon has ended the lease.
///
/// A daemon that is only down closes its end too, but leaves the file: the next one opens it again.
fn until_closed(lease: BorrowedFd<'_>) -> bool {
    let stdin = rustix::stdio::stdin();
    let mut buffer = [0; 4096];
    loop {
        let mut watched = [
            PollFd::new(&lease, PollFlags::empty()),
            PollFd::new(&stdin, PollFlags::IN),
        ];
        match poll(&mut watched, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return false,
        }
        let [lease_now, stdin_now] = watched.map(|fd| !fd.revents().is_empty());
        if lease_now {
            if rustix::fs::fstat(lease).is_ok_and(|file| file.st_nlink == 0) {
                return true;
            }
            std::thread::sleep(NO_DAEMON);
        }
        if stdin_now && !matches!(rustix::io::read(stdin, &mut buffer), Ok(1..)) {
            return false;
        }
    }
}
