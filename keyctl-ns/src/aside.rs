//! Printing without waiting for whoever reads.
//!
//! A program that has deadlines to keep must not wait for a pipe that nobody drains. What it has to say
//! goes to a thread of its own; when that is too far behind, lines are dropped, and their number is
//! said as soon as there is room again.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TrySendError};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::CommandError;
use crate::ui::Ui;

/// Lines that may wait for the reader.
const WAITING: usize = 1024;
/// How long the end of the program waits for the reader.
const LAST_WORDS: Duration = Duration::from_secs(1);

type Line = Box<dyn FnOnce(&Ui) -> Result<(), CommandError> + Send>;

/// The thread and the way to it.
pub struct Aside(Mutex<State>);

struct State {
    lines: Option<SyncSender<Line>>,
    /// Lines that were dropped and not reported yet.
    lost: u64,
    /// Never sent to: it ends with the thread.
    ended: Receiver<()>,
    thread: Option<JoinHandle<Result<(), CommandError>>>,
}

impl Aside {
    /// Starts the thread, which prints to `ui`.
    #[must_use]
    pub fn start(ui: Ui) -> Self {
        let (lines, queue) = mpsc::sync_channel::<Line>(WAITING);
        let (running, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            let _running: Sender<()> = running;
            queue.into_iter().try_for_each(|line| line(&ui))
        });
        Self(Mutex::new(State {
            lines: Some(lines),
            lost: 0,
            ended,
            thread: Some(thread),
        }))
    }

    /// Has `line` print something; it is dropped when too many wait.
    ///
    /// # Errors
    /// That of an earlier line: nobody reads any more.
    pub fn print(
        &self,
        line: impl FnOnce(&Ui) -> Result<(), CommandError> + Send + 'static,
    ) -> Result<(), CommandError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = state.lost;
        let confession = move |ui: &Ui| {
            ui.warn(&format!("{lost} lines are missing here: nobody read them"));
            Ok(())
        };
        if lost > 0 && state.send(Box::new(confession))? {
            state.lost = 0;
        }
        // Never a line without the confession before it.
        if state.lost > 0 || !state.send(Box::new(line))? {
            state.lost += 1;
        }
        Ok(())
    }
}

impl State {
    /// False: there is no room.
    fn send(&mut self, line: Line) -> Result<bool, CommandError> {
        match self.lines.as_ref().map(|lines| lines.try_send(line)) {
            Some(Ok(())) => Ok(true),
            Some(Err(TrySendError::Full(_))) => Ok(false),
            None | Some(Err(TrySendError::Disconnected(_))) => {
                match self.thread.take().map(JoinHandle::join) {
                    Some(Ok(Err(error))) => Err(error),
                    _ => Err(CommandError::failure("nothing can be printed any more")),
                }
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // The thread ends when it has printed what waits, which a reader that hangs may prevent.
        self.lines = None;
        let _ = self.ended.recv_timeout(LAST_WORDS);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::ui::Color;

    #[test]
    fn nobody_waits_for_a_reader_that_hangs_and_it_is_told_what_it_missed() {
        let aside = Aside::start(Ui::new(false, false, Color::Never));
        let (go, wait) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel::<()>();
        let hangs = move |_: &Ui| {
            begun.send(()).unwrap();
            let _ = wait.recv();
            Ok(())
        };
        aside.print(hangs).unwrap();
        begins.recv().unwrap();
        let printed = Arc::new(Mutex::new(Vec::new()));
        let line = |n: usize| {
            let printed = Arc::clone(&printed);
            aside.print(move |_| {
                printed.lock().unwrap().push(n);
                Ok(())
            })
        };
        let start = Instant::now();
        (0..WAITING + 5).for_each(|n| line(n).unwrap());
        assert!(start.elapsed() < Duration::from_secs(5));
        let lost = || aside.0.lock().unwrap().lost;
        assert_eq!(lost(), 5);
        drop(go);
        while printed.lock().unwrap().len() < WAITING {
            thread::yield_now();
        }
        line(9999).unwrap();
        assert_eq!(lost(), 0, "said before that line");
        drop(aside);
        let printed = printed.lock().unwrap();
        assert_eq!(printed.len(), WAITING + 1);
        assert_eq!(printed.last(), Some(&9999));
    }

    #[test]
    fn an_error_of_a_line_ends_it() {
        let aside = Aside::start(Ui::new(false, false, Color::Never));
        aside
            .print(|_| Err(CommandError::failure("the reader is gone")))
            .unwrap();
        let error = loop {
            match aside.print(|_| Ok(())) {
                Ok(()) => thread::yield_now(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.message, "the reader is gone");
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let aside = Aside::start(Ui::new(false, false, Color::Never));
        let (_go, wait) = mpsc::channel::<()>();
        aside
            .print(move |_| {
                let _ = wait.recv();
                Ok(())
            })
            .unwrap();
        let start = Instant::now();
        drop(aside);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
