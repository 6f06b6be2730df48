//! The state of the program with a screen of cells, and a world that answers what a test lets it.

use std::collections::VecDeque;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use keyns_interfaces::event::Event as Happening;
use keyns_interfaces::manager::Status;
use keyns_tui::app::shared::{Now, Options};
use keyns_tui::app::{App, Setup};
use keyns_tui::client::{Answer, Failure, Reply, Request, Ticket};
use keyns_tui::keymap::Keymap;
use keyns_tui::message::{Effect, Feed, Message};
use keyns_tui::text::Users;
use keyns_tui::theme;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// What answers; `None` leaves the question open.
pub(crate) type World = Box<dyn FnMut(&Request) -> Option<Result<Reply, Failure>>>;

/// The program on a stage.
pub(crate) struct Stage {
    pub(crate) app: App,
    terminal: Terminal<TestBackend>,
    world: World,
    now: Duration,
    /// Everything that was asked so far.
    pub(crate) asked: Vec<Request>,
    /// Questions that the world left open.
    pub(crate) open: Vec<(Ticket, Request)>,
    /// What else was to be done.
    pub(crate) effects: Vec<Effect>,
}

/// How the program is started.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) size: (u16, u16),
    pub(crate) theme: theme::Name,
    pub(crate) read_only: bool,
    pub(crate) unicode: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            size: (80, 24),
            theme: theme::Name::Terminal,
            read_only: false,
            unicode: true,
        }
    }
}

impl Look {
    pub(crate) fn of(width: u16, height: u16) -> Self {
        Self {
            size: (width, height),
            ..Self::default()
        }
    }
}

impl Stage {
    pub(crate) fn new(look: Look, world: World) -> Self {
        let app = App::new(Setup {
            theme: look.theme,
            keymap: Keymap::default(),
            options: Options {
                read_only: look.read_only,
                unicode: look.unicode,
            },
            users: Users::of("root:x:0:0::/:/\nanna:x:1000:1000::/:/\n"),
            uid: 0,
            now: Now::default(),
        });
        let backend = TestBackend::new(look.size.0, look.size.1);
        let mut stage = Self {
            app,
            terminal: Terminal::new(backend).unwrap(),
            world,
            now: Duration::ZERO,
            asked: Vec::new(),
            open: Vec::new(),
            effects: Vec::new(),
        };
        let first = stage.app.start();
        stage.carry_out(first);
        stage
    }

    fn time(&self) -> Now {
        Now {
            since_start: self.now,
            // 2026-01-01 12:00 UTC.
            epoch_ms: 1_767_268_800_000 + u64::try_from(self.now.as_millis()).unwrap(),
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut next = VecDeque::from(effects);
        while let Some(effect) = next.pop_front() {
            let Effect::Ask(ticket, request) = effect else {
                self.effects.push(effect);
                continue;
            };
            self.asked.push(request.clone());
            match (self.world)(&request) {
                Some(result) => next.extend(self.update(Message::Answer(Box::new(Answer {
                    ticket,
                    request,
                    result,
                })))),
                None => self.open.push((ticket, request)),
            }
        }
    }

    fn update(&mut self, message: Message) -> Vec<Effect> {
        let time = self.time();
        self.app.update(message, time)
    }

    pub(crate) fn send(&mut self, message: Message) {
        let effects = self.update(message);
        self.carry_out(effects);
    }

    pub(crate) fn daemon_is_up(&mut self) {
        self.send(Message::Feed(Box::new(Feed::Up(status()))));
    }

    pub(crate) fn happens(&mut self, event: Happening) {
        self.send(Message::Feed(Box::new(Feed::Event(Box::new(event)))));
    }

    /// Presses keys by their names, separated by blanks.
    pub(crate) fn press(&mut self, keys: &str) {
        for key in keys.split_whitespace() {
            let event = event_of(key);
            self.send(Message::Input(Event::Key(event)));
        }
    }

    /// Types a text.
    pub(crate) fn types(&mut self, text: &str) {
        for c in text.chars() {
            let event = KeyEvent::from(KeyCode::Char(c));
            self.send(Message::Input(Event::Key(event)));
        }
    }

    /// Lets time pass, with the wake-ups that were asked for.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(sleep) = self.app.sleeps(self.now)
            && self.now + sleep <= end
        {
            self.now += sleep.max(Duration::from_millis(1));
            self.send(Message::Tick);
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn resize(&mut self, width: u16, height: u16) {
        self.terminal.backend_mut().resize(width, height);
        self.send(Message::Input(Event::Resize(width, height)));
    }

    pub(crate) fn draw(&mut self) {
        let app = &mut self.app;
        self.terminal.draw(|frame| app.draw(frame)).unwrap();
    }

    /// The cells as they are now.
    pub(crate) fn buffer(&mut self) -> &ratatui::buffer::Buffer {
        self.draw();
        self.terminal.backend().buffer()
    }

    /// The characters of the screen, without blanks at the ends of lines.
    pub(crate) fn screen(&mut self) -> String {
        let buffer = self.buffer();
        let mut text = String::new();
        for row in 0..buffer.area.height {
            let mut line = String::new();
            let mut skip = 0;
            for column in 0..buffer.area.width {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                let symbol = buffer[(column, row)].symbol();
                skip = keyns_tui::text::width(symbol).saturating_sub(1);
                line += symbol;
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// What the line above the footer says, or said last.
    pub(crate) fn said(&self) -> String {
        let told = &self.app.shared().told;
        told.last().map_or(String::new(), |(_, it)| it.text.clone())
    }

    /// What was asked and changes something.
    pub(crate) fn changes(&self) -> Vec<Request> {
        let changes = self.asked.iter().filter(|it| it.changes());
        changes.cloned().collect()
    }
}

pub(crate) fn event_of(key: &str) -> KeyEvent {
    let named = [
        ("enter", KeyCode::Enter),
        ("esc", KeyCode::Esc),
        ("tab", KeyCode::Tab),
        ("backtab", KeyCode::BackTab),
        ("space", KeyCode::Char(' ')),
        ("left", KeyCode::Left),
        ("right", KeyCode::Right),
        ("up", KeyCode::Up),
        ("down", KeyCode::Down),
        ("home", KeyCode::Home),
        ("end", KeyCode::End),
        ("pageup", KeyCode::PageUp),
        ("pagedown", KeyCode::PageDown),
        ("backspace", KeyCode::Backspace),
        ("delete", KeyCode::Delete),
        ("f1", KeyCode::F(1)),
    ];
    let (modifiers, key) = match key.strip_prefix("ctrl-") {
        Some(rest) => (KeyModifiers::CONTROL, rest),
        None => (KeyModifiers::NONE, key),
    };
    let code = match named.iter().find(|(name, _)| *name == key) {
        Some((_, code)) => *code,
        None => KeyCode::Char(key.chars().next().unwrap()),
    };
    KeyEvent::new(code, modifiers)
}

pub(crate) fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        engine: "mainline".to_owned(),
        instance: "main".to_owned(),
        kernel: "6.12".to_owned(),
        pid: 1,
        containers: 0,
        pending_upcalls: 0,
        agents: 0,
        poll_interval_ms: 0,
    }
}
