//! What pages and dialogs share: how things look, what keys do, how the daemon is.

use std::time::Duration;

use keyns_interfaces::manager::Status;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use crate::client::{Failure, Request, Ticket};
use crate::dialog::Dialog;
use crate::keymap::Keymap;
use crate::message::Effect;
use crate::text::Users;
use crate::theme::Theme;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since the program started; never goes back.
    pub since_start: Duration,
    /// Milliseconds since 1970, for people.
    pub epoch_ms: u64,
}

/// How the daemon is.
#[derive(Debug, Clone, PartialEq)]
pub enum Link {
    /// Nothing is known yet.
    Connecting,
    /// It answers.
    Up(Status),
    /// It was there, and what is shown of it may have changed since.
    Stale {
        /// Since when, in milliseconds since 1970.
        since_ms: u64,
        /// Why.
        failure: Failure,
    },
    /// It was never there.
    Absent(Failure),
}

impl Link {
    /// Whether it answers.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }
}

/// Options of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Nothing is changed.
    pub read_only: bool,
    /// More than ASCII is drawn.
    pub unicode: bool,
}

/// How important a line above the footer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Something was done.
    Good,
    /// Something failed.
    Bad,
    /// Anything else.
    Plain,
}

/// A line that is shown for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it says.
    pub text: String,
    /// How important it is.
    pub tone: Tone,
    /// When it goes, since the start.
    pub until: Duration,
}

/// How long a notice stays.
const NOTICE: Duration = Duration::from_secs(8);

/// What everything shares.
#[derive(Debug)]
pub struct Shared {
    /// The time of the message that is being handled.
    pub now: Now,
    /// Colours.
    pub theme: Theme,
    /// Keys.
    pub keymap: Keymap,
    /// Options.
    pub options: Options,
    /// Names of users.
    pub users: Users,
    /// Own kernel uid.
    pub uid: u32,
    /// The daemon.
    pub link: Link,
    /// What is said above the footer.
    pub notice: Option<Notice>,
    /// What was said so far, newest last.
    pub told: Vec<(u64, Notice)>,
}

/// Notices that are kept.
const TOLD: usize = 200;

impl Shared {
    /// Says something above the footer.
    pub fn say(&mut self, tone: Tone, text: impl Into<String>) {
        let notice = Notice {
            text: text.into(),
            tone,
            until: self.now.since_start + NOTICE,
        };
        if self.told.len() >= TOLD {
            self.told.remove(0);
        }
        self.told.push((self.now.epoch_ms, notice.clone()));
        self.notice = Some(notice);
    }

    /// Says why something failed.
    pub fn complain(&mut self, failure: &Failure) {
        self.say(Tone::Bad, sentence(failure));
    }

    /// Puts the terminal's cursor into an area, as far as it is in it.
    pub fn place_cursor(&self, frame: &mut Frame<'_>, area: Rect, column: u16, row: u16) {
        if column < area.width && row < area.height {
            frame.set_cursor_position(Position::new(area.x + column, area.y + row));
        }
    }
}

/// A failure in one sentence: what, why, what next.
#[must_use]
pub fn sentence(failure: &Failure) -> String {
    let mut text = failure.message.clone();
    if let Some(cause) = &failure.cause {
        text += ": ";
        text += cause;
    }
    if let Some(hint) = &failure.hint {
        text += " (";
        text += hint;
        text += ")";
    }
    text
}

/// What a page or dialog is given to act with.
pub struct Context<'a> {
    /// What everything shares.
    pub shared: &'a mut Shared,
    pub(super) outbox: &'a mut Outbox,
}

/// What is to be done after a message was handled.
#[derive(Default)]
pub struct Outbox {
    pub(super) effects: Vec<Effect>,
    pub(super) dialogs: Vec<Box<dyn Dialog>>,
    pub(super) tickets: u64,
    pub(super) is_changed: bool,
}

impl Context<'_> {
    /// Has a question asked; its answer has the same ticket.
    pub fn ask(&mut self, request: Request) -> Ticket {
        self.outbox.tickets += 1;
        let ticket = Ticket(self.outbox.tickets);
        self.outbox.effects.push(Effect::Ask(ticket, request));
        ticket
    }

    /// Says that what is shown is different from now on.
    pub fn changed(&mut self) {
        self.outbox.is_changed = true;
    }

    /// Has something done outside.
    pub fn effect(&mut self, effect: Effect) {
        self.outbox.effects.push(effect);
    }

    /// Opens a dialog above what is there.
    pub fn open(&mut self, dialog: impl Dialog + 'static) {
        self.outbox.dialogs.push(Box::new(dialog));
    }
}
