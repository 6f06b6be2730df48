//! A list and the details of one of its rows: side by side, one above the other, or the list alone,
//! as there is room.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::widgets::{Block, Borders};

use crate::app::shared::Shared;

/// From this width on they stand side by side.
const WIDE: u16 = 110;
/// Below this height there are no details.
const HIGH: u16 = 16;

/// Where the two go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// The list.
    pub list: Rect,
    /// The details, if there is room.
    pub details: Option<Rect>,
}

/// Divides an area, and draws the line between the parts.
pub fn split(frame: &mut Frame<'_>, area: Rect, shared: &Shared) -> Parts {
    let (layout, side) = if area.width >= WIDE {
        let parts = [Constraint::Fill(3), Constraint::Fill(2)];
        (Layout::horizontal(parts), Borders::LEFT)
    } else if area.height >= HIGH {
        let below = Constraint::Length((area.height / 2).min(14));
        let parts = [Constraint::Fill(1), below];
        (Layout::vertical(parts), Borders::TOP)
    } else {
        return Parts {
            list: area,
            details: None,
        };
    };
    let [list, rest] = layout.areas(area);
    let border = Block::new().borders(side).border_style(shared.theme.border);
    let details = border.inner(rest);
    frame.render_widget(border, rest);
    Parts {
        list,
        details: Some(details),
    }
}
