//! What a demo that was killed has left, found by the name of its instance, and the lock that keeps
//! two demos apart.
//!
//! While the lock is held, every instance called `demo-` and a number is one whose demo is gone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyns::takeover::{self, Root, TakeOverError};
use keyns_interfaces::containers::{Kill, List};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::programs::Programs;
use super::server::Server;
use crate::error::{CommandError, ErrorKind};

/// Beside `/run/keyns`, which is to vanish with the demo.
const LOCK: &str = "/run/keyns-demo.lock";

/// How long a daemon may take to end with all its containers.
const PATIENCE: Duration = Duration::from_secs(20);

/// The right to run the demo on this machine.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Takes it.
    ///
    /// # Errors
    /// When a demo runs already.
    pub fn take() -> Result<Self, CommandError> {
        let failed = |error: io::Error| CommandError::io(format!("cannot open {LOCK}"), &error);
        loop {
            let lock = File::options()
                .create(true)
                .append(true)
                .open(LOCK)
                .map_err(failed)?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(CommandError::failure("cannot run the demo")
                    .cause("another one runs on this machine")
                    .hint("wait for its end"));
            }
            let held = lock.metadata().map_err(failed)?;
            // The demo before may just have removed the file.
            if fs::metadata(LOCK)
                .is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino()))
            {
                return Ok(Self { _lock: lock });
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Still locked, so nobody else can have it.
        let _ = fs::remove_file(LOCK);
    }
}

/// The name of this process' instance.
#[must_use]
pub fn own_instance() -> String {
    format!("demo-{}", std::process::id())
}

/// Removes what killed demos have left, and returns their instances.
///
/// # Errors
/// The first thing that cannot be removed.
pub fn remove(_: &Turn, programs: &Programs) -> Result<Vec<String>, CommandError> {
    let mut daemons = Vec::new();
    let names = instances();
    for name in &names {
        let daemon = Leftover::reach(programs, name)?;
        end_commands(name)?;
        daemon.end_containers()?;
        daemons.push(daemon);
    }
    // No container is left that could ask; the daemons go last because they clean up /run/keyns.
    match takeover::recover(&Root::default()) {
        Ok(_) | Err(TakeOverError::InUse { .. }) => {}
        Err(error) => {
            return Err(CommandError::failure("cannot give /sbin/request-key back")
                .cause(error.to_string())
                .hint("keynsd upcall status shows how things stand"));
        }
    }
    for (daemon, name) in daemons.into_iter().zip(&names) {
        daemon.stop(programs, name)?;
    }
    Ok(names.into_iter().collect())
}

/// Instances that demos have made.
fn instances() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in ["/run/keyns", "/var/lib/keyns"] {
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        found.extend(names.filter(|name| is_demo(name)));
    }
    found
}

fn is_demo(name: &str) -> bool {
    let number = name.strip_prefix("demo-").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// A daemon of a demo that is gone.
enum Leftover {
    /// It lives.
    Alive(Server, rustix::fd::OwnedFd),
    /// It was dead, and one was started in its place.
    Again(Server),
}

impl Leftover {
    fn reach(programs: &Programs, instance: &str) -> Result<Self, CommandError> {
        let mut server = Server::new(programs.clone(), instance);
        if let Ok(status) = server.status()
            && let Some(pid) = i32::try_from(status.pid).ok().and_then(Pid::from_raw)
            && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            // Asked again: the process held now is still the one that answers.
            && server.status().is_ok_and(|again| again.pid == status.pid)
        {
            return Ok(Self::Alive(server, process));
        }
        server.start()?;
        Ok(Self::Again(server))
    }

    fn end_containers(&self) -> Result<(), CommandError> {
        let (Self::Alive(server, _) | Self::Again(server)) = self;
        end_containers(server)
    }

    fn stop(self, programs: &Programs, instance: &str) -> Result<(), CommandError> {
        match self {
            Self::Again(mut server) => server.stop(),
            Self::Alive(server, process) => {
                let failed = |error: rustix::io::Errno| {
                    CommandError::io(format!("cannot stop {}", server.line()), &error.into())
                };
                pidfd_send_signal(&process, Signal::TERM).map_err(failed)?;
                let mut ended = [PollFd::new(&process, PollFlags::IN)];
                let patience = Timespec::try_from(PATIENCE).ok();
                if poll(&mut ended, patience.as_ref()).map_err(failed)? == 0 {
                    return Err(CommandError::new(
                        ErrorKind::TimedOut,
                        format!("{} does not stop", server.line()),
                    ));
                }
                // It may have been a daemon that was not told to remove everything, or failed to.
                if instances().contains(instance) {
                    let mut again = Server::new(programs.clone(), instance);
                    again.start()?;
                    again.stop()?;
                }
                Ok(())
            }
        }
    }
}

/// Kills every container of a daemon.
///
/// # Errors
/// What the daemon says.
pub fn end_containers(server: &Server) -> Result<(), CommandError> {
    for container in server.ask(&List { dead: false })?.containers {
        // Those nested in another end with it.
        if container.parent.is_none() {
            server.ask(&Kill {
                container: container.id.to_string(),
                signal: None,
                process: None,
            })?;
        }
    }
    Ok(())
}

/// Kills the commands of a demo that is gone: they have its daemon's socket in their environment.
fn end_commands(instance: &str) -> Result<(), CommandError> {
    let socket = PathBuf::from("/run/keyns").join(instance).join("keynsd");
    let wanted = format!("KEYNS_SOCKET={}", socket.display());
    let entries = fs::read_dir("/proc")
        .map_err(|error| CommandError::io("cannot list the processes", &error))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        let has_it = |path: &Path| {
            fs::read(path.join("environ")).is_ok_and(|text| {
                text.split(|b| *b == 0)
                    .any(|word| word == wanted.as_bytes())
            })
        };
        // Held before it is looked at: the number cannot go to another process in between.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            && has_it(&entry.path())
        {
            // Fails only if it has ended.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_demo;

    #[test]
    fn only_a_number_makes_an_instance_a_demos() {
        assert!(is_demo("demo-1") && is_demo("demo-4194304"));
        for name in ["demo", "demo-", "demo-1x", "main", "xdemo-1"] {
            assert!(!is_demo(name), "{name}");
        }
    }
}
