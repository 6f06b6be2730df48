//! A list on the screen: which rows there are, where the cursor stands, which part is in view. What a
//! row shows is the business of the page; here a row is a number that stays the same.

use std::collections::VecDeque;

use crossterm::event::{MouseEvent, MouseEventKind};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::Line as Row;

use crate::action::Action;
use crate::app::shared::Shared;

/// Rows that one turn of the wheel moves.
const WHEEL: usize = 3;

/// The list.
#[derive(Debug, Default)]
pub struct ListView {
    rows: VecDeque<u64>,
    cursor: usize,
    top: usize,
    area: Rect,
}

/// What a mouse button or wheel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Click {
    /// The cursor moved, or nothing happened.
    Moved,
    /// A button on the row under the cursor.
    Entered,
}

impl ListView {
    /// These are the rows from now on. The cursor stays on its row; if that is gone, where it was.
    pub fn arrange(&mut self, rows: impl IntoIterator<Item = u64>) {
        let current = self.current();
        self.rows.clear();
        self.rows.extend(rows);
        let place = current.and_then(|id| self.rows.iter().position(|row| *row == id));
        self.go_to(place.unwrap_or(self.cursor));
    }

    /// Another row below all others.
    pub fn push_last(&mut self, id: u64) {
        self.rows.push_back(id);
    }

    /// Another row above all others; what is in view stays in view.
    pub fn push_first(&mut self, id: u64) {
        if !self.rows.is_empty() {
            self.cursor += 1;
            self.top += 1;
        }
        self.rows.push_front(id);
    }

    /// The row is gone, if it was the first or last one.
    pub fn forget(&mut self, id: u64) {
        if self.rows.front() == Some(&id) {
            self.rows.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
            self.top = self.top.saturating_sub(1);
        } else if self.rows.back() == Some(&id) {
            self.rows.pop_back();
            self.go_to(self.cursor);
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row under the cursor.
    #[must_use]
    pub fn current(&self) -> Option<u64> {
        self.rows.get(self.cursor).copied()
    }

    /// Where the cursor is, from 0.
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// To this row, or the last one.
    pub fn go_to(&mut self, row: usize) {
        self.cursor = row.min(self.rows.len().saturating_sub(1));
    }

    /// Moves; says whether the action was one that moves.
    pub fn act(&mut self, action: Action) -> bool {
        let page = usize::from(self.area.height.max(2) - 1);
        match action {
            Action::Up => self.go_to(self.cursor.saturating_sub(1)),
            Action::Down => self.go_to(self.cursor + 1),
            Action::PageUp => self.go_to(self.cursor.saturating_sub(page)),
            Action::PageDown => self.go_to(self.cursor + page),
            Action::First => self.go_to(0),
            Action::Last => self.go_to(usize::MAX),
            _ => return false,
        }
        true
    }

    /// A button moves the cursor, the wheel too.
    pub fn mouse(&mut self, event: MouseEvent) -> Click {
        match event.kind {
            MouseEventKind::ScrollUp => self.go_to(self.cursor.saturating_sub(WHEEL)),
            MouseEventKind::ScrollDown => self.go_to(self.cursor + WHEEL),
            MouseEventKind::Down(_) => {
                if !self.area.contains(Position::new(event.column, event.row)) {
                    return Click::Moved;
                }
                let row = self.top + usize::from(event.row - self.area.y);
                if row == self.cursor {
                    return Click::Entered;
                }
                if row < self.rows.len() {
                    self.go_to(row);
                }
            }
            _ => {}
        }
        Click::Moved
    }

    /// Draws the rows that fit.
    pub fn draw(
        &mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        shared: &Shared,
        mut show: impl FnMut(u64) -> Row<'static>,
    ) {
        self.area = area;
        let height = usize::from(area.height);
        self.go_to(self.cursor);
        let lowest = self.rows.len().saturating_sub(height);
        self.top = self
            .top
            .max((self.cursor + 1).saturating_sub(height))
            .min(self.cursor)
            .min(lowest);
        let rows = self.rows.iter().enumerate().skip(self.top);
        for ((at, id), place) in rows.zip(area.rows()) {
            frame.render_widget(show(*id), place);
            if at == self.cursor {
                frame.buffer_mut().set_style(place, shared.theme.selected);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stays_on_its_row() {
        let mut list = ListView::default();
        list.arrange([1, 2, 3]);
        list.go_to(1);
        list.arrange([9, 1, 8, 2]);
        assert_eq!(list.current(), Some(2));
        list.push_first(7);
        assert_eq!(list.current(), Some(2));
        list.forget(7);
        assert_eq!(list.current(), Some(2));
        list.arrange([4]);
        assert_eq!(list.current(), Some(4));
        list.arrange([]);
        assert_eq!(list.current(), None);
        assert!(list.act(Action::Down) && list.act(Action::PageUp));
        assert_eq!(list.cursor(), 0);
    }

    #[test]
    fn only_the_ends_are_forgotten() {
        let mut list = ListView::default();
        list.arrange([1, 2, 3]);
        list.go_to(2);
        list.forget(2);
        assert_eq!(list.len(), 3);
        list.forget(3);
        assert_eq!((list.len(), list.current()), (2, Some(2)));
    }
}
