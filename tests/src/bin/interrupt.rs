//! Stops a command before everything it changes, and ends it there as a fault would.
//!
//!     interrupt WHEN CHECK COMMAND [ARGUMENT…]
//!
//! At stop number WHEN, counted from one, the command is killed and the exit status is 137. With 0 it
//! runs to its end, the number of stops is printed, and at each of them CHECK, a shell command, is run
//! and must succeed.
//!
//! Stops are the entries of system calls that change a directory, and those that make a process: a
//! program started by the command ends before the next one. The numbers are those of x86-64, on
//! which alone there is a lab.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

type Failure = Box<dyn std::error::Error>;

const CHANGES: [i64; 8] = [
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
];
/// These change something where there is such a file, or none.
const REMOVALS: [i64; 2] = [libc::SYS_unlink, libc::SYS_rmdir];
/// Offsets of `orig_rax` and `rdi` in `struct user`.
const NUMBER: usize = 15 * 8;
const ARGUMENT: usize = 14 * 8;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("interrupt: {failure}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [when, check, command @ ..] = &words[..] else {
        return Err("usage: interrupt WHEN CHECK COMMAND [ARGUMENT…]".into());
    };
    let when: u32 = when.parse()?;
    let child = Command::new("sh")
        .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
        .args(command)
        .spawn()?;
    let pid = Pid::from_raw(child.id().try_into()?);
    waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(pid, options)?;
    kill(pid, Signal::SIGCONT)?;
    let (mut executed, mut entry, mut stops) = (false, false, 0);
    loop {
        match waitpid(pid, None)? {
            WaitStatus::Exited(_, code) => {
                println!("{stops}");
                return Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from));
            }
            WaitStatus::Signaled(_, signal, _) => return Err(format!("ended by {signal}").into()),
            // Of the shell's own execve(2); the exit of that call follows.
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => {
                (executed, entry) = (true, true);
            }
            WaitStatus::PtraceSyscall(_) => {
                entry = !entry;
                if executed && entry && changes(pid)? {
                    stops += 1;
                    if stops == when {
                        kill(pid, Signal::SIGKILL)?;
                        waitpid(pid, None)?;
                        return Ok(ExitCode::from(137));
                    }
                    if when == 0 && !Command::new("bash").args(["-c", check]).status()?.success() {
                        return Err(format!("at stop {stops} this fails: {check}").into());
                    }
                }
            }
            _ => {}
        }
        ptrace::syscall(pid, None)?;
    }
}

/// Whether the system call that is entered is to be stopped at.
fn changes(pid: Pid) -> nix::Result<bool> {
    let number = ptrace::read_user(pid, NUMBER as ptrace::AddressType)?;
    if REMOVALS.contains(&number) || number == libc::SYS_mkdir {
        let path = text(
            pid,
            ptrace::read_user(pid, ARGUMENT as ptrace::AddressType)?,
        )?;
        let exists = path.symlink_metadata().is_ok();
        // What is below /run are locks, which end with the process, and their directory.
        return Ok(!path.starts_with("/run") && exists == REMOVALS.contains(&number));
    }
    Ok(CHANGES.contains(&number))
}

/// The text at an address of the process.
fn text(pid: Pid, address: i64) -> nix::Result<PathBuf> {
    let mut bytes = Vec::new();
    loop {
        let next = address + i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let word = ptrace::read(pid, next as ptrace::AddressType)?.to_ne_bytes();
        let end = word.iter().position(|byte| *byte == 0);
        bytes.extend_from_slice(&word[..end.unwrap_or(word.len())]);
        if end.is_some() {
            return Ok(OsString::from_vec(bytes).into());
        }
    }
}
