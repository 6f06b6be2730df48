//! Keys, mouse and pastes, from a thread that waits for them.
//!
//! The thread waits on the terminal itself before it has crossterm read: crossterm does not notice
//! that a terminal is gone, and would not let go of it while a shell in a container has it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread;
use std::time::Duration;

use crossterm::event;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::stdin;

use crate::message::Message;

/// How long the thread may take to let go of the terminal: at most what it takes to handle one key.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long is waited for more, once there was something; with no time at all nothing is read.
const TURN: Duration = Duration::from_millis(1);

/// The thread, as the program holds it.
#[derive(Debug)]
pub struct Input {
    wake: OwnedFd,
    paused: Receiver<()>,
    resume: Sender<()>,
}

impl Input {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the kernel gives no pipe or thread.
    pub fn start(to: SyncSender<Message>) -> io::Result<Self> {
        let (control, wake) = pipe_with(PipeFlags::CLOEXEC)?;
        let (is_paused, paused) = channel();
        let (resume, go_on) = channel();
        thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || {
                let end = listen(&to, &control, &is_paused, &go_on);
                if end.is_ok() {
                    let _ = to.send(Message::InputEnded);
                }
            })?;
        Ok(Self {
            wake,
            paused,
            resume,
        })
    }

    /// Has the thread leave the terminal alone until [`Self::resume`].
    pub fn pause(&self) {
        if rustix::io::write(&self.wake, b"p").is_ok() {
            // A thread that waits for the rest of a key takes no more than that.
            let _ = self.paused.recv_timeout(PATIENCE);
        }
    }

    /// Has the thread go on.
    pub fn resume(&self) {
        let _ = self.resume.send(());
    }
}

/// The program has ended.
struct Ended;

fn listen(
    to: &SyncSender<Message>,
    control: &OwnedFd,
    is_paused: &Sender<()>,
    go_on: &Receiver<()>,
) -> Result<(), Ended> {
    loop {
        let terminal = stdin();
        let mut watched = [
            PollFd::new(&terminal, PollFlags::IN),
            PollFd::new(control, PollFlags::IN),
        ];
        match poll(&mut watched, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return Ok(()),
        }
        let [terminal, control_now] = watched.map(|fd| fd.revents());
        if !control_now.is_empty() {
            let mut byte = [0];
            if !matches!(rustix::io::read(control, &mut byte), Ok(1)) {
                return Err(Ended);
            }
            is_paused.send(()).map_err(|_| Ended)?;
            go_on.recv().map_err(|_| Ended)?;
            continue;
        }
        if terminal.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Ok(());
        }
        while event::poll(TURN).unwrap_or(false) {
            match event::read() {
                Ok(event) => to.send(Message::Input(event)).map_err(|_| Ended)?,
                Err(_) => return Ok(()),
            }
        }
    }
}
