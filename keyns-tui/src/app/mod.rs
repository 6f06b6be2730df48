//! The state of the program, and its only owner.
//!
//! [`App::update`] takes one message and changes the state; what is to be done outside is returned as
//! effects. It never waits and never draws. [`App::draw`] shows the state, and changes nothing but
//! what depends on the size of the screen.

pub mod prompt;
pub mod screen;
pub mod shared;

use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseEvent};
use ratatui::layout::{Rect, Size};

use crate::action::{self, Action, Scope};
use crate::client::{Answer, Reply};
use crate::dialog::{Dialog, Flow, help::Help};
use crate::edit::Edit;
use crate::filter::Filter;
use crate::keymap::{Key, Keymap};
use crate::message::{Effect, Feed, Message};
use crate::page::{self, Page};
use crate::text::Users;
use crate::theme::{self, Theme};
use prompt::{Command, Kind, Prompt};
use shared::{Context, Link, Now, Options, Outbox, Shared, Tone};

/// How soon what changed must be on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// Nothing changed.
    None,
    /// With the next frame; many such changes share one.
    Soon,
    /// At once: somebody pressed a key.
    Now,
}

/// What a program is started with.
#[derive(Debug)]
pub struct Setup {
    /// Colours.
    pub theme: theme::Name,
    /// Keys.
    pub keymap: Keymap,
    /// Options.
    pub options: Options,
    /// Names of users.
    pub users: Users,
    /// Own kernel uid.
    pub uid: u32,
    /// The time.
    pub now: Now,
}

/// The state.
pub struct App {
    shared: Shared,
    pages: Vec<Box<dyn Page>>,
    current: usize,
    dialogs: Vec<Box<dyn Dialog>>,
    prompt: Option<Prompt>,
    filter: String,
    outbox: Outbox,
    damage: Damage,
    // Where the screen was drawn last, for the mouse.
    body: Rect,
    tabs: Vec<Rect>,
    inside: Rect,
}

impl App {
    /// The program as it starts. Its first questions are asked by [`Self::start`].
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            shared: Shared {
                now: setup.now,
                theme: Theme::new(setup.theme),
                keymap: setup.keymap,
                options: setup.options,
                users: setup.users,
                uid: setup.uid,
                link: Link::Connecting,
                notice: None,
                told: Vec::new(),
            },
            pages: page::all(),
            current: 0,
            dialogs: Vec::new(),
            prompt: None,
            filter: String::new(),
            outbox: Outbox::default(),
            damage: Damage::Now,
            body: Rect::ZERO,
            tabs: Vec::new(),
            inside: Rect::ZERO,
        }
    }

    /// Asks for what the pages show.
    pub fn start(&mut self) -> Vec<Effect> {
        self.refresh();
        self.finish()
    }

    /// How soon the screen is to be drawn.
    #[must_use]
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// What everything shares.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// How long nothing happens by itself; forever if nothing is awaited.
    #[must_use]
    pub fn sleeps(&self, now: Duration) -> Option<Duration> {
        let notice = self.shared.notice.as_ref().map(|notice| notice.until);
        let page = self
            .pages
            .get(self.current)
            .and_then(|page| page.wakes_at(&self.shared));
        let dialogs = self.dialogs.iter().filter_map(|dialog| dialog.wakes_at());
        let at = notice.into_iter().chain(page).chain(dialogs).min()?;
        Some(at.saturating_sub(now))
    }

    /// Handles one message.
    pub fn update(&mut self, message: Message, now: Now) -> Vec<Effect> {
        self.shared.now = now;
        match message {
            Message::Input(event) => self.input(event),
            Message::InputEnded | Message::Terminated(_) => {
                self.outbox.effects.push(Effect::Quit);
            }
            Message::Suspended => self.outbox.effects.push(Effect::Suspend),
            Message::Continued => self.redraw(),
            Message::Answer(answer) => {
                self.report(&answer);
                self.tell_pages(|page, context| page.answer(&answer, context));
                self.tell_dialogs(|dialog, context| dialog.answer(&answer, context));
            }
            Message::Feed(feed) => self.feed(*feed),
            Message::Tick => self.tick(),
        }
        self.finish()
    }

    /// Says what came of a change: once, whichever page asked for it. What came of reading is shown
    /// where it was to be read.
    fn report(&mut self, answer: &Answer) {
        match &answer.result {
            Ok(Reply::Done(done)) => self.shared.say(Tone::Good, done.clone()),
            Err(failure) if answer.request.changes() => self.shared.complain(failure),
            _ => return,
        }
        self.harm(Damage::Soon);
    }

    fn finish(&mut self) -> Vec<Effect> {
        if self.shared.options.read_only {
            // Whoever forgot to look changes nothing either.
            let is_change = |effect: &Effect| matches!(effect, Effect::Ask(_, it) if it.changes());
            self.outbox.effects.retain(|effect| !is_change(effect));
        }
        if std::mem::take(&mut self.outbox.is_changed) || !self.outbox.dialogs.is_empty() {
            self.harm(Damage::Soon);
        }
        self.dialogs.append(&mut self.outbox.dialogs);
        std::mem::take(&mut self.outbox.effects)
    }

    fn harm(&mut self, damage: Damage) {
        self.damage = self.damage.max(damage);
    }

    fn redraw(&mut self) {
        self.harm(Damage::Now);
        self.outbox.effects.push(Effect::Redraw);
    }

    fn tell_dialogs(&mut self, mut tell: impl FnMut(&mut dyn Dialog, &mut Context<'_>) -> Flow) {
        let (shared, outbox) = (&mut self.shared, &mut self.outbox);
        self.dialogs.retain_mut(|dialog| {
            let flow = tell(dialog.as_mut(), &mut context(shared, outbox));
            outbox.is_changed |= flow == Flow::Close;
            flow == Flow::Stay
        });
    }

    /// Tells all pages. What changes on one that is not shown is no reason to draw, unless it is said
    /// above the footer or in the tab bar.
    fn tell_pages(&mut self, mut tell: impl FnMut(&mut dyn Page, &mut Context<'_>)) {
        let notice = self.shared.notice.clone();
        for (at, page) in self.pages.iter_mut().enumerate() {
            let was_changed = self.outbox.is_changed;
            let badge = page.badge();
            tell(
                page.as_mut(),
                &mut context(&mut self.shared, &mut self.outbox),
            );
            if at != self.current {
                self.outbox.is_changed = was_changed || page.badge() != badge;
            }
        }
        self.outbox.is_changed |= self.shared.notice != notice;
    }

    fn with_page<T>(
        &mut self,
        act: impl FnOnce(&mut dyn Page, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let page = self.pages.get_mut(self.current)?;
        Some(act(
            page.as_mut(),
            &mut context(&mut self.shared, &mut self.outbox),
        ))
    }

    fn refresh(&mut self) {
        for page in &mut self.pages {
            page.refresh(&mut context(&mut self.shared, &mut self.outbox));
        }
    }

    fn tick(&mut self) {
        let now = self.shared.now.since_start;
        if self
            .shared
            .notice
            .as_ref()
            .is_some_and(|notice| notice.until <= now)
        {
            self.shared.notice = None;
            self.harm(Damage::Soon);
        }
        self.tell_dialogs(|dialog, context| {
            if dialog.wakes_at().is_some_and(|at| at <= now) {
                dialog.tick(context)
            } else {
                Flow::Stay
            }
        });
        let page = self
            .pages
            .get(self.current)
            .and_then(|page| page.wakes_at(&self.shared));
        if page.is_some_and(|at| at <= now) {
            self.with_page(|page, context| page.tick(context));
        }
    }

    fn feed(&mut self, feed: Feed) {
        let since_ms = self.shared.now.epoch_ms;
        match feed {
            Feed::Up(status) => {
                self.harm(Damage::Soon);
                let is_back = matches!(self.shared.link, Link::Stale { .. });
                self.shared.link = Link::Up(status);
                self.tell_pages(|page, context| page.linked(context));
                if is_back {
                    self.shared.say(Tone::Good, "keynsd is back");
                }
                self.refresh();
            }
            Feed::Alive(status) => {
                if self.shared.link != Link::Up(status.clone()) {
                    self.harm(Damage::Soon);
                    self.shared.link = Link::Up(status);
                }
            }
            Feed::Silent => {
                self.harm(Damage::Soon);
                let failure = keyctl_ns::daemon::refused(keyns_interfaces::ClientError::TimedOut);
                self.shared.link = Link::Stale { since_ms, failure };
                self.tell_pages(|page, context| page.linked(context));
            }
            Feed::Down(failure) => {
                self.harm(Damage::Soon);
                self.shared.link = match std::mem::replace(&mut self.shared.link, Link::Connecting)
                {
                    Link::Up(_) => Link::Stale { since_ms, failure },
                    Link::Stale { since_ms, .. } => Link::Stale { since_ms, failure },
                    Link::Connecting | Link::Absent(_) => Link::Absent(failure),
                };
                self.tell_pages(|page, context| page.linked(context));
            }
            Feed::Event(event) => {
                self.tell_pages(|page, context| page.event(&event, context));
                self.tell_dialogs(|dialog, context| dialog.event(&event, context));
            }
        }
    }

    fn input(&mut self, event: Event) {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                self.harm(Damage::Now);
                self.key(key);
            }
            Event::Mouse(mouse) => self.mouse(mouse),
            Event::Paste(text) => {
                self.harm(Damage::Now);
                self.edit(&Edit::Insert(text));
            }
            Event::Resize(..) => self.harm(Damage::Now),
            Event::Key(_) | Event::FocusGained | Event::FocusLost => {}
        }
    }

    /// Whether characters are typed into something.
    fn takes_text(&self) -> bool {
        match self.dialogs.last() {
            Some(dialog) => dialog.takes_text(),
            None => self.prompt.is_some(),
        }
    }

    fn edit(&mut self, edit: &Edit) {
        if !self.takes_text() {
            return;
        }
        if let Some(dialog) = self.dialogs.last_mut() {
            dialog.edit(edit, &mut context(&mut self.shared, &mut self.outbox));
        } else if let Some(prompt) = &mut self.prompt {
            prompt.edit(edit);
            if prompt.kind == Kind::Filter {
                let text = prompt.line.text().to_owned();
                self.set_filter(text);
            }
        }
    }

    fn key(&mut self, event: KeyEvent) {
        let key = Key::from(event);
        let is_typing = self.takes_text();
        if is_typing && let Some(edit) = edit_of(event) {
            return self.edit(&edit);
        }
        let action = if self.dialogs.is_empty() && !is_typing {
            let page = self
                .pages
                .get(self.current)
                .map_or(Scope::Global, |page| page.scope());
            self.shared
                .keymap
                .find(&[page, Scope::List, Scope::Global], key)
        } else {
            // Long lists in dialogs are paged with the keys of lists.
            self.shared.keymap.find(&[Scope::Dialog, Scope::List], key)
        };
        if let Some(action) = action {
            self.act(action);
        }
    }

    /// Does something, wherever it was asked for.
    pub fn act(&mut self, action: Action) {
        if !self.dialogs.is_empty() {
            return self.act_in_dialog(action);
        }
        if self.prompt.is_some() {
            return self.act_in_prompt(action);
        }
        let changes = action::of(action).is_some_and(|entry| entry.changes);
        if changes && self.shared.options.read_only {
            self.shared
                .say(Tone::Bad, "nothing is changed with --read-only");
            return;
        }
        match action {
            Action::Quit => self.outbox.effects.push(Effect::Quit),
            Action::Help => self.dialogs.push(Box::new(Help::default())),
            Action::CommandLine => self.prompt = Some(Prompt::new(Kind::Command, "")),
            Action::Filter => self.prompt = Some(Prompt::new(Kind::Filter, &self.filter)),
            // What is shown alone goes first.
            Action::ClearFilter
                if self.with_page(|page, context| page.act(action, context)) == Some(true) => {}
            Action::ClearFilter => {
                self.shared.notice = None;
                self.set_filter(String::new());
            }
            Action::NextPage => self.go_to(self.current + 1),
            Action::PreviousPage => self.go_to(self.current + self.pages.len().saturating_sub(1)),
            Action::Page(page) if page < self.pages.len() => self.go_to(page),
            Action::Refresh => {
                self.redraw();
                self.refresh();
            }
            Action::Suspend => self.outbox.effects.push(Effect::Suspend),
            action => {
                let done = self.with_page(|page, context| page.act(action, context));
                let name = action::of(action).filter(|entry| entry.scope != Scope::List);
                if done != Some(true)
                    && let Some(entry) = name
                {
                    self.shared
                        .say(Tone::Plain, format!("“{}” does not fit here", entry.name));
                }
            }
        }
    }

    fn act_in_dialog(&mut self, action: Action) {
        if action == Action::Cancel {
            self.dialogs.pop();
            return;
        }
        let Some(dialog) = self.dialogs.last_mut() else {
            return;
        };
        let flow = dialog.act(action, &mut context(&mut self.shared, &mut self.outbox));
        if flow == Flow::Close {
            self.dialogs.pop();
        }
    }

    fn act_in_prompt(&mut self, action: Action) {
        let pages: Vec<&str> = self.pages.iter().map(|page| page.name()).collect();
        let Some(prompt) = &mut self.prompt else {
            return;
        };
        match action {
            Action::NextField | Action::Complete => prompt.complete(&pages, false),
            Action::PreviousField => prompt.complete(&pages, true),
            Action::Confirm => {
                let text = prompt.line.text().to_owned();
                let is_command = prompt.kind == Kind::Command;
                let command = is_command.then(|| prompt::parse(&text, &pages));
                self.prompt = None;
                match command {
                    None => self.set_filter(text),
                    Some(Ok(command)) => self.command(command),
                    Some(Err(_)) if text.trim().is_empty() => {}
                    Some(Err(error)) => self.shared.say(Tone::Bad, error),
                }
            }
            Action::Cancel => {
                let is_filter = prompt.kind == Kind::Filter;
                self.prompt = None;
                if is_filter {
                    self.set_filter(String::new());
                }
            }
            _ => {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Action(action) => self.act(action),
            Command::Theme(name) => {
                self.shared.theme = Theme::new(name);
                self.redraw();
            }
            Command::Filter(text) => self.set_filter(text),
            Command::Page(name) => {
                if let Some(page) = self.pages.iter().position(|page| page.name() == name) {
                    self.go_to(page);
                }
            }
        }
    }

    fn go_to(&mut self, page: usize) {
        self.current = page % self.pages.len().max(1);
        let filter = Filter::parse(&self.filter, &self.shared.users);
        self.with_page(|page, context| page.filter(&filter, context));
    }

    fn set_filter(&mut self, text: String) {
        let filter = Filter::parse(&text, &self.shared.users);
        self.filter = text;
        self.with_page(|page, context| page.filter(&filter, context));
    }

    fn mouse(&mut self, event: MouseEvent) {
        use crossterm::event::MouseEventKind as M;
        if !matches!(event.kind, M::Down(_) | M::ScrollUp | M::ScrollDown) {
            return;
        }
        self.harm(Damage::Now);
        if let Some(dialog) = self.dialogs.last_mut() {
            if dialog.mouse(event, &mut context(&mut self.shared, &mut self.outbox)) == Flow::Close
            {
                self.dialogs.pop();
            }
            return;
        }
        let at = ratatui::layout::Position::new(event.column, event.row);
        if let Some(tab) = self.tabs.iter().position(|tab| tab.contains(at)) {
            self.go_to(tab);
        } else if self.body.contains(at) {
            self.with_page(|page, context| page.mouse(event, context));
        }
    }
}

fn context<'a>(shared: &'a mut Shared, outbox: &'a mut Outbox) -> Context<'a> {
    Context { shared, outbox }
}

/// What a key changes in a line that is typed into; nothing if it is a key of an action.
fn edit_of(event: KeyEvent) -> Option<Edit> {
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    let alt = event.modifiers.contains(KeyModifiers::ALT);
    Some(match event.code {
        KeyCode::Char('a') if control => Edit::Start,
        KeyCode::Char('e') if control => Edit::End,
        KeyCode::Char('u') if control => Edit::ClearBefore,
        KeyCode::Char('w') if control => Edit::WordBefore,
        KeyCode::Char('h') if control => Edit::Backspace,
        KeyCode::Char('d') if control => Edit::Delete,
        KeyCode::Char(c) if !control && !alt => Edit::Insert(c.to_string()),
        KeyCode::Backspace => Edit::Backspace,
        KeyCode::Delete => Edit::Delete,
        KeyCode::Left => Edit::Left,
        KeyCode::Right => Edit::Right,
        KeyCode::Home => Edit::Start,
        KeyCode::End => Edit::End,
        _ => return None,
    })
}

/// The smallest screen on which anything can be shown.
pub const SMALLEST: Size = Size::new(40, 12);
