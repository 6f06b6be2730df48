//! The page Events: what happened to containers, keys and requests while this program ran, and where
//! something is missing.

pub mod record;

use std::collections::VecDeque;
use std::time::Duration;

use crossterm::event::MouseEvent;
use keyctl_ns::view;
use keyns_interfaces::event::Event;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line as Row;

use self::record::{Kind, Record};
use super::Page;
use super::columns::{self, Column};
use super::keys::details::Lines;
use super::list_view::{Click, ListView};
use super::pane::Pane;
use crate::action::{Action, Scope};
use crate::app::shared::{Context, Link, Shared, sentence};
use crate::client::Answer;
use crate::dialog::help::wrap;
use crate::filter::Filter;

/// Records that are kept.
const KEPT: usize = 2000;

/// The page.
#[derive(Debug)]
pub struct Events {
    records: VecDeque<Record>,
    /// Number of the oldest record; the others follow.
    first: u64,
    list: ListView,
    pane: Pane,
    filter: Filter,
    /// Whether the newest stays under the cursor.
    follows: bool,
    newest_first: bool,
    /// Records that came since the cursor does not follow.
    newer: u64,
    /// Events that the daemon says it did not deliver.
    lost: u64,
    was_up: bool,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            records: VecDeque::new(),
            first: 0,
            list: ListView::default(),
            pane: Pane::default(),
            filter: Filter::default(),
            follows: true,
            newest_first: false,
            newer: 0,
            lost: 0,
            was_up: false,
        }
    }
}

const COLUMNS: [Column; 3] = [
    Column::text("TIME", 8),
    Column::text("EVENT", 19),
    Column::text("WHAT", 8).share(1),
];

/// The same where there is no room beside.
const NARROW: [Column; 3] = [
    Column::text("TIME", 5),
    Column::text("EVENT", 17),
    Column::text("WHAT", 8).share(1),
];

impl Events {
    fn get(&self, id: u64) -> Option<&Record> {
        let at = usize::try_from(id.checked_sub(self.first)?).ok()?;
        self.records.get(at)
    }

    fn is_shown(&self, record: &Record) -> bool {
        record.kind == Kind::Unknown || self.filter.wants(record)
    }

    fn add(&mut self, record: Record, context: &mut Context<'_>) {
        if self.records.len() >= KEPT {
            self.records.pop_front();
            self.list.forget(self.first);
            self.first += 1;
        }
        let id = self.first + u64::try_from(self.records.len()).unwrap_or(0);
        let is_shown = self.is_shown(&record);
        self.records.push_back(record);
        if !is_shown {
            return;
        }
        if self.newest_first {
            self.list.push_first(id);
        } else {
            self.list.push_last(id);
        }
        match self.follows {
            true => self.go_to_newest(),
            false => self.newer += 1,
        }
        context.changed();
    }

    fn go_to_newest(&mut self) {
        let row = if self.newest_first { 0 } else { usize::MAX };
        self.list.go_to(row);
        self.follows = true;
        self.newer = 0;
    }

    fn is_at_newest(&self) -> bool {
        match self.newest_first {
            true => self.list.cursor() == 0,
            false => self.list.cursor() + 1 >= self.list.len(),
        }
    }

    fn arrange(&mut self, context: &mut Context<'_>) {
        let numbers = self.first..;
        let records = numbers.zip(&self.records);
        let mut rows: Vec<u64> = records
            .filter(|(_, record)| self.is_shown(record))
            .map(|(id, _)| id)
            .collect();
        if self.newest_first {
            rows.reverse();
        }
        self.list.arrange(rows);
        if self.follows {
            self.go_to_newest();
        }
        context.changed();
    }

    /// Whoever goes to the newest follows, whoever leaves it does not.
    fn settle(&mut self) {
        if self.is_at_newest() {
            self.go_to_newest();
        } else {
            self.follows = false;
        }
    }

    fn nothing(&self, shared: &Shared) -> String {
        match &shared.link {
            _ if !self.records.is_empty() => "No event meets the filter.".to_owned(),
            Link::Absent(failure) => {
                format!("Events come from the daemon: {}.", sentence(failure))
            }
            Link::Connecting => "Connecting to the daemon …".to_owned(),
            _ => "Nothing has happened yet.".to_owned(),
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
        let columns = if area.width < 60 { &NARROW } else { &COLUMNS };
        let widths = columns::widths(columns, usize::from(area.width));
        let clock = columns.first().map_or(8, |it| it.cells);
        let (records, first) = (&self.records, self.first);
        self.list.draw(frame, area, shared, |id| {
            let at = usize::try_from(id.saturating_sub(first)).unwrap_or(usize::MAX);
            let Some(record) = records.get(at) else {
                return Row::default();
            };
            let style = match record.kind {
                Kind::Unknown => shared.theme.warning,
                Kind::Happened => shared.theme.base,
            };
            let time = view::clock(record.time_ms);
            let time = time.get(..clock).unwrap_or(&time).to_owned();
            let texts = [time, record.name.clone(), record.sentence.clone()];
            Row::styled(columns::row(columns, &widths, &texts), style)
        });
    }
}

fn details<'a>(record: &Record, shared: &'a Shared, width: u16) -> Lines<'a> {
    let mut lines = Lines::new(shared, width);
    let day = view::time(record.time_ms / 1000);
    let day = day.split(' ').next().unwrap_or_default();
    lines.sentence("event", &record.name);
    let when = format!("{day} {}", view::clock(record.time_ms));
    lines.sentence("time", &when);
    for (name, value) in &record.facts {
        let value = crate::text::lines(value, lines.room(), 3);
        lines.lines(name, value, shared.theme.base);
    }
    if record.facts.is_empty() {
        lines.sentence("", &record.sentence);
    }
    lines
}

impl Page for Events {
    fn name(&self) -> &'static str {
        "Events"
    }

    fn scope(&self) -> Scope {
        Scope::Events
    }

    fn has_marks(&self) -> bool {
        false
    }

    fn linked(&mut self, context: &mut Context<'_>) {
        let time_ms = context.shared.now.epoch_ms;
        let record = match &context.shared.link {
            Link::Up(status) if self.records.is_empty() => {
                let name = crate::text::line(&status.instance, 40);
                let text = format!("events of keynsd {name} are shown from now on");
                Record::of_daemon(time_ms, "connected", &text)
            }
            Link::Up(_) => {
                let text = "keynsd is back; what happened in between is not known";
                Record::of_daemon(time_ms, "connected", text)
            }
            Link::Stale { failure, .. } if self.was_up => {
                let text = format!("nothing is known from here on: {}", sentence(failure));
                Record::of_daemon(time_ms, "disconnected", &text)
            }
            _ => return,
        };
        self.was_up = context.shared.link.is_up();
        self.add(record, context);
    }

    fn refresh(&mut self, _: &mut Context<'_>) {}

    fn act(&mut self, action: Action, context: &mut Context<'_>) -> bool {
        if self.pane.act(action) {
            return true;
        }
        match action {
            Action::Follow if self.follows => self.follows = false,
            Action::Follow => self.go_to_newest(),
            Action::Order => {
                self.newest_first = !self.newest_first;
                self.arrange(context);
            }
            action if self.list.act(action) => self.settle(),
            _ => return false,
        }
        true
    }

    fn mouse(&mut self, event: MouseEvent, _: &mut Context<'_>) {
        if self.pane.is_alone() {
            self.pane.mouse(event);
        } else if self.list.mouse(event) == Click::Entered {
            self.pane.toggle();
        } else {
            self.settle();
        }
    }

    fn answer(&mut self, _: &Answer, _: &mut Context<'_>) {}

    fn event(&mut self, event: &Event, context: &mut Context<'_>) {
        if event.dropped > 0 {
            self.lost = self.lost.saturating_add(event.dropped);
            self.add(Record::lost(event.time_ms, event.dropped), context);
        }
        // The first one of each stream says that it is one.
        if event.event != "subscribed" {
            self.add(Record::of(event), context);
        }
    }

    fn filter(&mut self, filter: &Filter, context: &mut Context<'_>) {
        self.filter = filter.clone();
        self.arrange(context);
    }

    fn wakes_at(&self, _: &Shared) -> Option<Duration> {
        None
    }

    fn tick(&mut self, _: &mut Context<'_>) {}

    fn summary(&self, _: &Shared) -> String {
        let row = (self.list.cursor() + 1).min(self.list.len());
        let follows = match (self.follows, self.newer) {
            (true, _) => "following".to_owned(),
            (false, 0) => "paused".to_owned(),
            (false, newer) => format!("paused, {newer} newer"),
        };
        let lost = match self.lost {
            0 => String::new(),
            lost => format!("  {lost} lost"),
        };
        let full = match self.records.len() >= KEPT {
            true => format!("  only the last {KEPT} are kept"),
            false => String::new(),
        };
        format!("{row}/{}  {follows}{lost}{full}", self.list.len())
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let (list, pane) = self.pane.split(frame, area, shared);
        if let Some(list) = list {
            self.draw_list(frame, list, shared);
        }
        let record = self.list.current().and_then(|id| self.get(id));
        let lines = record
            .zip(pane)
            .map(|(record, area)| details(record, shared, area.width));
        if let Some((lines, area)) = lines.zip(pane) {
            self.pane.draw(frame, area, lines, shared);
        }
    }
}
