//! One of many places, found by typing, and what to do with it.

use std::fmt;

use keyns_interfaces::event::Event;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line as Row, Span};

use super::help::wrap;
use super::subject::Subject;
use super::{Dialog, Flow};
use crate::action::Action;
use crate::app::shared::{Context, Shared, sentence};
use crate::client::{Answer, Request, Ticket};
use crate::edit::{Edit, Line};
use crate::text;

/// Makes the requests of the mode and the place that were chosen.
pub type Build = Box<dyn Fn(usize, usize) -> Vec<Request>>;

/// The dialog.
pub struct Pick {
    title: String,
    intro: String,
    modes: Vec<&'static str>,
    mode: usize,
    places: Vec<String>,
    found: Vec<usize>,
    search: Line,
    cursor: usize,
    height: usize,
    build: Build,
    subject: Subject,
    waiting: Vec<Ticket>,
    error: Option<String>,
}

impl fmt::Debug for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick")
            .field("title", &self.title)
            .field("places", &self.places.len())
            .finish_non_exhaustive()
    }
}

impl Pick {
    /// A choice among `places`, each a text that is safe already, for one of `modes`.
    #[must_use]
    pub fn new(
        title: impl Into<String>,
        intro: impl Into<String>,
        modes: Vec<&'static str>,
        places: Vec<String>,
        build: Build,
    ) -> Self {
        Self {
            title: title.into(),
            intro: intro.into(),
            modes,
            mode: 0,
            found: (0..places.len()).collect(),
            places,
            search: Line::default(),
            cursor: 0,
            height: 1,
            build,
            subject: Subject::default(),
            waiting: Vec::new(),
            error: None,
        }
    }

    fn find(&mut self) {
        let wanted = self.search.text().to_lowercase();
        let words: Vec<&str> = wanted.split_whitespace().collect();
        let fits = |place: &String| {
            let place = place.to_lowercase();
            words.iter().all(|word| place.contains(word))
        };
        let places = self.places.iter().enumerate();
        self.found = places
            .filter_map(|(at, place)| fits(place).then_some(at))
            .collect();
        self.cursor = 0;
    }

    fn move_by(&mut self, rows: isize) {
        let last = self.found.len().saturating_sub(1);
        self.cursor = self.cursor.saturating_add_signed(rows).min(last);
    }

    fn confirm(&mut self, context: &mut Context<'_>) {
        let Some(place) = self.found.get(self.cursor) else {
            self.error = Some("there is no such place; type less of it".to_owned());
            return;
        };
        self.error = None;
        for request in (self.build)(self.mode, *place) {
            self.waiting.push(context.ask(request));
        }
    }
}

impl Dialog for Pick {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self, _: &Shared) -> (u16, u16) {
        let rows = wrap(&self.intro, 66).len() + self.places.len().min(10) + 4;
        (66, u16::try_from(rows).unwrap_or(u16::MAX))
    }

    fn takes_text(&self) -> bool {
        true
    }

    fn actions(&self) -> &'static [Action] {
        &[Action::Confirm, Action::Cancel, Action::NextField]
    }

    fn edit(&mut self, edit: &Edit, _: &mut Context<'_>) {
        let modes = self.modes.len().max(1);
        match edit {
            Edit::Left => self.mode = (self.mode + modes - 1) % modes,
            Edit::Right => self.mode = (self.mode + 1) % modes,
            edit => {
                self.search.edit(edit);
                self.find();
            }
        }
        self.error = None;
    }

    fn act(&mut self, action: Action, context: &mut Context<'_>) -> Flow {
        let page = isize::try_from(self.height).unwrap_or(1);
        match action {
            Action::NextField => self.move_by(1),
            Action::PreviousField => self.move_by(-1),
            Action::PageDown => self.move_by(page),
            Action::PageUp => self.move_by(-page),
            Action::Confirm if self.waiting.is_empty() => self.confirm(context),
            _ => {}
        }
        Flow::Stay
    }

    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) -> Flow {
        let Some(at) = self.waiting.iter().position(|it| *it == answer.ticket) else {
            return self.subject.answer(answer, context);
        };
        self.waiting.remove(at);
        if let Err(failure) = &answer.result {
            self.error = Some(sentence(failure));
            context.changed();
        }
        match self.waiting.is_empty() && self.error.is_none() {
            true => Flow::Close,
            false => Flow::Stay,
        }
    }

    fn event(&mut self, event: &Event, context: &mut Context<'_>) -> Flow {
        self.subject.event(event, context)
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let theme = &shared.theme;
        let width = usize::from(area.width);
        let mut rows: Vec<Row<'_>> = wrap(&self.intro, width)
            .into_iter()
            .map(|line| Row::styled(line, theme.heading))
            .collect();
        rows.truncate(usize::from(area.height) / 3);
        let mut modes = Vec::new();
        for (at, mode) in self.modes.iter().enumerate() {
            let (before, after, style) = match at == self.mode {
                true => ("[ ", " ]", theme.selected),
                false => ("  ", "  ", theme.base),
            };
            modes.push(Span::styled(format!("{before}{mode}{after}"), style));
        }
        if self.modes.len() > 1 {
            modes.push(Span::styled("  ← →", theme.faint));
        }
        rows.push(Row::from(modes));
        let (typed, cursor) = self.search.shown(width.saturating_sub(6));
        let search = rows.len();
        rows.push(Row::from(vec![
            Span::styled("find  ", theme.heading),
            Span::raw(typed),
        ]));
        let failure: Vec<Row<'_>> = match (&self.error, self.waiting.is_empty()) {
            (Some(error), _) => wrap(&format!("! {error}"), width)
                .into_iter()
                .map(|line| Row::styled(line, theme.bad))
                .collect(),
            (None, false) => vec![Row::styled("… waiting for the answer", theme.faint)],
            (None, true) => Vec::new(),
        };
        let height = usize::from(area.height);
        self.height = height.saturating_sub(rows.len() + failure.len()).max(1);
        let top = (self.cursor + 1).saturating_sub(self.height);
        if self.found.is_empty() {
            rows.push(Row::styled("no place has these words", theme.faint));
        }
        for (row, place) in self.found.iter().enumerate().skip(top).take(self.height) {
            let name = self.places.get(*place).map_or("", String::as_str);
            let (sign, style) = match row == self.cursor {
                true => ("› ", theme.selected),
                false => ("  ", theme.base),
            };
            rows.push(Row::styled(
                text::fit(&format!("{sign}{name}"), width),
                style,
            ));
        }
        rows.extend(failure);
        for (row, place) in rows.into_iter().zip(area.rows()) {
            frame.render_widget(row, place);
        }
        let column = u16::try_from(6 + cursor).unwrap_or(u16::MAX);
        shared.place_cursor(
            frame,
            area,
            column,
            u16::try_from(search).unwrap_or(u16::MAX),
        );
    }
}
