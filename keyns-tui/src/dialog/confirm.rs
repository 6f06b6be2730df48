//! A question before something is destroyed. It names the object, and Enter alone does nothing until
//! the choice was moved to “yes”, so that a key too many destroys nothing.

use keyns_interfaces::event::Event;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line as Row, Span};

use super::help::wrap;
use super::subject::Subject;
use super::{Dialog, Flow};
use crate::action::Action;
use crate::app::shared::{Context, Shared};
use crate::client::{Answer, Request};
use crate::edit::Edit;

/// The question.
#[derive(Debug)]
pub struct Confirm {
    title: String,
    question: String,
    /// What follows from it.
    consequence: String,
    requests: Vec<Request>,
    subject: Subject,
    is_yes: bool,
}

impl Confirm {
    /// Asks `question` and has `requests` carried out if it is answered with yes. The question names
    /// the object, as text that is safe already.
    #[must_use]
    pub fn new(
        title: impl Into<String>,
        question: impl Into<String>,
        consequence: impl Into<String>,
        requests: Vec<Request>,
    ) -> Self {
        Self {
            title: title.into(),
            question: question.into(),
            consequence: consequence.into(),
            requests,
            subject: Subject::default(),
            is_yes: false,
        }
    }

    /// It is about this, and goes with it.
    #[must_use]
    pub fn about(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }
}

impl Dialog for Confirm {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self, _: &Shared) -> (u16, u16) {
        let rows = wrap(&self.question, 60).len() + wrap(&self.consequence, 60).len() + 3;
        (60, u16::try_from(rows).unwrap_or(u16::MAX))
    }

    fn takes_text(&self) -> bool {
        true
    }

    fn actions(&self) -> &'static [Action] {
        &[Action::NextField, Action::Confirm, Action::Cancel]
    }

    fn edit(&mut self, edit: &Edit, _: &mut Context<'_>) {
        match edit {
            Edit::Insert(text) if text == "y" => self.is_yes = true,
            Edit::Insert(text) if text == "n" => self.is_yes = false,
            Edit::Left | Edit::Right => self.is_yes = !self.is_yes,
            _ => {}
        }
    }

    fn act(&mut self, action: Action, context: &mut Context<'_>) -> Flow {
        match action {
            Action::NextField | Action::PreviousField | Action::Toggle => {
                self.is_yes = !self.is_yes
            }
            Action::Confirm => {
                if self.is_yes {
                    for request in std::mem::take(&mut self.requests) {
                        context.ask(request);
                    }
                }
                return Flow::Close;
            }
            _ => {}
        }
        Flow::Stay
    }

    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) -> Flow {
        self.subject.answer(answer, context)
    }

    fn event(&mut self, event: &Event, context: &mut Context<'_>) -> Flow {
        self.subject.event(event, context)
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let theme = &shared.theme;
        let width = usize::from(area.width);
        let choice = |is_this: bool, word: &str| match is_this {
            true => Span::styled(format!("[ {word} ]"), theme.selected),
            false => Span::styled(format!("  {word}  "), theme.base),
        };
        let mut rows: Vec<Row<'_>> = Vec::new();
        rows.extend(
            wrap(&self.question, width)
                .into_iter()
                .map(|line| Row::styled(line, theme.heading)),
        );
        rows.extend(
            wrap(&self.consequence, width)
                .into_iter()
                .map(|line| Row::styled(line, theme.warning)),
        );
        // What is asked stays visible where there is no room for all of it.
        rows.truncate(usize::from(area.height).saturating_sub(1));
        rows.push(Row::from(vec![
            choice(!self.is_yes, "no"),
            Span::raw("  "),
            choice(self.is_yes, "yes"),
        ]));
        for (row, at) in rows.into_iter().zip(area.rows()) {
            frame.render_widget(row, at);
        }
    }
}
