//! `watch_session`: a program in a session keyring that is watched.
//!
//! Three processes: this one, which waits for the other two; a monitor, which writes down what the
//! queue reports; the program. `SIGTERM` is blocked before the monitor exists and reaches it through
//! a descriptor, so that no instant is left in which it would end without its last line, or not at
//! all.

use std::ffi::{CStr, OsStr};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

use keyns_sys::KeySerial;
use keyns_sys::execute;
use keyns_sys::helper_process;
use keyns_sys::process::{self, Ending, Fork, ForkOptions, SingleThreaded};
use keyns_sys::watch_queue;

use super::command::Call;
use super::notification::Record;
use super::options::{self, Order};
use super::session;
use super::stop::{Stop, errno, failed};
use super::watch::{self, Log, MAIN_WATCH, Queue};

/// Where a program is told the number of its descriptor.
const VARIABLE: &str = "KEYCTL_WATCH_FD";

/// The two files: one for the ends of keys, one for all the rest.
struct Files {
    notices: File,
    ends: File,
    debug: bool,
    read: usize,
}

impl Log for Files {
    fn line(&mut self, line: &[u8], is_end_of_key: bool) {
        let file = if is_end_of_key {
            &mut self.ends
        } else {
            &mut self.notices
        };
        // A full disk is no reason to end the session.
        let _ = file.write_all(line);
    }

    fn size(&mut self, size: usize) {
        self.read = size;
        if self.debug {
            let mut line = Vec::new();
            watch::push_size(&mut line, size);
            super::say(&line);
        }
    }

    fn raw(&mut self, record: &Record) {
        if self.debug {
            let mut line = Vec::new();
            watch::push_raw(&mut line, self.read, record);
            super::say(&line);
        }
    }

    fn terminated(&mut self) {
        for file in [&mut self.notices, &mut self.ends] {
            let _ = file.write_all(b"Monitoring terminated\n");
        }
    }
}

fn log(name: &CStr) -> Result<File, Stop> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(OsStr::from_bytes(name.to_bytes()))
        .map_err(|error| Stop::Failed(name.to_bytes().to_vec(), errno(&error)))
}

/// `watch_session [-d] [-f <filters>] [-n <name>] <notifylog> <gclog> <fd> <prog> [<arg>...]`
pub(crate) fn watch_session(call: &mut Call<'_>) -> Result<i32, Stop> {
    let parsed = options::parse(call.words, b"d", b"fn", Order::First);
    let filter = watch::filter_of(&parsed.options)?;
    if let Some(fault) = parsed.fault {
        return Err(fault.stop("watch_session"));
    }
    let [notices, ends, number, program @ ..] = &parsed.operands[..] else {
        return Err(Stop::Usage);
    };
    if program.is_empty() {
        return Err(Stop::Usage);
    }
    let number = watch::target(number)?;
    let has = |wanted| parsed.options.iter().any(|(letter, _)| *letter == wanted);
    // The last one counts. It came as a word of its own or the end of one, so that it ends in NUL.
    let name = parsed.options.iter().rev().find(|(l, _)| *l == b'n');
    let name = name.and_then(|(_, value)| std::ffi::CString::new(value.unwrap_or_default()).ok());

    let single = SingleThreaded::prove().map_err(failed("fork"))?;
    let Queue {
        read_end,
        write_end,
    } = Queue::open(filter)?;
    let read_end = away_from(read_end, number)?;
    watch_queue::move_to(write_end, number).map_err(failed("dup2"))?;
    let mut files = Files {
        notices: log(notices)?,
        ends: log(ends)?,
        debug: has(b'd'),
        read: 0,
    };

    let termination = helper_process::catch_termination().map_err(failed("sigaction"))?;
    let monitor = match fork(&single)? {
        None => return watch::monitor(read_end.as_fd(), termination.as_fd(), &mut files),
        Some(monitor) => monitor,
    };
    helper_process::release_termination();
    drop((read_end, files, termination));
    let started = start(&single, name.as_deref(), number);
    match started {
        Ok(Some(program)) => wait_for(&monitor, &program),
        Ok(None) => Err(session::become_program(program)),
        Err(stop) => {
            // It may have ended by itself.
            let _ = process::terminate(monitor.pidfd.as_fd());
            let _ = process::wait_child();
            Err(stop)
        }
    }
}

/// Moves the end to read from out of the way of the number that the other end is to have.
fn away_from(read_end: OwnedFd, number: RawFd) -> Result<OwnedFd, Stop> {
    if read_end.as_raw_fd() != number {
        return Ok(read_end);
    }
    // The copy is the lowest free number, and this one is in use.
    read_end.try_clone().map_err(failed("dup"))
}

struct Child {
    pid: u32,
    pidfd: OwnedFd,
}

/// Makes a child process; `None` in the child.
fn fork(single: &SingleThreaded) -> Result<Option<Child>, Stop> {
    match process::fork(single, ForkOptions::default()).map_err(failed("fork"))? {
        Fork::Child => Ok(None),
        Fork::Parent { pid, pidfd } => Ok(Some(Child { pid, pidfd })),
    }
}

/// Joins the session keyring, has it watched and makes the process for the program; `None` in it.
fn start(
    single: &SingleThreaded,
    name: Option<&CStr>,
    number: RawFd,
) -> Result<Option<Child>, Stop> {
    let serial = session::join(name)?;
    watch_queue::watch_key(KeySerial::SESSION, number, MAIN_WATCH)
        .map_err(failed("keyctl_watch_key/session"))?;
    session::announce(serial);
    let child = fork(single).inspect_err(|_| {
        let _ = watch_queue::watch_key(KeySerial::SESSION, number, -1);
    })?;
    if child.is_none() {
        execute::set_variable(single, VARIABLE, &number.to_string());
    }
    Ok(child)
}

/// Waits for both; the end of one is the end of the other.
fn wait_for(monitor: &Child, program: &Child) -> Result<i32, Stop> {
    let (mut of_monitor, mut of_program) = (None, None);
    while of_monitor.is_none() || of_program.is_none() {
        let (pid, ending) = process::wait_child().map_err(failed("wait"))?;
        let status = match ending {
            Ending::Exited(status) => status,
            Ending::Killed(signal) => 128 + signal,
        };
        let other = if pid == monitor.pid {
            of_monitor = Some(status);
            program
        } else if pid == program.pid {
            of_program = Some(status);
            monitor
        } else {
            continue;
        };
        // It may have ended too.
        let _ = process::terminate(other.pidfd.as_fd());
    }
    Ok(match (of_monitor, of_program) {
        (Some(status), _) if status != 0 => status,
        (_, status) => status.unwrap_or(1),
    })
}
