//! A terminal with a program in it: what is typed, what is on the screen, in which modes it is.

use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroU16;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::instance::PATIENCE;

/// How long the reading thread holds on to a terminal that nobody else has.
const TURN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// What the program has written so far.
struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

/// A terminal and the program that was started in it.
pub struct Terminal {
    /// The program.
    pub child: Child,
    master: Option<Arc<OwnedFd>>,
    /// Kept open, so that the modes can be looked at when the program has ended.
    slave: File,
    seen: Arc<Mutex<Seen>>,
    takes: Arc<AtomicBool>,
    before: Modes,
}

/// Everything that a program can leave changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes {
    line: String,
    alternate_screen: bool,
    bracketed_paste: bool,
    mouse: String,
    hidden_cursor: bool,
    application: bool,
    attributes: String,
}

impl Terminal {
    /// Starts a program in a terminal of so many columns and rows, of which it has control.
    ///
    /// # Panics
    /// When the kernel gives no terminal.
    #[must_use]
    pub fn start(command: &Command, columns: u16, rows: u16) -> Self {
        // setsid makes the terminal the controlling one, as a login does.
        let mut whole = Command::new("setsid");
        whole.args(["--ctty", "--"]).arg(command.get_program());
        whole.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => whole.env(name, value),
                None => whole.env_remove(name),
            };
        }
        Self::start_without_control(&mut whole, columns, rows)
    }

    /// Same in a terminal that controls nobody, so that its end comes without a signal.
    ///
    /// # Panics
    /// When the kernel gives no terminal.
    #[must_use]
    pub fn start_without_control(command: &mut Command, columns: u16, rows: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = File::from(rustix::fs::open(&name, flags, Mode::empty()).unwrap());
        tcsetwinsize(&master, size(columns, rows)).unwrap();
        let seen = Arc::new(Mutex::new(Seen {
            parser: vt100::Parser::new(some(rows), some(columns), 0),
            bytes: Vec::new(),
        }));
        let before = modes(&slave, &seen.lock().unwrap());
        let child = command
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        let master = Arc::new(master);
        let (reading, writing) = (Arc::downgrade(&master), Arc::clone(&seen));
        let takes = Arc::new(AtomicBool::new(true));
        let may_take = Arc::clone(&takes);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            // The terminal is gone when the last of its descriptors is closed.
            while let Some(master) = reading.upgrade() {
                if !may_take.load(Ordering::Relaxed) {
                    drop(master);
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                let mut watched = [PollFd::new(&*master, PollFlags::IN)];
                match poll(&mut watched, Some(&TURN)) {
                    Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                    Ok(_) => {}
                    Err(_) => return,
                }
                match rustix::io::read(&*master, &mut buffer) {
                    Ok(length @ 1..) => {
                        let mut seen = writing.lock().unwrap();
                        let bytes = buffer.get(..length).unwrap_or_default();
                        seen.parser.process(bytes);
                        seen.bytes.extend_from_slice(bytes);
                    }
                    _ => return,
                }
            }
        });
        Self {
            child,
            master: Some(master),
            slave,
            seen,
            takes,
            before,
        }
    }

    /// From now on the terminal takes nothing that is written to it.
    pub fn freeze(&self) {
        self.takes.store(false, Ordering::Relaxed);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Presses keys, or sends what a terminal sends.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&self, keys: &str) {
        let master = self.master.as_ref().unwrap();
        let mut keyboard = File::from(master.try_clone().unwrap());
        keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives the terminal another size.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        let mut seen = self.seen();
        seen.parser.screen_mut().set_size(some(rows), some(columns));
        tcsetwinsize(self.master.as_ref().unwrap(), size(columns, rows)).unwrap();
    }

    /// The text on the screen, a line for each row.
    #[must_use]
    pub fn text(&self) -> String {
        self.seen().parser.screen().contents()
    }

    /// The text of one row.
    #[must_use]
    pub fn row(&self, row: usize) -> String {
        self.text().lines().nth(row).unwrap_or_default().to_owned()
    }

    /// Looks at the screen as a terminal has it.
    pub fn look<T>(&self, at: impl FnOnce(&vt100::Screen) -> T) -> T {
        at(self.seen().parser.screen())
    }

    /// Everything that was written to the terminal.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.seen().bytes.clone()
    }

    /// Waits until the screen is as `condition` says.
    ///
    /// # Panics
    /// When it is not in time.
    #[track_caller]
    pub fn until(&self, what: &str, mut condition: impl FnMut(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if condition(&text) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not in time: {what}; the screen shows:\n{text}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a text is on the screen.
    ///
    /// # Panics
    /// When it is not in time.
    #[track_caller]
    pub fn shows(&self, part: &str) {
        self.until(&format!("“{part}”"), |text| text.contains(part));
    }

    /// The modes of the terminal.
    #[must_use]
    pub fn modes(&self) -> Modes {
        modes(&self.slave, &self.seen())
    }

    /// Waits until all modes are as they were before the program was started.
    ///
    /// # Panics
    /// When they are not in time.
    #[track_caller]
    pub fn is_as_before(&self) {
        let deadline = Instant::now() + PATIENCE;
        // What the program wrote last may still be on its way.
        while self.modes() != self.before {
            assert!(
                Instant::now() < deadline,
                "{:?}\n is not as it was:\n{:?}\n{}",
                self.modes(),
                self.before,
                self.text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a program has the terminal: raw, on its other screen, in the modes that it wants.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        let modes = self.modes();
        modes.alternate_screen && modes.bracketed_paste && modes.line != self.before.line
    }

    /// The program's process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for the end of the program.
    ///
    /// # Panics
    /// When it does not come in time.
    #[track_caller]
    pub fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end; the screen shows:\n{}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes the terminal away from the program.
    ///
    /// # Panics
    /// When it was taken away before.
    pub fn hang_up(&mut self) {
        drop(self.master.take().unwrap());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the screen\n{}", self.text());
        }
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn some(cells: u16) -> NonZeroU16 {
    NonZeroU16::new(cells).unwrap()
}

fn modes(slave: &File, seen: &Seen) -> Modes {
    let screen = seen.parser.screen();
    let line: Termios = tcgetattr(slave.as_fd()).unwrap();
    Modes {
        line: format!("{line:?}"),
        alternate_screen: screen.alternate_screen(),
        bracketed_paste: screen.bracketed_paste(),
        mouse: format!("{:?}", screen.mouse_protocol_mode()),
        hidden_cursor: screen.hide_cursor(),
        application: screen.application_cursor() || screen.application_keypad(),
        attributes: screen.attributes_formatted(),
    }
}
