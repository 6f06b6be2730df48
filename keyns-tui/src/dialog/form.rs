//! A form: fields that make up one request. It stays open until the request has succeeded, so that a
//! refusal can be read beside what was typed.

use std::fmt;

use keyns_interfaces::event::Event;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line as Row;

use super::fields::{Field, Fields};
use super::help::wrap;
use super::subject::Subject;
use super::{Dialog, Flow};
use crate::action::Action;
use crate::app::shared::{Context, Shared, sentence};
use crate::client::{Answer, Request, Ticket};
use crate::edit::Edit;

/// Makes the request of what was filled in, or says what is wrong with it.
pub type Build = Box<dyn Fn(&[Field]) -> Result<Request, String>>;

/// The form.
pub struct Form {
    title: String,
    intro: String,
    fields: Fields,
    build: Build,
    subject: Subject,
    error: Option<String>,
    waiting: Option<Ticket>,
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form")
            .field("title", &self.title)
            .finish_non_exhaustive()
    }
}

impl Form {
    /// An empty form. `intro` names the object, as text that is safe already.
    #[must_use]
    pub fn new(
        title: impl Into<String>,
        intro: impl Into<String>,
        fields: Vec<Field>,
        build: Build,
    ) -> Self {
        Self {
            title: title.into(),
            intro: intro.into(),
            fields: Fields::new(fields),
            build,
            subject: Subject::default(),
            error: None,
            waiting: None,
        }
    }

    /// It is about this, and goes with it.
    #[must_use]
    pub fn about(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }
}

impl Dialog for Form {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self, shared: &Shared) -> (u16, u16) {
        let rows = wrap(&self.intro, 66).len() + self.fields.height(66, shared) + 4;
        (66, u16::try_from(rows).unwrap_or(u16::MAX))
    }

    fn takes_text(&self) -> bool {
        true
    }

    fn actions(&self) -> &'static [Action] {
        &[Action::Confirm, Action::Cancel, Action::NextField]
    }

    fn edit(&mut self, edit: &Edit, _: &mut Context<'_>) {
        self.error = None;
        self.fields.edit(edit);
    }

    fn act(&mut self, action: Action, context: &mut Context<'_>) -> Flow {
        match action {
            Action::NextField => self.fields.go(false),
            Action::PreviousField => self.fields.go(true),
            Action::Confirm if self.waiting.is_none() => match (self.build)(&self.fields.all) {
                Ok(request) => {
                    self.error = None;
                    self.waiting = Some(context.ask(request));
                }
                Err(error) => self.error = Some(error),
            },
            _ => {}
        }
        Flow::Stay
    }

    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) -> Flow {
        if self.waiting != Some(answer.ticket) {
            return self.subject.answer(answer, context);
        }
        self.waiting = None;
        match &answer.result {
            Ok(_) => Flow::Close,
            Err(failure) => {
                self.error = Some(sentence(failure));
                context.changed();
                Flow::Stay
            }
        }
    }

    fn event(&mut self, event: &Event, context: &mut Context<'_>) -> Flow {
        self.subject.event(event, context)
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let theme = &shared.theme;
        let width = usize::from(area.width);
        let styled = |text: &str, style| -> Vec<Row<'static>> {
            let lines = wrap(text, width).into_iter();
            lines.map(|line| Row::styled(line, style)).collect()
        };
        let before = match self.intro.is_empty() {
            true => Vec::new(),
            false => styled(&self.intro, theme.heading),
        };
        let mut after = vec![Row::raw("")];
        if self.waiting.is_some() {
            after.extend(styled("… waiting for the answer", theme.faint));
        } else if let Some(error) = &self.error {
            after.extend(styled(&format!("! {error}"), theme.bad));
        }
        self.fields.draw(frame, area, shared, before, after);
    }
}
