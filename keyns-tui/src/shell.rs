//! A shell in a container. It is a process of its own, this very program started again: relaying a
//! terminal takes threads that read it until their process ends.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyctl_ns::args::User;
use keyctl_ns::command::container::{enter, process};
use keyctl_ns::context::Context;
use keyctl_ns::error::CommandError;
use keyns::name::ContainerPath;
use keyns_interfaces::containers::{Show, State};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process, set_parent_process_death_signal,
    waitid,
};

use crate::client::Named;

/// What a failed shell may say.
const WORDS: u64 = 4096;

/// The process that has the terminal, if there is one.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

fn running() -> MutexGuard<'static, Option<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the process that has the terminal give it back and end.
pub fn hang_up() {
    if let Some(pid) = *running() {
        let _ = kill_process(pid, Signal::HUP);
    }
}

/// In the process of its own: the shell is the first program of a container in which nothing runs.
///
/// # Errors
/// What the daemon says.
pub fn inside(context: &Context, container: &ContainerPath) -> Result<u8, CommandError> {
    // The terminal would be left to a process that nobody waits for.
    let parent = getppid();
    let _ = set_parent_process_death_signal(Some(Signal::HUP));
    if getppid() != parent {
        return Ok(1);
    }
    let show = Show {
        container: container.to_string(),
    };
    let shown = context.daemon()?.call(&show)?;
    let user = User { uid: 0, gid: 0 };
    if shown.container.state != State::Created {
        let container = container.clone();
        return enter::run(context, &enter::EnterArgs { container, user });
    }
    let program = process::Program {
        container: container.clone(),
        command: vec!["/bin/sh".into()],
        environment: Vec::new(),
        user,
        file: None,
        terminal: process::Terminal::Always,
        first: true,
    };
    process::foreground(context, &program)
}

/// Starts that process and waits for its end; returns what is to be said of it. The terminal is the
/// shell's meanwhile.
///
/// # Errors
/// Why there was no shell.
pub fn run(container: &Named) -> Result<String, CommandError> {
    let name = keyctl_ns::view::safe(&container.name);
    let what = || format!("cannot open a shell in container “{name}”");
    let failed = |error: std::io::Error| CommandError::io(what(), &error);
    // The file that runs, whatever lies at its path by now.
    let mut child = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .arg("--shell")
        .arg(container.id.to_string())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    *running() = Some(Pid::from_child(&child));
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut all = stderr;
        let _ = (&mut all).take(WORDS).read_to_end(&mut said);
        // What is beyond that keeps nobody from writing it.
        let _ = std::io::copy(&mut all, &mut std::io::sink());
    }
    // Its number is its own until it is waited for.
    let pid = Pid::from_child(&child);
    let _ = waitid(
        WaitId::Pid(pid),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    );
    *running() = None;
    let status = child.wait().map_err(failed)?;
    let said = String::from_utf8_lossy(&said);
    let mut words = said.lines().filter_map(|line| {
        let line = line.trim();
        (!line.is_empty()).then(|| keyctl_ns::view::safe(line))
    });
    let (code, first) = (status.code().unwrap_or(-1), words.next());
    match first {
        Some(first) if code != 0 && first.starts_with("error: ") => {
            let message = first.trim_start_matches("error: ").to_owned();
            let rest: Vec<String> = words.collect();
            let error = CommandError::failure(what()).cause(message);
            Err(match rest.is_empty() {
                true => error,
                false => error.hint(rest.join("; ")),
            })
        }
        _ => Ok(format!(
            "the shell in container “{name}” has ended with {code}"
        )),
    }
}
