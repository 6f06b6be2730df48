//! The page Health: how the daemon is, how much of the quotas is used, which limits were hit, and who
//! enforces what on this machine. What the kernel tells is shown without a daemon too.

mod limits;
mod quota;
mod sheet;

use std::time::Duration;

use crossterm::event::{MouseEvent, MouseEventKind};
use keyns::key_users::KeyUser;
use keyns_interfaces::containers::ContainerInfo;
use keyns_interfaces::event::Event;
use keyns_interfaces::manager::{Feature, Status};
use ratatui::Frame;
use ratatui::layout::Rect;

use self::limits::Limits;
use super::Page;
use crate::action::{Action, Scope};
use crate::app::shared::{Context, Link, Shared};
use crate::client::{Answer, Failure, Machine, Reply, Request, Ticket};
use crate::filter::Filter;

/// How often quotas are read while they are looked at.
const REREAD: Duration = Duration::from_secs(5);
/// Lines that one turn of the wheel moves.
const WHEEL: usize = 3;

/// The page.
#[derive(Debug, Default)]
pub struct Health {
    users: Vec<KeyUser>,
    /// Why they are not known.
    failure: Option<Failure>,
    machine: Option<Machine>,
    /// When the machine was looked at.
    looked: Duration,
    /// Minutes of its run that were drawn last.
    minutes: Option<u64>,
    containers: Vec<ContainerInfo>,
    /// What the daemon has to do, as of when it was asked last.
    status: Option<Status>,
    /// What the kernel has.
    kernel: Vec<Feature>,
    /// What kernel and daemon have together.
    features: Vec<Feature>,
    limits: Limits,
    filter: Filter,
    reading: Option<Ticket>,
    reread_at: Duration,
    top: usize,
    height: usize,
}

impl Health {
    fn read(&mut self, context: &mut Context<'_>) {
        if self.reading.is_none() {
            self.reading = Some(context.ask(Request::Users));
            if context.shared.link.is_up() {
                context.ask(Request::Status);
            }
        }
        self.reread_at = context.shared.now.since_start + REREAD;
    }

    fn look(&self, context: &mut Context<'_>) {
        let daemon = match &context.shared.link {
            Link::Up(status) => Some(status.pid),
            _ => None,
        };
        context.ask(Request::Machine { daemon });
    }

    /// For how many seconds the daemon runs at this time.
    fn uptime(&self, now: Duration) -> Option<u64> {
        let running = self.machine.as_ref()?.running?;
        Some(running + now.saturating_sub(self.looked).as_secs())
    }
}

impl Page for Health {
    fn name(&self) -> &'static str {
        "Health"
    }

    fn scope(&self) -> Scope {
        Scope::Health
    }

    fn has_marks(&self) -> bool {
        false
    }

    fn linked(&mut self, context: &mut Context<'_>) {
        self.status = None;
        self.look(context);
        context.changed();
    }

    fn refresh(&mut self, context: &mut Context<'_>) {
        self.reading = None;
        self.read(context);
        self.look(context);
        context.ask(Request::KernelFeatures);
        context.ask(Request::Features);
    }

    fn act(&mut self, action: Action, _: &mut Context<'_>) -> bool {
        let page = self.height.max(2) - 1;
        self.top = match action {
            Action::Up => self.top.saturating_sub(1),
            Action::Down => self.top.saturating_add(1),
            Action::PageUp => self.top.saturating_sub(page),
            Action::PageDown => self.top.saturating_add(page),
            Action::First => 0,
            Action::Last => usize::MAX,
            _ => return false,
        };
        true
    }

    fn mouse(&mut self, event: MouseEvent, _: &mut Context<'_>) {
        match event.kind {
            MouseEventKind::ScrollUp => self.top = self.top.saturating_sub(WHEEL),
            MouseEventKind::ScrollDown => self.top = self.top.saturating_add(WHEEL),
            _ => {}
        }
    }

    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) {
        let now = context.shared.now;
        if let Err(failure) = &answer.result
            && self.limits.failure(now.epoch_ms, failure)
        {
            context.changed();
        }
        let mine = self.reading == Some(answer.ticket);
        if mine {
            self.reading = None;
        }
        match (&answer.request, &answer.result) {
            (Request::Users, Ok(Reply::Users(users))) => {
                let minutes = self.uptime(now.since_start).map(|seconds| seconds / 60);
                if self.users != *users || self.failure.is_some() || self.minutes != minutes {
                    self.minutes = minutes;
                    self.users.clone_from(users);
                    self.failure = None;
                    context.changed();
                }
            }
            (Request::Users, Err(failure)) if self.failure.as_ref() != Some(failure) => {
                self.failure = Some(failure.clone());
                context.changed();
            }
            (Request::Machine { .. }, Ok(Reply::Machine(machine))) => {
                self.machine = Some((**machine).clone());
                self.looked = now.since_start;
                context.changed();
            }
            (Request::Status, Ok(Reply::Status(status)))
                if self.status.as_ref() != Some(&**status) =>
            {
                self.status = Some((**status).clone());
                context.changed();
            }
            (Request::KernelFeatures, Ok(Reply::Features(features))) => {
                self.kernel.clone_from(features);
                context.changed();
            }
            (Request::Features, Ok(Reply::Features(features))) => {
                self.features.clone_from(features);
                context.changed();
            }
            (Request::Containers, Ok(Reply::Containers(containers)))
                if self.containers != *containers =>
            {
                self.containers.clone_from(containers);
                context.changed();
            }
            (Request::Upcalls { .. }, Ok(Reply::Upcalls(listing))) => {
                self.limits.list(listing);
                context.changed();
            }
            _ => {}
        }
    }

    fn event(&mut self, event: &Event, context: &mut Context<'_>) {
        if self.limits.event(event) {
            context.changed();
        }
    }

    fn filter(&mut self, filter: &Filter, context: &mut Context<'_>) {
        self.filter = filter.clone();
        self.top = 0;
        context.changed();
    }

    fn wakes_at(&self, _: &Shared) -> Option<Duration> {
        self.reading.is_none().then_some(self.reread_at)
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        self.read(context);
    }

    fn summary(&self, shared: &Shared) -> String {
        match &shared.link {
            Link::Up(_) => "what kernel and daemon tell".to_owned(),
            Link::Stale { .. } => "what the kernel tells, and the daemon told last".to_owned(),
            Link::Connecting | Link::Absent(_) => "what the kernel tells alone".to_owned(),
        }
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let rows = self.sheet(shared, usize::from(area.width));
        self.height = usize::from(area.height);
        self.top = self.top.min(rows.len().saturating_sub(self.height));
        let below = rows.len().saturating_sub(self.top + self.height);
        for (row, place) in rows.into_iter().skip(self.top).zip(area.rows()) {
            frame.render_widget(row, place);
        }
        let way = shared.keymap.first(Action::Down);
        super::pane::more(frame, area, below, &way, shared);
    }
}
