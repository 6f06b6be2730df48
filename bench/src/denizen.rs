//! A process that asks for keys and measures how long that takes, in a container or on the host.

use std::ffi::CString;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyns_sys::{KeySerial, key};
use nix::poll::{PollFd, PollFlags, poll};

use crate::Failure;

/// Milliseconds; longer than any request may wait for an answer.
const PATIENCE: u16 = 65_000;
/// Descriptions of all keys asked for; the rule of the stock program names it too.
pub(crate) const PREFIX: &str = "keyns-bench:";

/// The process itself: for each line `FROM COUNT` so many requests, and a line for each.
///
/// # Errors
/// Standard input or output.
pub(crate) fn run() -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    key::join_session_keyring(None)?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (from, count) = line.split_once(' ').ok_or("expected FROM COUNT")?;
        let (from, count): (u64, u64) = (from.parse()?, count.parse()?);
        for n in from..from + count {
            match ask(n) {
                Ok(took) => writeln!(out, "{}", took.as_nanos())?,
                Err(error) => writeln!(out, "error {error}")?,
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// One request: the time until the kernel gave the key, whose payload must be what was asked for.
fn ask(n: u64) -> io::Result<Duration> {
    let description = CString::new(format!("{PREFIX}{}-{n}", std::process::id()))?;
    let callout = CString::new(format!("payload-{n}"))?;
    let begun = Instant::now();
    let serial = key::request_key(c"user", &description, Some(&callout), KeySerial::NONE)?;
    let took = begun.elapsed();
    if key::read(serial)? != callout.as_bytes() {
        return Err(io::Error::other(
            "the key has another payload than was asked for",
        ));
    }
    // Else the quota is used up after a few hundred.
    key::invalidate(serial)?;
    Ok(took)
}

/// The other end of such a process.
pub(crate) struct Denizen {
    to: PipeWriter,
    from: BufReader<PipeReader>,
    next: u64,
    child: Option<Child>,
}

impl Denizen {
    pub(crate) fn new(to: PipeWriter, from: PipeReader) -> Self {
        Self {
            to,
            from: BufReader::new(from),
            next: 0,
            child: None,
        }
    }

    /// One on the host.
    ///
    /// # Errors
    /// Starting this very program again.
    pub(crate) fn on_host() -> Result<Self, Failure> {
        let (stdin, to) = io::pipe()?;
        let (from, stdout) = io::pipe()?;
        let child = Command::new("/proc/self/exe")
            .arg("denizen")
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout))
            .spawn()?;
        let mut denizen = Self::new(to, from);
        denizen.child = Some(child);
        Ok(denizen)
    }

    /// Makes so many requests and returns how long each took.
    ///
    /// # Errors
    /// Any request that failed: a measurement must not count what was not answered.
    pub(crate) fn ask(&mut self, count: u64) -> Result<Vec<Duration>, Failure> {
        writeln!(self.to, "{} {count}", self.next)?;
        self.next += count;
        let mut times = Vec::new();
        for _ in 0..count {
            self.wait_for_line()?;
            let mut line = String::new();
            if self.from.read_line(&mut line)? == 0 {
                return Err("the asking process has ended".into());
            }
            let nanos = line
                .trim()
                .parse()
                .map_err(|_| format!("request: {}", line.trim()))?;
            times.push(Duration::from_nanos(nanos));
        }
        Ok(times)
    }

    /// A requester cannot be interrupted, so one whose kernel starts no program waits for ever.
    fn wait_for_line(&self) -> Result<(), Failure> {
        if !self.from.buffer().is_empty() {
            return Ok(());
        }
        let mut fds = [PollFd::new(self.from.get_ref().as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PATIENCE)? == 0 {
            return Err("a request was not answered within 65 s".into());
        }
        Ok(())
    }
}

impl Drop for Denizen {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It waits for a line that does not come; all its keys go with it.
            let _ = child.kill();
            let _ = child.try_wait();
        }
    }
}
