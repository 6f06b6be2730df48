//! The dashboard: frames of its real state and loop, and the real program in a terminal.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use keyctl_ns::error::CommandError;
use keyns_interfaces::ByteText;
use keyns_interfaces::event::Event as Happening;
use keyns_interfaces::keys::KeyInfo;
use keyns_sys::key;
use keyns_tests::terminal::Terminal as Pty;
use keyns_tests::{bin_dir, unique};
use keyns_tui::app::shared::Options;
use keyns_tui::app::{App, Setup};
use keyns_tui::client::{Answer, Failure as Refusal, Members, OwnKeyring, Reply, Request};
use keyns_tui::keymap::Keymap;
use keyns_tui::message::{Effect, Feed, Message};
use keyns_tui::run::{Clock, World as Outside, drive};
use keyns_tui::text::Users;
use keyns_tui::theme;
use ratatui::Terminal;
use ratatui::backend::{Backend, ClearType, TestBackend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Position, Size};

use crate::Failure;
use crate::sample::Sample;
use crate::table::Row;
use crate::world::World;

const SESSION: i32 = 900_000_001;
const MANY: i32 = 100_000;
const FRAMES: usize = 1_000;
const FRAME: Duration = Duration::from_millis(1);
const PRESSES: usize = 300;
const REACTION: Duration = Duration::from_millis(16);
const EVENTS: u64 = 1_000;
const KEYS_AT_START: usize = 10_000;
const STARTS: usize = 20;
const START: Duration = Duration::from_millis(100);
const WATCHED: usize = 1_000;
const IDLE: Duration = Duration::from_secs(20);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// # Errors
/// The first thing that cannot be measured.
pub(crate) fn measure() -> Result<Vec<Row>, Failure> {
    let mut rows = vec![frames()?];
    rows.extend(presses()?);
    rows.push(starts()?);
    rows.extend(idle()?);
    Ok(rows)
}

fn app(clock: &Clock) -> App {
    App::new(Setup {
        theme: theme::Name::default(),
        keymap: Keymap::default(),
        options: Options {
            read_only: false,
            unicode: true,
        },
        users: Users::read(),
        uid: 0,
        now: clock.now(),
    })
}

fn key_info(serial: i32, type_: &str, description: String) -> KeyInfo {
    KeyInfo {
        serial,
        type_: type_.to_owned(),
        description: ByteText(description.into_bytes()),
        uid: 0,
        gid: 0,
        mask: 0x3f3f_0000,
        expires_in: None,
        container: None,
        origin: "own".to_owned(),
        grants: Vec::new(),
    }
}

/// A kernel with so many keys in the session keyring, which answers at once.
struct Kernel {
    members: Vec<KeyInfo>,
}

impl Kernel {
    fn with(keys: i32) -> Self {
        let one = |at| key_info(at, "user", format!("key number {at}"));
        Self {
            members: (1..=keys).map(one).collect(),
        }
    }

    fn answer(&self, request: &Request) -> Result<Reply, Refusal> {
        match request {
            Request::Own => Ok(Reply::Own(vec![OwnKeyring {
                name: "@s",
                title: "your session",
                key: key_info(SESSION, "keyring", "_ses".to_owned()),
            }])),
            Request::Members(_) => Ok(Reply::Members(Members {
                keys: self.members.clone(),
                hidden: 0,
            })),
            Request::Users => Ok(Reply::Users(Vec::new())),
            Request::Containers => Ok(Reply::Containers(Vec::new())),
            other => Err(Refusal::failure(format!("nobody answers {other:?}"))),
        }
    }
}

impl Outside for Kernel {
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Answer>, CommandError> {
        Ok(match effect {
            Effect::Ask(ticket, request) => Some(Answer {
                ticket,
                result: self.answer(&request),
                request,
            }),
            _ => None,
        })
    }
}

fn press(code: KeyCode, modifiers: KeyModifiers) -> Message {
    Message::Input(Input::Key(KeyEvent::new(code, modifiers)))
}

/// Frames at 80x24, after each of which the cursor is somewhere else in a hundred thousand keys.
fn frames() -> Result<Row, Failure> {
    let clock = Clock::start();
    let mut app = app(&clock);
    let mut kernel = Kernel::with(MANY);
    let mut terminal = Terminal::new(TestBackend::new(80, 24))?;
    let mut effects: VecDeque<Effect> = app.start().into();
    let mut update = |app: &mut App, message: Option<Message>| -> Result<(), Failure> {
        effects.extend(
            message
                .into_iter()
                .flat_map(|it| app.update(it, clock.now())),
        );
        while let Some(effect) = effects.pop_front() {
            if let Some(answer) = kernel.carry_out(effect)? {
                effects.extend(app.update(Message::Answer(Box::new(answer)), clock.now()));
            }
        }
        Ok(())
    };
    update(&mut app, None)?;
    let shown = |terminal: &Terminal<TestBackend>| {
        let cells = terminal.backend().buffer().content();
        cells.iter().map(Cell::symbol).collect::<String>()
    };
    let mut times = Vec::with_capacity(FRAMES);
    for at in 0..FRAMES {
        let key = match at % 20 {
            0 => KeyCode::End,
            10 => KeyCode::Home,
            5 | 15 => KeyCode::PageUp,
            1..=4 => KeyCode::Up,
            _ => KeyCode::Down,
        };
        update(&mut app, Some(press(key, KeyModifiers::NONE)))?;
        let begun = Instant::now();
        terminal.draw(|frame| app.draw(frame))?;
        times.push(begun.elapsed());
        if at == 0 && !shown(&terminal).contains(&format!("key number {MANY}")) {
            return Err(format!("the last key is not on the screen: {}", shown(&terminal)).into());
        }
    }
    let what = format!("dashboard: frame at 80x24, {MANY} keys in the tree");
    Ok(Row::limit(what, &Sample::new(times)?, FRAME))
}

/// A screen that tells of each frame: when it was there, and its second line.
struct Watched {
    screen: TestBackend,
    frames: Sender<(Instant, String)>,
}

impl Backend for Watched {
    type Error = Infallible;

    fn draw<'a, I>(&mut self, content: I) -> Result<(), Infallible>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        self.screen.draw(content)
    }

    fn hide_cursor(&mut self) -> Result<(), Infallible> {
        self.screen.hide_cursor()
    }

    fn show_cursor(&mut self) -> Result<(), Infallible> {
        self.screen.show_cursor()
    }

    fn get_cursor_position(&mut self) -> Result<Position, Infallible> {
        self.screen.get_cursor_position()
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> Result<(), Infallible> {
        self.screen.set_cursor_position(position)
    }

    fn clear(&mut self) -> Result<(), Infallible> {
        self.screen.clear()
    }

    fn clear_region(&mut self, clear_type: ClearType) -> Result<(), Infallible> {
        self.screen.clear_region(clear_type)
    }

    fn size(&self) -> Result<Size, Infallible> {
        self.screen.size()
    }

    fn window_size(&mut self) -> Result<WindowSize, Infallible> {
        self.screen.window_size()
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        let now = Instant::now();
        let cells = self.screen.buffer().content();
        let line = cells.iter().skip(80).take(80).map(Cell::symbol).collect();
        let _ = self.frames.send((now, line));
        self.screen.flush()
    }
}

/// The time from a key to the frame that shows what it did, in the real loop, while events arrive.
fn presses() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (page, name) in [('1', "Keys"), ('4', "Events")] {
        let (to, inbox) = sync_channel(1024);
        let (frames, seen) = channel();
        let program = thread::spawn(move || run_loop(&inbox, frames));
        let (stop, stopped) = channel::<()>();
        let events = {
            let to = to.clone();
            thread::spawn(move || flood(&to, &stopped))
        };
        to.send(press(KeyCode::Char(page), KeyModifiers::NONE))?;
        thread::sleep(Duration::from_millis(500));
        let mut times = Vec::with_capacity(PRESSES);
        for at in 0..PRESSES {
            // Help comes and goes: on every page, and nothing else draws it.
            let opens = at % 2 == 0;
            let key = match opens {
                true => press(KeyCode::Char('?'), KeyModifiers::NONE),
                false => press(KeyCode::Char('c'), KeyModifiers::CONTROL),
            };
            while seen.try_recv().is_ok() {}
            let begun = Instant::now();
            to.send(key)?;
            let shown = loop {
                let (when, line) = seen.recv_timeout(PATIENCE)?;
                if line.contains(" Help ") == opens {
                    break when;
                }
            };
            times.push(shown.saturating_duration_since(begun));
            thread::sleep(Duration::from_millis(7));
        }
        drop(stop);
        let sent = events.join().map_err(|_| "the events failed")?;
        to.send(press(KeyCode::Char('q'), KeyModifiers::NONE))?;
        program.join().map_err(|_| "the loop failed")??;
        let sample = Sample::new(times)?;
        let what = format!("dashboard: key to frame on page {name}, {sent:.0} events/s");
        rows.push(Row::limit(&what, &sample, REACTION));
        rows.push(Row::limit(
            format!("{what}, p95"),
            &sample.of_p95()?,
            REACTION,
        ));
    }
    Ok(rows)
}

fn run_loop(inbox: &Receiver<Message>, frames: Sender<(Instant, String)>) -> Result<(), Failure> {
    let clock = Clock::start();
    let mut app = app(&clock);
    let screen = TestBackend::new(80, 24);
    let mut terminal = Terminal::new(Watched { screen, frames })?;
    drive(
        &mut app,
        &mut terminal,
        inbox,
        &mut Kernel::with(1_000),
        &clock,
    )
    .map_err(|error| error.message)?;
    Ok(())
}

/// Sends a thousand events per second, evenly; returns how many per second there were.
fn flood(to: &std::sync::mpsc::SyncSender<Message>, stopped: &Receiver<()>) -> f64 {
    let begun = Instant::now();
    let mut sent = 0_u64;
    while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
        let due = begun.elapsed().as_millis() as u64 * EVENTS / 1000;
        while sent < due {
            let event = Happening {
                event: "key-updated".to_owned(),
                time_ms: sent,
                dropped: 0,
                container: None,
                key: Some(KeyInfo {
                    container: Some(format!("web{}", sent % 10)),
                    ..key_info(1 + (sent % 1_000) as i32, "user", format!("token {sent}"))
                }),
                grant: None,
                upcall: None,
            };
            if to
                .send(Message::Feed(Box::new(Feed::Event(Box::new(event)))))
                .is_err()
            {
                return 0.0;
            }
            sent += 1;
        }
        thread::sleep(Duration::from_micros(500));
    }
    sent as f64 / begun.elapsed().as_secs_f64()
}

/// The real program, as it is installed.
fn program(instance: &str) -> Command {
    let mut command = Command::new(bin_dir().join("keyns-tui"));
    command
        .args(["--instance", instance])
        .env("TERM", "xterm-256color")
        .env("LC_ALL", "C.UTF-8")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("KEYNS_SOCKET")
        .env_remove("NO_COLOR");
    command
}

/// Gives this thread, and what it starts, a session keyring with so many keys.
fn fill_session(keys: usize) -> Result<(), Failure> {
    let session = key::join_session_keyring(None)?;
    for at in 0..keys {
        let description = std::ffi::CString::new(format!("bench:{at}"))?;
        key::add_key(c"user", &description, b"x", session)?;
    }
    Ok(())
}

/// From the start of the process to keys on the screen.
fn starts() -> Result<Row, Failure> {
    let nobody = unique("nobody");
    let times = thread::spawn(move || -> Result<Vec<Duration>, String> {
        let text = |failure: Failure| failure.to_string();
        fill_session(KEYS_AT_START).map_err(text)?;
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let begun = Instant::now();
            let mut terminal = Pty::start_without_control(&mut program(&nobody), 80, 24);
            while !terminal.text().contains("user: bench:") {
                if begun.elapsed() > PATIENCE {
                    return Err(format!("no keys on the screen:\n{}", terminal.text()));
                }
                thread::sleep(Duration::from_micros(200));
            }
            times.push(begun.elapsed());
            terminal.press("q");
            terminal.ends();
        }
        key::join_session_keyring(None).map_err(|error| error.to_string())?;
        Ok(times)
    });
    let times = times.join().map_err(|_| "the starts failed")??;
    let what = format!("dashboard: start to keys on the screen, {KEYS_AT_START} keys");
    Ok(Row::limit(what, &Sample::new(times)?, START))
}

/// What the real program does while nothing happens, with a daemon and an open keyring.
fn idle() -> Result<Vec<Row>, Failure> {
    let world = World::start()?;
    world.create("web")?;
    let instance = world.instance().to_owned();
    let (bytes, ticks) = thread::spawn(move || -> Result<(usize, u64), String> {
        let text = |failure: Failure| failure.to_string();
        fill_session(WATCHED).map_err(text)?;
        let mut terminal = Pty::start_without_control(&mut program(&instance), 80, 24);
        terminal.shows("user: bench:");
        terminal.shows("keynsd bench");
        // The cursor's details, and whatever else comes after the first screen.
        thread::sleep(Duration::from_secs(2));
        let pid = terminal.child.id();
        let (bytes, ticks) = (terminal.bytes().len(), processor(pid).map_err(text)?);
        thread::sleep(IDLE);
        let more = terminal.bytes().len() - bytes;
        let used = processor(pid).map_err(text)? - ticks;
        terminal.press("q");
        terminal.ends();
        Ok((more, used))
    })
    .join()
    .map_err(|_| "the idle program failed")??;
    let seconds = IDLE.as_secs();
    let what = format!("dashboard: idle for {seconds} s, {WATCHED} keys shown");
    // A tick is 10 ms: one of them per second is one hundredth of a core.
    Ok(vec![
        Row::count(format!("{what}, drawn"), bytes as u64, "bytes", Some(0)),
        Row::count(
            format!("{what}, of one core"),
            ticks * 10 / seconds,
            "‰",
            Some(9),
        ),
    ])
}

/// Processor time of a process, in ticks of 10 ms.
fn processor(pid: u32) -> Result<u64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').ok_or("no stat")?;
    let mut sum = 0;
    for word in rest.split_ascii_whitespace().skip(11).take(2) {
        sum += word.parse::<u64>()?;
    }
    Ok(sum)
}
