//! The demo's own daemon.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use keyns_interfaces::Method;
use keyns_interfaces::manager::{GetStatus, Status};
use rustix::process::{Pid, Signal, kill_process};

use super::programs::Programs;
use super::shell::EVERY;
use crate::daemon::Daemon;
use crate::error::{CommandError, ErrorKind};

/// How long a daemon may take to start, and to stop with everything it has.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon of an instance, and how to start it again.
#[derive(Debug)]
pub struct Server {
    programs: Programs,
    instance: String,
    child: Option<Child>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    /// A daemon that was not started yet.
    #[must_use]
    pub fn new(programs: Programs, instance: &str) -> Self {
        Self {
            programs,
            instance: instance.to_owned(),
            child: None,
            log: Arc::default(),
        }
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        PathBuf::from("/run/keyns")
            .join(&self.instance)
            .join("keynsd")
    }

    /// The command line that starts it.
    #[must_use]
    pub fn line(&self) -> String {
        format!("keynsd --instance {} --transient", self.instance)
    }

    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it ends instead, with the last line it said.
    pub fn start(&mut self) -> Result<(), CommandError> {
        let failed = |error| CommandError::io("cannot start keynsd", &error);
        let mut child = Command::new(&self.programs.keynsd)
            .args(["--instance", &self.instance, "--transient", "--helpers"])
            .arg(&self.programs.helpers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C ends the demo, and the demo ends the daemon.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&self.log);
            spawn(move || keep(stderr, &log));
        }
        let begin = Instant::now();
        self.child = Some(child);
        loop {
            let ended = self
                .child
                .as_mut()
                .map_or(Ok(None), Child::try_wait)
                .map_err(failed)?;
            if let Some(status) = ended {
                self.child = None;
                sleep(EVERY * 4);
                return Err(
                    CommandError::failure("keynsd cannot be started").cause(format!(
                        "{}; it said: {}",
                        status,
                        self.last_words()
                    )),
                );
            }
            if self.status().is_ok() {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(
                    CommandError::new(ErrorKind::TimedOut, "keynsd does not serve")
                        .cause(self.last_words()),
                );
            }
            sleep(EVERY);
        }
    }

    /// Asks a daemon of the instance, whoever started it.
    ///
    /// # Errors
    /// What the daemon says, or that it cannot be reached.
    pub fn ask<M: Method>(&self, call: &M) -> Result<M::Reply, CommandError> {
        Daemon::connect(&[self.socket()])?.call(call)
    }

    /// Its state.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn status(&self) -> Result<Status, CommandError> {
        self.ask(&GetStatus {})
    }

    /// Its process id, while it runs as our child.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it, as if it had crashed.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<(), CommandError> {
        let failed = |error| CommandError::io("cannot kill keynsd", &error);
        let mut child = self
            .child
            .take()
            .ok_or_else(|| CommandError::failure("keynsd does not run"))?;
        child.kill().map_err(failed)?;
        child.wait().map(drop).map_err(failed)
    }

    /// Stops it, by which it ends its containers and removes what is of the instance. One that does
    /// not run is started before: only a daemon can undo what a daemon has left.
    ///
    /// # Errors
    /// When it cannot be started, or does not end.
    pub fn stop(&mut self) -> Result<(), CommandError> {
        if self.child.is_none() {
            self.start()?;
        }
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Our child, not waited for: fails only if it has just ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let begin = Instant::now();
        loop {
            match child.try_wait() {
                Ok(None) if begin.elapsed() < PATIENCE => sleep(EVERY),
                Ok(Some(_)) => return Ok(()),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(CommandError::new(
                        ErrorKind::TimedOut,
                        "keynsd did not stop when it was told to, and was killed",
                    )
                    .cause(self.last_words()));
                }
            }
        }
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> Vec<u8> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The last line it has logged.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = self.log();
        let text = String::from_utf8_lossy(&log);
        text.trim().lines().last().unwrap_or("nothing").to_owned()
    }
}

/// Keeps what a daemon logs until it ends.
fn keep(mut from: impl Read, log: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default();
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
    }
}
