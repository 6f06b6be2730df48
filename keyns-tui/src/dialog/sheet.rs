//! Details alone, where there is no room for all of them beside a list.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line as Row;

use super::{Dialog, Flow};
use crate::action::Action;
use crate::app::shared::{Context, Shared};

/// Writes the lines of this width.
pub type Write = Box<dyn Fn(&Shared, u16) -> Vec<Row<'static>>>;

/// Lines to be read and scrolled.
pub struct Sheet {
    title: String,
    write: Write,
    top: usize,
    height: usize,
}

impl Sheet {
    /// Shows what `write` writes.
    #[must_use]
    pub fn new(title: impl Into<String>, write: Write) -> Self {
        Self {
            title: title.into(),
            write,
            top: 0,
            height: 1,
        }
    }
}

impl Dialog for Sheet {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self, shared: &Shared) -> (u16, u16) {
        let rows = (self.write)(shared, 76).len() + 1;
        (76, u16::try_from(rows).unwrap_or(u16::MAX))
    }

    fn actions(&self) -> &'static [Action] {
        &[Action::NextField, Action::PreviousField, Action::Cancel]
    }

    fn act(&mut self, action: Action, _: &mut Context<'_>) -> Flow {
        match action {
            Action::Confirm => return Flow::Close,
            Action::NextField | Action::Down => self.top = self.top.saturating_add(1),
            Action::PreviousField | Action::Up => self.top = self.top.saturating_sub(1),
            Action::PageDown => self.top = self.top.saturating_add(self.height),
            Action::PageUp => self.top = self.top.saturating_sub(self.height),
            Action::First => self.top = 0,
            Action::Last => self.top = usize::MAX,
            _ => {}
        }
        Flow::Stay
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let rows = (self.write)(shared, area.width);
        self.height = usize::from(area.height).max(1);
        self.top = self.top.min(rows.len().saturating_sub(self.height));
        for (row, place) in rows.into_iter().skip(self.top).zip(area.rows()) {
            frame.render_widget(row, place);
        }
    }
}
