//! A tree on the screen: cursor, marks, mouse and filter of the pages that show one.

use std::collections::HashSet;

use crossterm::event::{MouseEvent, MouseEventKind};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line as Row, Span};

use crate::action::Action;
use crate::app::shared::Shared;
use crate::dialog::help::wrap;
use crate::filter::{Fields, Filter};
use crate::text;
use crate::tree::{Below, Item, NodeId, Tree};

/// What a row shows. All text is safe already.
#[derive(Debug, Clone, Default)]
pub struct Cells {
    /// The text after the sign for open and closed.
    pub name: String,
    /// How it is drawn.
    pub style: Style,
    /// Texts at the right, the most important one last; those that leave no room are left out.
    pub right: Vec<(String, u16)>,
}

/// What a tree on the screen can hold.
pub trait Shown: Item + Fields {
    /// Its row.
    fn cells(&self, width: usize, shared: &Shared) -> Cells;
}

/// What an action came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is none of a tree.
    NotMine,
    /// It is done.
    Done,
    /// A node was opened, and what is below it was never read.
    Unread(NodeId),
    /// Enter, on a node that cannot be opened.
    Entered,
}

/// The tree and how it is looked at.
#[derive(Debug)]
pub struct TreeView<T: Item> {
    /// The tree.
    pub tree: Tree<T>,
    filter: Filter,
    marks: HashSet<NodeId>,
    area: Rect,
    top: usize,
}

impl<T: Shown> Default for TreeView<T> {
    fn default() -> Self {
        Self {
            tree: Tree::default(),
            filter: Filter::default(),
            marks: HashSet::new(),
            area: Rect::ZERO,
            top: 0,
        }
    }
}

/// What is never opened is never read, so a filter does not know it.
const NOTHING: &str = "Nothing fits among what was opened so far. Esc shows everything again.";

/// Rows that one turn of the wheel moves.
const WHEEL: isize = 3;

impl<T: Shown> TreeView<T> {
    /// To be called after nodes have come, gone, or were opened and closed.
    pub fn arrange(&mut self) {
        let filter = &self.filter;
        if filter.is_empty() {
            self.tree.arrange(None);
        } else {
            self.tree.arrange(Some(&mut |item: &T| filter.wants(item)));
        }
        let tree = &self.tree;
        self.marks.retain(|id| tree.node(*id).is_some());
    }

    /// Shows only this.
    pub fn filter(&mut self, filter: &Filter) {
        if self.filter != *filter {
            self.filter = filter.clone();
            self.arrange();
        }
    }

    /// The marked nodes, or the one under the cursor.
    #[must_use]
    pub fn chosen(&self) -> Vec<NodeId> {
        if self.marks.is_empty() {
            return self.tree.current().into_iter().collect();
        }
        // In the order of the screen, and the hidden ones too: they were marked.
        let mut rows: Vec<NodeId> = (0..self.tree.len())
            .filter_map(|row| self.tree.row(row))
            .collect();
        rows.retain(|id| self.marks.contains(id));
        let hidden = self.marks.iter().filter(|id| !rows.contains(id)).copied();
        let hidden: Vec<NodeId> = hidden.collect();
        rows.extend(hidden);
        rows
    }

    /// How many nodes are marked.
    #[must_use]
    pub fn marked(&self) -> usize {
        self.marks.len()
    }

    /// Takes all marks away.
    pub fn clear_marks(&mut self) {
        self.marks.clear();
    }

    /// Moves, opens, closes, marks.
    pub fn act(&mut self, action: Action) -> Outcome {
        let page = isize::try_from(self.area.height.max(2) - 1).unwrap_or(1);
        match action {
            Action::Up => self.tree.go_by(-1),
            Action::Down => self.tree.go_by(1),
            Action::PageUp => self.tree.go_by(-page),
            Action::PageDown => self.tree.go_by(page),
            Action::First => self.tree.go_to(0),
            Action::Last => self.tree.go_to(usize::MAX),
            Action::Open => return self.open(),
            Action::Close => {
                if !self.close() {
                    self.tree.go_up();
                }
            }
            Action::Enter => {
                if self.close() {
                    return Outcome::Done;
                }
                return match self.can_open() {
                    true => self.open(),
                    false => Outcome::Entered,
                };
            }
            Action::Mark => {
                if let Some(id) = self.tree.current() {
                    if !self.marks.remove(&id) {
                        self.marks.insert(id);
                    }
                    self.tree.go_by(1);
                }
            }
            Action::ClearMarks => self.marks.clear(),
            _ => return Outcome::NotMine,
        }
        Outcome::Done
    }

    fn can_open(&self) -> bool {
        let node = self.tree.current().and_then(|id| self.tree.node(id));
        node.is_some_and(|node| node.below != Below::Nothing)
    }

    fn open(&mut self) -> Outcome {
        let Some(id) = self.tree.current() else {
            return Outcome::Done;
        };
        let Some(node) = self.tree.node_mut(id) else {
            return Outcome::Done;
        };
        match (node.below, node.is_open) {
            (Below::Nothing, _) => Outcome::Done,
            (below, false) => {
                node.is_open = true;
                let is_unread = below == Below::Unread;
                self.arrange();
                if is_unread {
                    Outcome::Unread(id)
                } else {
                    Outcome::Done
                }
            }
            (_, true) => {
                if !self.tree.children(id).is_empty() {
                    self.tree.go_by(1);
                }
                Outcome::Done
            }
        }
    }

    /// Closes the node under the cursor, and says whether it was open.
    fn close(&mut self) -> bool {
        let node = self.tree.current().and_then(|id| self.tree.node_mut(id));
        let was_open = node.is_some_and(|node| std::mem::take(&mut node.is_open));
        if was_open {
            self.arrange();
        }
        was_open
    }

    /// A button moves the cursor, and opens or closes what it stands on already; the wheel moves.
    pub fn mouse(&mut self, event: MouseEvent) -> Outcome {
        match event.kind {
            MouseEventKind::ScrollUp => self.tree.go_by(-WHEEL),
            MouseEventKind::ScrollDown => self.tree.go_by(WHEEL),
            MouseEventKind::Down(_) => {
                let at = ratatui::layout::Position::new(event.column, event.row);
                if !self.area.contains(at) {
                    return Outcome::Done;
                }
                let row = self.top + usize::from(event.row - self.area.y);
                if row == self.tree.cursor() {
                    return self.act(Action::Enter);
                }
                if row < self.tree.len() {
                    self.tree.go_to(row);
                }
            }
            _ => {}
        }
        Outcome::Done
    }

    /// Draws the rows that fit.
    pub fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        self.area = area;
        if self.tree.is_empty() && !self.filter.is_empty() {
            let lines = wrap(NOTHING, area.width.into());
            for (line, place) in lines.into_iter().zip(area.rows()) {
                frame.render_widget(Row::styled(line, shared.theme.faint), place);
            }
        }
        let window = self.tree.window(usize::from(area.height));
        self.top = window.start;
        for (row, place) in window.zip(area.rows()) {
            let Some(id) = self.tree.row(row) else {
                continue;
            };
            let Some(node) = self.tree.node(id) else {
                continue;
            };
            let is_marked = self.marks.contains(&id);
            let sign = match (node.below, node.is_open || !self.filter.is_empty()) {
                (Below::Nothing, _) => "  ",
                (Below::Reading, _) => "… ",
                (_, true) => "▾ ",
                (_, false) => "▸ ",
            };
            let mark = if is_marked { "●" } else { " " };
            let indent = " ".repeat((node.depth * 2).min(usize::from(place.width) / 3));
            let before = format!("{mark}{indent}{sign}");
            let width = usize::from(place.width).saturating_sub(text::width(&before));
            let cells = node.item.cells(width, shared);
            let mut room = width;
            let mut right = String::new();
            let name_wants = text::width(&cells.name).min(24);
            for (text, cells) in cells.right.iter().rev() {
                let cells = usize::from(*cells);
                if room < name_wants + cells + 2 {
                    break;
                }
                room -= cells + 2;
                right.insert_str(0, &format!("  {}", pad(text, cells)));
            }
            let name = pad(&cells.name, room);
            let style = if is_marked {
                shared.theme.marked
            } else {
                cells.style
            };
            let line = Row::from(vec![
                Span::styled(before, shared.theme.faint),
                Span::styled(name, style),
                Span::styled(right, shared.theme.faint),
            ]);
            frame.render_widget(line, place);
            if row == self.tree.cursor() {
                frame.buffer_mut().set_style(place, shared.theme.selected);
            }
        }
    }
}

/// A text in exactly so many cells.
pub(super) fn pad(text: &str, cells: usize) -> String {
    let mut text = text::fit(text, cells);
    let blanks = cells.saturating_sub(text::width(&text));
    text.extend(std::iter::repeat_n(' ', blanks));
    text
}
