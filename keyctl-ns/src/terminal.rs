//! The local terminal: changed for a while, and put back by every kind of exit.
//!
//! The settings to return to are kept in one place of the process, so that the guard, a panic and a
//! signal can all restore them, and whoever comes second finds nothing left to do.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use tokio::signal::unix::{SignalKind, signal};

/// Settings of the terminal on standard input from before they were changed.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);
static PANICS: Once = Once::new();
static SIGNALS: Once = Once::new();

/// Puts the terminal on standard input back when dropped.
#[derive(Debug)]
pub struct Restorer(());

impl Restorer {
    /// Stops showing what is typed. Ctrl-C becomes a byte of the input as well, so that it cannot
    /// end the process with the echo off.
    ///
    /// # Errors
    /// `tcgetattr(3)`, `tcsetattr(3)`; `ENOTTY` when standard input is no terminal.
    pub fn hide_echo() -> io::Result<Self> {
        SIGNALS.call_once(restore_on_signals);
        Self::change(|settings| settings.local_modes &= !(LocalModes::ECHO | LocalModes::ISIG))
    }

    /// Passes every byte on as it is typed. Signals are the caller's to handle.
    ///
    /// # Errors
    /// As [`Self::hide_echo`].
    pub fn raw() -> io::Result<Self> {
        Self::change(Termios::make_raw)
    }

    fn change(how: impl FnOnce(&mut Termios)) -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let original = tcgetattr(stdin)?;
        let mut settings = original.clone();
        how(&mut settings);
        PANICS.call_once(restore_on_panic);
        *ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(original);
        let restorer = Self(());
        // What was typed ahead is for the program.
        tcsetattr(stdin, OptionalActions::Drain, &settings)?;
        Ok(restorer)
    }
}

impl Drop for Restorer {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back, if it was changed.
pub fn restore() {
    let original = ORIGINAL
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(original) = original {
        // Nothing can be done about a terminal that went away.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &original);
    }
}

/// Restores before a panic message is printed: afterwards the process may abort.
fn restore_on_panic() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        previous(info);
    }));
}

/// Restores before a signal ends the process.
fn restore_on_signals() {
    thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        let code = runtime.block_on(fatal_signal());
        restore();
        std::process::exit(code);
    });
}

/// Waits for a signal that would end the process; the exit code a shell would show for it.
async fn fatal_signal() -> i32 {
    let kinds = [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
    ];
    let [
        Ok(mut hangup),
        Ok(mut interrupt),
        Ok(mut quit),
        Ok(mut terminate),
    ] = kinds.map(signal)
    else {
        return std::future::pending().await;
    };
    let kind = tokio::select! {
        _ = hangup.recv() => SignalKind::hangup(),
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = quit.recv() => SignalKind::quit(),
        _ = terminate.recv() => SignalKind::terminate(),
    };
    128 + kind.as_raw_value()
}

/// Makes the terminal behind `master` as large as the one on standard input.
pub fn copy_size(master: BorrowedFd<'_>) {
    // A terminal without a size (a serial line) leaves the other one without a size too.
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}

/// Bytes between our own input and output and those of a process, by threads that block.
///
/// Descriptors stay in blocking mode: the open file description of a terminal's other side is shared
/// with the monitor of the container, and that of standard input with the shell.
#[derive(Debug, Default)]
pub struct Relay {
    outputs: Vec<thread::JoinHandle<()>>,
    ended: Arc<AtomicBool>,
}

/// How long the last output may take after the process has ended.
const DRAIN: Duration = Duration::from_millis(50);
/// What Ctrl-D sends.
const END_OF_INPUT: u8 = 4;

impl Relay {
    /// Joins standard input and output to the terminal behind `master`.
    ///
    /// # Errors
    /// When a descriptor cannot be duplicated.
    pub fn terminal(master: OwnedFd) -> io::Result<Self> {
        let mut relay = Self::default();
        relay.input(master.try_clone()?, Some(END_OF_INPUT))?;
        relay.output(master, rustix::stdio::stdout().try_clone_to_owned()?);
        Ok(relay)
    }

    /// Copies standard input to `to`, closes it at the end, and writes `last` before if given.
    ///
    /// The thread is left behind blocked in read(2) at the end of the process.
    ///
    /// # Errors
    /// When standard input cannot be duplicated.
    pub fn input(&mut self, to: OwnedFd, last: Option<u8>) -> io::Result<()> {
        let stdin = File::from(rustix::stdio::stdin().try_clone_to_owned()?);
        thread::spawn(move || pump_input(stdin, File::from(to), last));
        Ok(())
    }

    /// Copies `from` to `to`.
    pub fn output(&mut self, from: OwnedFd, to: OwnedFd) {
        let ended = Arc::clone(&self.ended);
        self.outputs.push(thread::spawn(move || {
            pump_output(&from, File::from(to), &ended)
        }));
    }

    /// Waits until everything the process wrote is shown. Call it after the process has ended:
    /// others may still hold its terminal or pipes open, so silence counts as the end.
    pub fn finish(self) {
        self.ended.store(true, Ordering::Release);
        for output in self.outputs {
            // A panic there was reported already.
            let _ = output.join();
        }
    }
}

fn pump_input(mut from: File, mut to: File, last: Option<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let Some(typed) = buffer.get(..n) else { return };
        if to.write_all(typed).is_err() {
            return;
        }
    }
    if let Some(last) = last {
        // Fails when the process is gone already.
        let _ = to.write_all(&[last]);
    }
}

fn pump_output(from: &OwnedFd, mut to: File, ended: &AtomicBool) {
    let mut buffer = [0; 16384];
    loop {
        let last = ended.load(Ordering::Acquire);
        match readable(from.as_fd()) {
            Ok(false) if last => return,
            Ok(false) => continue,
            Ok(true) => {}
            Err(_) => return,
        }
        // EIO: the last process that had the terminal open is gone.
        let Ok(n @ 1..) = rustix::io::read(from, &mut buffer) else {
            return;
        };
        let Some(shown) = buffer.get(..n) else { return };
        if to.write_all(shown).is_err() {
            return;
        }
    }
}

fn readable(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(DRAIN.subsec_nanos()),
    };
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
        Ok(n) => Ok(n > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}
