//! The help: the table of actions with the keys that are in force, searched by typing.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line as Row, Span};

use super::{Dialog, Flow};
use crate::action::{Action, Scope, TABLE};
use crate::app::shared::{Context, Shared};
use crate::edit::{Edit, Line};
use crate::text;

/// The help.
#[derive(Debug, Default)]
pub struct Help {
    search: Line,
    top: usize,
    height: usize,
}

impl Help {
    fn rows(&self, shared: &Shared, width: usize) -> Vec<Row<'static>> {
        let theme = &shared.theme;
        let wanted = self.search.text().to_lowercase();
        let mut rows = Vec::new();
        for scope in Scope::ALL {
            let mut title = Some(scope.title());
            for entry in TABLE.iter().filter(|entry| entry.scope == scope) {
                let keys = shared.keymap.all(entry.action);
                let all = format!("{} {} {}", entry.name, keys, entry.help).to_lowercase();
                if !wanted.split_whitespace().all(|word| all.contains(word)) {
                    continue;
                }
                if let Some(title) = title.take() {
                    rows.push(Row::styled(title, theme.heading));
                }
                let keys = format!("  {:<16}", text::fit(&keys, 16));
                let lines = wrap(entry.help, width.saturating_sub(19).max(20));
                for (at, line) in lines.into_iter().enumerate() {
                    let before = if at == 0 {
                        keys.clone()
                    } else {
                        " ".repeat(18)
                    };
                    rows.push(Row::from(vec![
                        Span::styled(before, theme.accent),
                        Span::raw(format!(" {line}")),
                    ]));
                }
            }
        }
        if rows.is_empty() {
            rows.push(Row::styled("nothing has these words", theme.faint));
        }
        rows
    }
}

/// A sentence of ours in lines of at most `width` cells, broken at blanks.
#[must_use]
pub fn wrap(sentence: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            *line = text::fit(word, width);
        } else if text::width(line) + 1 + text::width(word) <= width {
            *line = format!("{line} {word}");
        } else {
            lines.push(text::fit(word, width));
        }
    }
    lines
}

impl Dialog for Help {
    fn title(&self) -> String {
        "Help".to_owned()
    }

    fn size(&self, _: &Shared) -> (u16, u16) {
        (100, u16::MAX)
    }

    fn takes_text(&self) -> bool {
        true
    }

    fn actions(&self) -> &'static [Action] {
        &[Action::PreviousField, Action::NextField, Action::Cancel]
    }

    fn act(&mut self, action: Action, _: &mut Context<'_>) -> Flow {
        match action {
            Action::Confirm => return Flow::Close,
            Action::NextField => self.top = self.top.saturating_add(1),
            Action::PreviousField => self.top = self.top.saturating_sub(1),
            Action::PageDown => self.top = self.top.saturating_add(self.height),
            Action::PageUp => self.top = self.top.saturating_sub(self.height),
            _ => {}
        }
        Flow::Stay
    }

    fn edit(&mut self, edit: &Edit, _: &mut Context<'_>) {
        self.search.edit(edit);
        self.top = 0;
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let width = usize::from(area.width);
        let (typed, cursor) = self.search.shown(width.saturating_sub(8));
        let rows = self.rows(shared, width);
        self.height = usize::from(area.height.saturating_sub(1));
        self.top = self.top.min(rows.len().saturating_sub(self.height));
        let search = Row::from(vec![
            Span::styled("search ", shared.theme.heading),
            Span::raw(typed),
        ]);
        let shown = rows.into_iter().skip(self.top).take(self.height);
        for (row, at) in std::iter::once(search).chain(shown).zip(area.rows()) {
            frame.render_widget(row, at);
        }
        let column = u16::try_from(7 + cursor).unwrap_or(u16::MAX);
        shared.place_cursor(frame, area, column, 0);
    }
}
