//! The terminal: taken over while the program is on screen, and given back by every kind of exit.
//!
//! What is to be restored is kept in one place of the process, so that the guard, a panic, a signal
//! and a shell that takes over for a while can all restore it, and whoever comes second finds nothing
//! left to do. It is written past the locks of the standard library: a panic may hold them.

use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use keyctl_ns::error::CommandError;
use ratatui::backend::CrosstermBackend;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{
    OptionalActions, QueueSelector, Termios, isatty, tcflush, tcgetattr, tcsetattr,
};

/// Where frames go.
pub type Backend = CrosstermBackend<BufWriter<File>>;

/// The settings from before, while they are changed.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);
static HAS_MOUSE: AtomicBool = AtomicBool::new(false);
static PANICS: Once = Once::new();

// Alternate screen, cleared; bracketed paste.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[2J\x1b[?2004h";
// Presses, movements with a button held, coordinates beyond 223.
const MOUSE: &[u8] = b"\x1b[?1000h\x1b[?1002h\x1b[?1006h";
const NO_MOUSE: &[u8] = b"\x1b[?1006l\x1b[?1002l\x1b[?1000l";
// Colours, paste, screen, cursor.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?2004l\x1b[?1049l\x1b[?25h";

/// How long a terminal may take what gives it back, if it has taken nothing for a while.
const LAST: Duration = Duration::from_millis(500);

/// Has the terminal as long as it lives.
#[derive(Debug)]
pub struct Guard(());

impl Guard {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When standard input and output are no terminal, or one that cannot do what is needed.
    pub fn new(mouse: bool) -> Result<Self, CommandError> {
        let refused = |cause: &str| {
            CommandError::usage("cannot draw here").cause(cause).hint(
                "keyctl-ns tree, keyctl-ns watch and keyctl-ns upcalls print the same as text",
            )
        };
        if !isatty(stdin()) || !isatty(stdout()) {
            return Err(refused("standard input and output must be a terminal"));
        }
        match std::env::var("TERM").as_deref() {
            Err(_) | Ok("") => {
                return Err(refused(
                    "TERM is not set, so nothing is known of the terminal",
                ));
            }
            Ok("dumb") => {
                return Err(refused(
                    "TERM is “dumb”: the terminal cannot move its cursor",
                ));
            }
            Ok(_) => {}
        }
        HAS_MOUSE.store(mouse, Ordering::Relaxed);
        PANICS.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                leave();
                previous(info);
            }));
        });
        enter().map_err(|error| CommandError::io("cannot take the terminal over", &error))?;
        Ok(Self(()))
    }

    /// What draws on it.
    ///
    /// # Errors
    /// When standard output cannot be duplicated.
    pub fn backend(&self) -> Result<Backend, CommandError> {
        // Whether there are colours is up to the theme, which knows NO_COLOR and --theme. Left to
        // itself, crossterm would write empty colours instead, which take bold and reverse away.
        crossterm::style::force_color_output(true);
        let out = stdout()
            .try_clone_to_owned()
            .map_err(|error| CommandError::io("cannot draw", &error))?;
        Ok(CrosstermBackend::new(BufWriter::with_capacity(
            1 << 16,
            File::from(out),
        )))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        leave();
    }
}

/// Takes the terminal over, also when somebody else has changed it meanwhile.
///
/// # Errors
/// `tcgetattr(3)`, `tcsetattr(3)`, `write(2)`.
pub fn enter() -> io::Result<()> {
    let mut original = ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner);
    let before = match original.take() {
        Some(before) => before,
        None => tcgetattr(stdin())?,
    };
    let mut raw = before.clone();
    raw.make_raw();
    *original = Some(before);
    tcsetattr(stdin(), OptionalActions::Now, &raw)?;
    write(ENTER)?;
    if HAS_MOUSE.load(Ordering::Relaxed) {
        write(MOUSE)?;
    }
    Ok(())
}

/// Gives the terminal back, if it was taken over.
pub fn leave() {
    let original = ORIGINAL
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(original) = original else { return };
    // Nothing can be done about a terminal that went away.
    if HAS_MOUSE.load(Ordering::Relaxed) {
        let _ = write(NO_MOUSE);
    }
    let _ = write(LEAVE);
    // What was typed blindly is not for the shell.
    let _ = tcsetattr(stdin(), OptionalActions::Flush, &original);
}

/// Same for a terminal that takes nothing any more, within a limited time, and without what was written before.
pub fn abandon() {
    let (done, is_done) = std::sync::mpsc::channel();
    let leaving = std::thread::Builder::new().spawn(move || {
        // What waits to be written would wait before what is written now.
        let _ = tcflush(stdout(), QueueSelector::OFlush);
        leave();
        let _ = done.send(());
    });
    if leaving.is_ok() {
        let _ = is_done.recv_timeout(LAST);
    }
}

fn write(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(stdout(), bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
