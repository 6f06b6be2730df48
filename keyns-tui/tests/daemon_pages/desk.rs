//! The program without terminal, kernel and daemon: whoever tests stands in for them.

use std::time::Duration;

use crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};
use keyns_interfaces::containers::{ContainerInfo, Namespace, State};
use keyns_interfaces::event::Event;
use keyns_interfaces::manager::Status;
use keyns_interfaces::upcalls::{Listing, Requester, UpcallInfo};
use keyns_tui::app::shared::{Now, Options};
use keyns_tui::app::{App, Damage, Setup};
use keyns_tui::client::{Answer, Failure, Reply, Request, Ticket};
use keyns_tui::keymap::Keymap;
use keyns_tui::message::{Effect, Feed, Message};
use keyns_tui::text::Users;
use keyns_tui::theme;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// When everything happens, in milliseconds since 1970.
pub(crate) const NOON: u64 = 1_764_072_000_000;

pub(crate) struct Desk {
    pub(crate) app: App,
    pub(crate) asked: Vec<(Ticket, Request)>,
    terminal: Terminal<TestBackend>,
    since_start: Duration,
}

impl Desk {
    pub(crate) fn new(columns: u16, rows: u16) -> Self {
        Self::with(columns, rows, theme::Name::Terminal, true)
    }

    pub(crate) fn with(columns: u16, rows: u16, theme: theme::Name, unicode: bool) -> Self {
        let app = App::new(Setup {
            theme,
            keymap: Keymap::default(),
            options: Options {
                read_only: false,
                unicode,
            },
            users: Users::of("root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/:/bin/sh\n"),
            uid: 0,
            now: Now {
                since_start: Duration::ZERO,
                epoch_ms: NOON,
            },
        });
        let mut desk = Self {
            app,
            asked: Vec::new(),
            terminal: Terminal::new(TestBackend::new(columns, rows)).unwrap(),
            since_start: Duration::ZERO,
        };
        let effects = desk.app.start();
        desk.note(effects);
        desk
    }

    fn note(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Ask(ticket, request) = effect {
                self.asked.push((ticket, request));
            }
        }
    }

    pub(crate) fn tell(&mut self, message: Message) {
        let now = Now {
            since_start: self.since_start,
            epoch_ms: NOON + u64::try_from(self.since_start.as_millis()).unwrap(),
        };
        let effects = self.app.update(message, now);
        self.note(effects);
    }

    /// Lets time go by, with a tick whenever one was asked for; returns how many there were.
    pub(crate) fn wait(&mut self, span: Duration) -> u32 {
        let end = self.since_start + span;
        let mut ticks = 0;
        while let Some(sleeps) = self.app.sleeps(self.since_start) {
            if self.since_start + sleeps > end {
                break;
            }
            self.since_start += sleeps.max(Duration::from_millis(1));
            self.tell(Message::Tick);
            ticks += 1;
        }
        self.since_start = end;
        ticks
    }

    pub(crate) fn press(&mut self, keys: &str) {
        for key in keys.split(' ') {
            let code = match key {
                "enter" => KeyCode::Enter,
                "esc" => KeyCode::Esc,
                "tab" => KeyCode::Tab,
                "down" => KeyCode::Down,
                "up" => KeyCode::Up,
                "right" => KeyCode::Right,
                "left" => KeyCode::Left,
                "end" => KeyCode::End,
                "home" => KeyCode::Home,
                "backspace" => KeyCode::Backspace,
                key => KeyCode::Char(key.chars().next().unwrap()),
            };
            self.tell(Message::Input(Input::Key(KeyEvent::new(
                code,
                KeyModifiers::NONE,
            ))));
        }
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.terminal.backend_mut().resize(columns, rows);
        self.tell(Message::Input(Input::Resize(columns, rows)));
    }

    pub(crate) fn write(&mut self, text: &str) {
        for c in text.chars() {
            let key = KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
            self.tell(Message::Input(Input::Key(key)));
        }
    }

    /// Answers the newest question that fits.
    pub(crate) fn answer(
        &mut self,
        is_it: impl Fn(&Request) -> bool,
        result: Result<Reply, Failure>,
    ) {
        let at = self.asked.iter().rposition(|(_, it)| is_it(it));
        let at = at.unwrap_or_else(|| panic!("not asked: {:?}", self.asked));
        let (ticket, request) = self.asked.remove(at);
        self.tell(Message::Answer(Box::new(Answer {
            ticket,
            request,
            result,
        })));
    }

    pub(crate) fn up(&mut self, pid: u32) {
        self.tell(Message::Feed(Box::new(Feed::Up(status(pid)))));
    }

    pub(crate) fn down(&mut self) {
        let failure = keyctl_ns::daemon::refused(keyns_interfaces::ClientError::Disconnected);
        self.tell(Message::Feed(Box::new(Feed::Down(failure))));
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.tell(Message::Feed(Box::new(Feed::Event(Box::new(event)))));
    }

    pub(crate) fn upcall(&mut self, name: &str, info: UpcallInfo) {
        self.event(Event {
            upcall: Some(info),
            ..happening(name)
        });
    }

    pub(crate) fn list(&mut self, upcalls: Vec<UpcallInfo>, history: Vec<UpcallInfo>) {
        let listing = Listing { upcalls, history };
        self.answer(
            |it| matches!(it, Request::Upcalls { .. }),
            Ok(Reply::Upcalls(Box::new(listing))),
        );
    }

    pub(crate) fn is_drawn(&self) -> bool {
        self.app.damage() == Damage::None
    }

    /// Draws it, and says whether a character is on the screen.
    pub(crate) fn shows(&mut self, c: char) -> bool {
        self.terminal.draw(|frame| self.app.draw(frame)).unwrap();
        let mut cells = self.terminal.backend().buffer().content.iter();
        cells.any(|cell| cell.symbol().contains(c))
    }

    /// The screen as it is.
    pub(crate) fn raw(&mut self) -> String {
        self.terminal.draw(|frame| self.app.draw(frame)).unwrap();
        let buffer = self.terminal.backend().buffer();
        let mut screen = String::new();
        for row in buffer.content.chunks(usize::from(buffer.area.width)) {
            let mut line = String::new();
            let mut skip = 0;
            for cell in row {
                if skip == 0 {
                    line += cell.symbol();
                    skip = keyns_tui::text::width(cell.symbol());
                }
                skip = skip.saturating_sub(1);
            }
            screen += line.trim_end();
            screen.push('\n');
        }
        screen
    }

    /// The screen, with times of day that do not depend on where the test runs.
    pub(crate) fn screen(&mut self) -> String {
        let mut screen = self.raw();
        for minute in 0..6 {
            let clock = keyctl_ns::view::clock(NOON - 120_000 + minute * 60_000);
            screen = screen.replace(&clock[..5], "HH:MM");
        }
        let date = keyctl_ns::view::time(NOON / 1000);
        screen.replace(&date[..10], "2025-11-25")
    }
}

pub(crate) fn status(pid: u32) -> Status {
    Status {
        version: "0.1.0".into(),
        engine: "mainline".into(),
        instance: "main".into(),
        kernel: "6.12.0".into(),
        pid,
        containers: 1,
        pending_upcalls: 1,
        agents: 0,
        poll_interval_ms: 0,
    }
}

pub(crate) fn happening(name: &str) -> Event {
    Event {
        event: name.to_owned(),
        time_ms: NOON,
        dropped: 0,
        container: None,
        key: None,
        grant: None,
        upcall: None,
    }
}

/// A request of a container that waits.
pub(crate) fn waiting(id: u64, description: &[u8]) -> UpcallInfo {
    UpcallInfo {
        id,
        state: "queued".into(),
        operation: "create".into(),
        key: 700_000_000 + i32::try_from(id).unwrap(),
        type_: "user".into(),
        description: description.into(),
        callout: b"wanted".as_slice().into(),
        requester: Requester {
            container: Some("web".into()),
            tid: 4243,
            pid: 4242,
            uid: 1_000_033,
            gid: 1_000_033,
            container_uid: 33,
            container_gid: 33,
            command: b"nginx".as_slice().into(),
            executable: b"/usr/sbin/nginx".as_slice().into(),
            capabilities: 0,
            verified: true,
        },
        keyrings: [0, 0, 811_000_000],
        rule: Some(3),
        handler: Some("hand".into()),
        time_ms: NOON - 2000,
        age_ms: 2000,
        deadline_ms: Some(58_000),
        outcome: None,
    }
}

/// The same after its end.
pub(crate) fn ended(mut info: UpcallInfo, state: &str, outcome: i32, took: u64) -> UpcallInfo {
    info.state = state.into();
    info.outcome = Some(outcome);
    info.age_ms = took;
    info.deadline_ms = None;
    info
}

/// A container of this name.
pub(crate) fn container(name: &str, state: State) -> ContainerInfo {
    ContainerInfo {
        id: 4,
        name: name.into(),
        parent: None,
        state,
        namespaces: vec![Namespace::User, Namespace::Pid],
        root: None,
        uid_base: None,
        uid_count: None,
        keyring: None,
        init_pid: Some(4242),
        exit: None,
        created: NOON / 1000,
        kill_on_close: false,
        caveats: Vec::new(),
    }
}
