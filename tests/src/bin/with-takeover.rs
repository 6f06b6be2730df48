//! Runs a command while `/sbin/request-key` leads to `keyns-upcall`, and gives it back afterwards.
//!
//!     with-takeover PROGRAMS COMMAND [ARGUMENT…]
//!
//! Before and after, what killed tests have left is removed. The command gets a process group of its
//! own, so that an interrupt reaches all it has started, and the take-over outlives all of it.

use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use keyns::takeover::{TakeOver, TakeOverError, take_over};
use keyns_tests::leftovers;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

/// How long to wait for another run of the tests, of another build, to end.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            tell(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(programs), Some(command)) = (arguments.next(), arguments.next()) else {
        return Err("usage: with-takeover PROGRAMS COMMAND [ARGUMENT…]".into());
    };
    let programs = Path::new(&programs);
    let mut endings = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        endings.add(signal);
    }
    // In this thread and those it makes.
    endings.thread_block()?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;

    let taken = take(&programs.join("keyns-upcall"))?;
    clean(programs)?;
    // The command inherits the mask, and its tests need these signals. One that comes in this
    // instant ends us; the next run undoes the take-over then.
    endings.thread_unblock()?;
    let child = Command::new(command)
        .args(arguments)
        .env("KEYNS_TAKEN_OVER", "1")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn();
    endings.thread_block()?;
    let mut child = child?;
    let group = Pid::from_raw(child.id().try_into()?);
    std::thread::spawn(move || {
        while let Ok(signal) = endings.wait() {
            // Gone already: then the main thread is about to end as well.
            let _ = killpg(group, signal);
        }
    });
    let status = child.wait()?;
    clean(programs)?;
    if !taken.give_back()? {
        tell("another process still uses the take-over of /sbin/request-key");
    }
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

fn take(upcall: &Path) -> Result<TakeOver, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        match take_over(upcall) {
            Err(TakeOverError::Held { by }) if Instant::now() < deadline => {
                if !told {
                    tell(&format!(
                        "/sbin/request-key is in use by {by}; waiting for its end"
                    ));
                    told = true;
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            other => return Ok(other?),
        }
    }
}

fn clean(programs: &Path) -> Result<(), Failure> {
    for instance in leftovers::remove(programs)? {
        tell(&format!(
            "removed what a killed test has left: instance {instance}"
        ));
    }
    Ok(())
}

fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "with-takeover: {line}");
}
