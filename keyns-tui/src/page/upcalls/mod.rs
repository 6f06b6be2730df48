//! The page Upcalls: the requests for keys that wait for an answer, and the last ones that ended.

pub mod details;
pub mod figures;
pub mod requests;
mod reroute;

use std::time::Duration;

use crossterm::event::MouseEvent;
use keyctl_ns::view;
use keyns_interfaces::event::Event;
use keyns_interfaces::upcalls::UpcallInfo;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line as Row;

use self::figures::{Arrivals, durations};
use self::requests::{HISTORY, Known, Requests};
use super::Page;
use super::columns::{self, Column};
use super::list_view::{Click, ListView};
use super::pane::Pane;
use crate::action::{Action, Scope};
use crate::app::shared::{Context, Link, Shared, Tone, sentence};
use crate::client::{Answer, Failure, Reply, Request, Ticket};
use crate::dialog::help::wrap;
use crate::dialog::respond::{Respond, With};
use crate::filter::Filter;
use crate::text;

/// How often ages are drawn anew.
const SECOND: Duration = Duration::from_secs(1);

/// The page.
#[derive(Debug, Default)]
pub struct Upcalls {
    list: ListView,
    pane: Pane,
    requests: Requests,
    arrivals: Arrivals,
    filter: Filter,
    /// The listing that is awaited, and since when.
    listing: Option<(Ticket, Duration)>,
    /// Why there is none.
    failure: Option<Failure>,
    /// The request whose whole text is awaited.
    querying: Option<(Ticket, u64)>,
    /// The process of the daemon that all this is from.
    daemon: Option<u32>,
    /// When the daemon went: ages stand still then.
    stale: Option<Duration>,
    drawn: Duration,
    /// Whether the cursor was put on a request that has ended.
    browses: bool,
}

impl Upcalls {
    fn now(&self, shared: &Shared) -> Duration {
        let now = shared.now.since_start;
        self.stale.map_or(now, |stale| stale.min(now))
    }

    fn arrange(&mut self, context: &mut Context<'_>) {
        let waiting = self.requests.iter().filter(|it| it.is_waiting());
        let ended = self.requests.iter().rev().filter(|it| !it.is_waiting());
        let rows = waiting
            .chain(ended)
            .filter(|it| self.filter.wants(*it))
            .map(|it| it.info.id);
        let row = self.list.cursor();
        self.list.arrange(rows);
        let has_ended = |page: &Self| page.current().is_none_or(|known| !known.is_waiting());
        if !self.browses && has_ended(self) {
            // What the cursor stood on is no more to be answered. The next one is where it was, or
            // above all those that have ended.
            self.list.go_to(row);
            if has_ended(self) {
                self.list.go_to(self.requests.waiting().saturating_sub(1));
            }
            if has_ended(self) {
                self.list.go_to(0);
            }
        }
        context.changed();
        self.query(context);
    }

    fn current(&self) -> Option<&Known> {
        self.requests.get(self.list.current()?)
    }

    /// Whoever goes to a request that has ended wants to stay there.
    fn settle(&mut self, context: &mut Context<'_>) {
        let row = self.list.cursor();
        let is_waiting = self.current().is_none_or(Known::is_waiting);
        self.browses = row > 0 && !is_waiting;
        self.query(context);
    }

    /// Asks for the end of the texts of the request under the cursor.
    fn query(&mut self, context: &mut Context<'_>) {
        if self.querying.is_some() {
            return;
        }
        if let Some(known) = self.current().filter(|known| !known.is_whole) {
            let id = known.info.id;
            self.querying = Some((context.ask(Request::Upcall(id)), id));
        }
    }

    /// The request under the cursor, if something can be `done` with it; else that is said.
    fn to_be(&self, done: &str, context: &mut Context<'_>) -> Option<UpcallInfo> {
        let (tone, text) = match self.current() {
            Some(known) if known.is_waiting() && context.shared.link.is_up() => {
                return Some(known.info.clone());
            }
            Some(known) if known.is_waiting() => (
                Tone::Bad,
                format!("nothing can be {done} without the daemon"),
            ),
            Some(known) => {
                let text = format!(
                    "request {} cannot be {done} any more: {}",
                    known.info.id,
                    details::ending(&known.info)
                );
                (Tone::Plain, text)
            }
            None => (Tone::Plain, "no request is chosen".to_owned()),
        };
        context.shared.say(tone, text);
        None
    }

    /// Opens the dialog that answers the request under the cursor.
    fn respond(&self, with: With, context: &mut Context<'_>) {
        if let Some(info) = self.to_be("answered", context) {
            context.open(Respond::new(info, with));
        }
    }

    /// Why there is nothing in the list.
    fn nothing(&self, shared: &Shared) -> String {
        if !self.filter.is_empty() && self.requests.iter().next().is_some() {
            return "No request meets the filter.".to_owned();
        }
        match (&self.failure, &shared.link) {
            (_, Link::Absent(failure)) => {
                format!(
                    "Requests come through the daemon. {}",
                    capital(&sentence(failure))
                )
            }
            (Some(failure), _) => capital(&sentence(failure)),
            (None, Link::Connecting) => "Connecting to the daemon …".to_owned(),
            (None, _) if self.listing.is_some() => "Reading …".to_owned(),
            (None, _) => "No request is waiting, and none has ended yet. A rule of a container \
                decides who answers its requests: keyctl-ns intercept."
                .to_owned(),
        }
    }

    fn draw_list(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        if self.list.is_empty() {
            let lines = wrap(&self.nothing(shared), usize::from(area.width));
            for (line, place) in lines.into_iter().zip(area.rows()) {
                frame.render_widget(Row::styled(line, shared.theme.faint), place);
            }
            return;
        }
        let width = usize::from(area.width);
        let widths = columns::widths(&COLUMNS, width);
        let rows = [Constraint::Length(1), Constraint::Fill(1)];
        let [head, list] = Layout::vertical(rows).areas(area);
        let titles = columns::head(&COLUMNS, &widths);
        frame.render_widget(Row::styled(titles, shared.theme.heading), head);
        let now = self.now(shared);
        let requests = &self.requests;
        self.list.draw(frame, list, shared, |id| {
            let Some(known) = requests.get(id) else {
                return Row::default();
            };
            let style = match known.info.outcome {
                _ if known.is_waiting() => shared.theme.warning,
                Some(0) => shared.theme.base,
                _ => shared.theme.faint,
            };
            let texts = texts(known, now, width);
            Row::styled(columns::row(&COLUMNS, &widths, &texts), style)
        });
    }
}

/// A span that grows or shrinks on the screen: in whole seconds.
#[must_use]
pub fn whole(span: Duration) -> String {
    view::seconds(span.as_secs())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), chars.as_str())
}

const COLUMNS: [Column; 9] = [
    Column::number("ID", 5),
    Column::number("WAIT", 6),
    Column::text("STATE", 9),
    Column::text("GOT", 12).from(100),
    Column::number("LEFT", 5).from(60),
    Column::text("REQUEST", 12).share(3),
    Column::text("FROM", 11).share(2).from(56),
    Column::number("PID", 8).from(90),
    Column::text("HANDLER", 12).share(1).from(70),
];

/// The texts of the columns.
fn texts(known: &Known, now: Duration, width: usize) -> [String; 9] {
    let (info, by) = (&known.info, &known.info.requester);
    let state = match (info.state.as_str(), info.outcome) {
        ("queued", None) => "waiting".to_owned(),
        // Where there is no column for what it got.
        ("rejected", Some(errno)) if width < 100 => view::outcome(errno),
        (state, _) => text::line(state, 12),
    };
    let wait = match known.is_waiting() {
        true => whole(known.age(now)),
        false => view::milliseconds(info.age_ms),
    };
    let container = by.container.as_deref().unwrap_or("host");
    let nobody = if known.is_waiting() {
        "none yet"
    } else {
        "none"
    };
    let handler = info.handler.as_deref().unwrap_or(nobody);
    let doubt = if by.verified { "" } else { "unverified " };
    let program = text::line(by.command.bytes(), 16);
    [
        info.id.to_string(),
        wait,
        state,
        info.outcome
            .filter(|errno| *errno != 0)
            .map(view::outcome)
            .unwrap_or_default(),
        known.left(now).map(whole).unwrap_or_default(),
        format!(
            "{}: {}",
            text::line(&info.type_, 31),
            text::line(info.description.bytes(), width)
        ),
        format!("{doubt}{}: {program}", text::line(container, 40)),
        by.pid.to_string(),
        text::line(handler, 40),
    ]
}

impl Page for Upcalls {
    fn name(&self) -> &'static str {
        "Upcalls"
    }

    fn scope(&self) -> Scope {
        Scope::Upcalls
    }

    fn badge(&self) -> String {
        match self.requests.waiting() {
            0 => String::new(),
            waiting => format!("({waiting})"),
        }
    }

    fn has_marks(&self) -> bool {
        false
    }

    fn linked(&mut self, context: &mut Context<'_>) {
        match &context.shared.link {
            Link::Up(status) => {
                self.stale = None;
                if self.daemon != Some(status.pid) {
                    // Another daemon, whose numbers begin anew.
                    self.daemon = Some(status.pid);
                    self.requests.clear();
                    self.arrivals.clear();
                    self.arrange(context);
                }
            }
            _ => self.stale = self.stale.or(Some(context.shared.now.since_start)),
        }
    }

    fn refresh(&mut self, context: &mut Context<'_>) {
        let ticket = context.ask(Request::Upcalls { history: HISTORY });
        self.listing = Some((ticket, context.shared.now.since_start));
        self.querying = None;
    }

    fn act(&mut self, action: Action, context: &mut Context<'_>) -> bool {
        if self.pane.act(action) {
            return true;
        }
        match action {
            Action::Answer => self.respond(With::Typed, context),
            Action::FromKeyring => self.respond(With::Copy, context),
            Action::Negate => self.respond(With::Negate, context),
            Action::Reject => self.respond(With::Reject, context),
            Action::Reroute => {
                if let Some(info) = self.to_be("rerouted", context) {
                    reroute::open(&info, context);
                }
            }
            action if self.list.act(action) => self.settle(context),
            _ => return false,
        }
        true
    }

    fn mouse(&mut self, event: MouseEvent, context: &mut Context<'_>) {
        if self.pane.is_alone() {
            self.pane.mouse(event);
        } else if self.list.mouse(event) == Click::Entered {
            self.pane.toggle();
        }
        self.settle(context);
    }

    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) {
        let now = context.shared.now.since_start;
        if let Some((ticket, asked)) = self.listing
            && ticket == answer.ticket
        {
            self.listing = None;
            match &answer.result {
                Ok(Reply::Upcalls(listing)) => {
                    self.failure = None;
                    for info in listing.upcalls.iter().chain(&listing.history) {
                        if self.requests.get(info.id).is_none() {
                            self.arrivals.add(info.time_ms);
                        }
                    }
                    self.requests.list(listing, asked, now);
                }
                Ok(_) => {}
                Err(failure) => self.failure = Some(failure.clone()),
            }
            return self.arrange(context);
        }
        if let Some((ticket, id)) = self.querying
            && ticket == answer.ticket
        {
            self.querying = None;
            match &answer.result {
                Ok(Reply::Upcall(info)) => self.requests.tell_whole((**info).clone(), now),
                // Forgotten meanwhile: what is known of it is all that there is.
                _ => self.requests.settle(id),
            }
            self.arrange(context);
        }
    }

    fn event(&mut self, event: &Event, context: &mut Context<'_>) {
        if event.dropped > 0 {
            // What was lost may have been the end of a request.
            self.refresh(context);
        }
        let Some(info) = &event.upcall else { return };
        if self.requests.get(info.id).is_none() {
            self.arrivals.add(info.time_ms);
        }
        if self
            .requests
            .tell(info.clone(), context.shared.now.since_start)
        {
            self.arrange(context);
        }
    }

    fn filter(&mut self, filter: &Filter, context: &mut Context<'_>) {
        self.filter = filter.clone();
        self.arrange(context);
    }

    fn wakes_at(&self, shared: &Shared) -> Option<Duration> {
        let ages = self.stale.is_none() && self.requests.waiting() > 0;
        let moves = ages || self.arrivals.moves(shared.now.epoch_ms);
        moves.then_some(self.drawn + SECOND)
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        self.drawn = context.shared.now.since_start;
        context.changed();
    }

    fn summary(&self, _: &Shared) -> String {
        let waiting = self.requests.waiting();
        let ended = self.requests.iter().count() - waiting;
        let row = (self.list.cursor() + 1).min(self.list.len());
        let wait = if waiting == 1 { "waits" } else { "wait" };
        let stale = match self.stale {
            Some(_) if waiting > 0 => "  as of when the daemon went",
            _ => "",
        };
        format!(
            "{row}/{}  {waiting} {wait}, {ended} ended{stale}",
            self.list.len()
        )
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let (list, details) = self.pane.split(frame, area, shared);
        if let Some(list) = list {
            let rows = if list.height < 6 { 0 } else { 2 };
            let parts = [Constraint::Length(rows), Constraint::Fill(1)];
            let [figures, list] = Layout::vertical(parts).areas(list);
            let lines = [
                self.arrivals.line(shared.now.epoch_ms),
                durations(&self.requests),
            ];
            for (line, place) in lines.into_iter().zip(figures.rows()) {
                let line = text::fit(&line, usize::from(place.width));
                frame.render_widget(Row::styled(line, shared.theme.accent), place);
            }
            self.draw_list(frame, list, shared);
        }
        let Some(area) = details else { return };
        let now = self.now(shared);
        let lines = self
            .current()
            .map(|known| details::lines(known, now, shared, area.width));
        if let Some(lines) = lines {
            self.pane.draw(frame, area, lines, shared);
        }
    }
}
