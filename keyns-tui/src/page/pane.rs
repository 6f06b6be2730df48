//! Where the details of what the cursor stands on are drawn: beside the list, below it, or, on a small
//! screen, alone after Enter.

use crossterm::event::{MouseEvent, MouseEventKind};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line as Row;
use ratatui::widgets::Clear;

use super::beside;
use super::keys::details::Lines;
use crate::action::Action;
use crate::app::shared::Shared;

/// The pane.
#[derive(Debug, Default)]
pub struct Pane {
    is_alone: bool,
    top: usize,
    height: usize,
}

impl Pane {
    /// Whether the details are shown alone.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Shows them alone, or beside the list again.
    pub fn toggle(&mut self) {
        self.is_alone = !self.is_alone;
        self.top = 0;
    }

    /// Scrolls details that are shown alone, or leaves them; says whether that was meant.
    pub fn act(&mut self, action: Action) -> bool {
        let page = self.height.max(2) - 1;
        match action {
            Action::Enter | Action::Details => self.toggle(),
            Action::Close | Action::ClearFilter if self.is_alone => self.toggle(),
            Action::Up if self.is_alone => self.top = self.top.saturating_sub(1),
            Action::Down if self.is_alone => self.top = self.top.saturating_add(1),
            Action::PageUp if self.is_alone => self.top = self.top.saturating_sub(page),
            Action::PageDown if self.is_alone => self.top = self.top.saturating_add(page),
            Action::First if self.is_alone => self.top = 0,
            Action::Last if self.is_alone => self.top = usize::MAX,
            _ => return false,
        }
        true
    }

    /// The wheel scrolls details that are shown alone; a button leaves them.
    pub fn mouse(&mut self, event: MouseEvent) {
        match event.kind {
            MouseEventKind::ScrollUp => self.top = self.top.saturating_sub(3),
            MouseEventKind::ScrollDown => self.top = self.top.saturating_add(3),
            MouseEventKind::Down(_) => self.toggle(),
            _ => {}
        }
    }

    /// The area of the list, if it is shown, and that of the details, with the line between them drawn.
    pub fn split(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        shared: &Shared,
    ) -> (Option<Rect>, Option<Rect>) {
        if self.is_alone {
            return (None, Some(area));
        }
        let parts = beside::split(frame, area, shared);
        (Some(parts.list), parts.details)
    }

    /// Draws the details, and says so where they do not fit.
    pub fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, lines: Lines<'_>, shared: &Shared) {
        let all = lines.height();
        self.height = usize::from(area.height);
        self.top = self.top.min(all.saturating_sub(self.height));
        let below = all.saturating_sub(self.top + self.height);
        lines.draw(frame, area, self.top);
        let way = match self.is_alone {
            true => Action::Down,
            false => Action::Enter,
        };
        more(frame, area, below, &shared.keymap.first(way), shared);
    }
}

/// Draws the beginning of details that a dialog shows whole, and says so where they do not fit.
pub fn beginning(frame: &mut Frame<'_>, area: Rect, lines: Lines<'_>, shared: &Shared) {
    let below = lines.height().saturating_sub(usize::from(area.height));
    lines.draw(frame, area, 0);
    let way = shared.keymap.first(Action::Details);
    more(frame, area, below, &way, shared);
}

/// Says in the last row of an area how many lines are below it, and how to get there.
pub fn more(frame: &mut Frame<'_>, area: Rect, below: usize, way: &str, shared: &Shared) {
    if below == 0 || area.height < 2 {
        return;
    }
    let row = Rect::new(area.x, area.bottom() - 1, area.width, 1);
    let text = format!("… {} more lines: {way}", below + 1);
    let text = crate::text::fit(&text, usize::from(area.width));
    frame.render_widget(Clear, row);
    frame.buffer_mut().set_style(row, shared.theme.base);
    frame.render_widget(Row::styled(text, shared.theme.faint), row);
}
