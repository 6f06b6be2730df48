//! What is filled in: lines of text, choices, and things to be ticked, one below the other.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line as Row, Span};

use crate::app::shared::Shared;
use crate::edit::{Edit, Line};
use crate::text;

/// What a field holds.
#[derive(Debug, Clone)]
pub enum Value {
    /// What is typed.
    Text {
        /// The text.
        line: Line,
        /// What an empty one means.
        empty: &'static str,
    },
    /// One of several; Left, Right and Space choose.
    Choice {
        /// The choices, safe to show.
        words: Vec<String>,
        /// Which it is.
        at: usize,
    },
    /// Any of several; Left and Right move, Space ticks.
    Checks {
        /// The words, safe to show, and whether they are ticked.
        words: Vec<(String, bool)>,
        /// Where the cursor stands.
        at: usize,
    },
}

/// A field.
#[derive(Debug, Clone)]
pub struct Field {
    /// What stands before it.
    pub label: &'static str,
    /// What it holds.
    pub value: Value,
}

impl Field {
    /// A text to be typed; `empty` says what leaving it out means.
    #[must_use]
    pub fn text(label: &'static str, text: &str, empty: &'static str) -> Self {
        let line = Line::new(text);
        Self {
            label,
            value: Value::Text { line, empty },
        }
    }

    /// A choice.
    #[must_use]
    pub fn choice(label: &'static str, words: Vec<String>) -> Self {
        Self {
            label,
            value: Value::Choice { words, at: 0 },
        }
    }

    /// Words to be ticked.
    #[must_use]
    pub fn checks(label: &'static str, words: Vec<(String, bool)>) -> Self {
        Self {
            label,
            value: Value::Checks { words, at: 0 },
        }
    }

    /// What was typed, without blanks around it.
    #[must_use]
    pub fn typed(&self) -> &str {
        match &self.value {
            Value::Text { line, .. } => line.text().trim(),
            _ => "",
        }
    }

    /// Which choice was taken.
    #[must_use]
    pub fn chosen(&self) -> usize {
        match &self.value {
            Value::Choice { at, .. } => *at,
            _ => 0,
        }
    }

    /// What was ticked, by its place among the words.
    #[must_use]
    pub fn ticked(&self) -> Vec<usize> {
        let Value::Checks { words, .. } = &self.value else {
            return Vec::new();
        };
        let ticked = |(at, (_, is_ticked)): (usize, &(String, bool))| is_ticked.then_some(at);
        words.iter().enumerate().filter_map(ticked).collect()
    }

    fn edit(&mut self, edit: &Edit) {
        match &mut self.value {
            Value::Text { line, .. } => line.edit(edit),
            Value::Choice { words, at } => step(at, words.len(), edit, true),
            Value::Checks { words, at } => {
                step(at, words.len(), edit, false);
                let is_space = matches!(edit, Edit::Insert(text) if text == " ");
                if let (true, Some((_, ticked))) = (is_space, words.get_mut(*at)) {
                    *ticked = !*ticked;
                }
            }
        }
    }
}

/// Moves among `all` with Left and Right, and with Space too if it chooses.
fn step(at: &mut usize, all: usize, edit: &Edit, with_space: bool) {
    let all = all.max(1);
    match edit {
        Edit::Left => *at = (*at + all - 1) % all,
        Edit::Right => *at = (*at + 1) % all,
        Edit::Insert(text) if with_space && text == " " => *at = (*at + 1) % all,
        _ => {}
    }
}

/// Cells of the sign and the name before each field.
const LABELS: usize = 14;

/// The fields, and which of them is filled in.
#[derive(Debug, Clone)]
pub struct Fields {
    /// The fields.
    pub all: Vec<Field>,
    focus: usize,
}

impl Fields {
    /// Begins with the first.
    #[must_use]
    pub fn new(all: Vec<Field>) -> Self {
        Self { all, focus: 0 }
    }

    /// The field in which something is typed.
    #[must_use]
    pub fn focus(&self) -> usize {
        self.focus
    }

    /// To the next field, or the one before.
    pub fn go(&mut self, backwards: bool) {
        let all = self.all.len().max(1);
        let by = if backwards { all - 1 } else { 1 };
        self.focus = (self.focus + by) % all;
    }

    /// Something was typed.
    pub fn edit(&mut self, edit: &Edit) {
        if let Some(field) = self.all.get_mut(self.focus) {
            field.edit(edit);
        }
    }

    /// Draws `before`, the fields and `after`, as much as there is room for with the field that is
    /// filled in among it.
    pub fn draw(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        shared: &Shared,
        before: Vec<Row<'static>>,
        after: Vec<Row<'static>>,
    ) {
        let width = usize::from(area.width);
        let mut rows = before;
        let mut focus = 0..0;
        let mut cursor = None;
        for (at, field) in self.all.iter().enumerate() {
            let is_focus = at == self.focus;
            let start = rows.len();
            let sign = if is_focus { "›" } else { " " };
            let label = Span::styled(
                format!("{sign} {:<12}", text::fit(field.label, 12)),
                shared.theme.heading,
            );
            let lines = lines(field, width.saturating_sub(LABELS), is_focus, shared);
            for (at, mut spans) in lines.0.into_iter().enumerate() {
                let label = match at {
                    0 => label.clone(),
                    _ => Span::raw(" ".repeat(LABELS)),
                };
                spans.insert(0, label);
                rows.push(Row::from(spans));
            }
            if is_focus {
                focus = start..rows.len();
                cursor = lines.1;
            }
        }
        // What comes of it stays in sight where there is no room for everything.
        let all = usize::from(area.height);
        let below = after.len().min(all / 2);
        let height = all.saturating_sub(below);
        let top = focus
            .end
            .saturating_sub(height)
            .min(rows.len().saturating_sub(height));
        let shown = rows.into_iter().skip(top).take(height);
        for (row, place) in shown.chain(after).zip(area.rows()) {
            frame.render_widget(row, place);
        }
        if let Some(column) = cursor {
            let row = u16::try_from(focus.start.saturating_sub(top)).unwrap_or(u16::MAX);
            let column = u16::try_from(LABELS + column).unwrap_or(u16::MAX);
            shared.place_cursor(frame, area, column, row);
        }
    }

    /// How many rows the fields take in this width.
    #[must_use]
    pub fn height(&self, width: usize, shared: &Shared) -> usize {
        let one = |field| {
            lines(field, width.saturating_sub(LABELS), false, shared)
                .0
                .len()
        };
        self.all.iter().map(one).sum()
    }
}

type Lines = (Vec<Vec<Span<'static>>>, Option<usize>);

/// A field in lines of at most `width` cells, and where the cursor of a text stands.
fn lines(field: &Field, width: usize, is_focus: bool, shared: &Shared) -> Lines {
    let theme = &shared.theme;
    match &field.value {
        Value::Text { line, empty } => {
            let (shown, cursor) = line.shown(width);
            let span = match line.text().is_empty() {
                true => Span::styled(text::fit(empty, width), theme.faint),
                false => Span::styled(shown, theme.base),
            };
            let mut spans = vec![vec![span]];
            if line.was_cut() {
                let cut = format!("cut: a field takes {} bytes", crate::edit::LIMIT);
                spans.push(vec![Span::styled(text::fit(&cut, width), theme.warning)]);
            }
            (spans, is_focus.then_some(cursor))
        }
        Value::Choice { words, at } => {
            let word = words.get(*at).map_or("", String::as_str);
            let shown = text::fit(word, width.saturating_sub(14));
            let style = focused(is_focus, shared);
            let mut spans = vec![Span::raw("‹ "), Span::styled(shown, style), Span::raw(" ›")];
            if words.len() > 1 {
                let count = format!("  {} of {}", at + 1, words.len());
                spans.push(Span::styled(count, theme.faint));
            }
            (vec![spans], None)
        }
        Value::Checks { words, at } => {
            let mut lines = vec![Vec::new()];
            let mut used = 0;
            for (number, (word, is_ticked)) in words.iter().enumerate() {
                let sign = if *is_ticked { "[x] " } else { "[ ] " };
                let cell = text::fit(&format!("{sign}{word}"), width);
                let cells = text::width(&cell);
                if used > 0 && used + cells > width {
                    lines.push(Vec::new());
                    used = 0;
                }
                used += cells + 2;
                if let Some(line) = lines.last_mut() {
                    let style = focused(is_focus && number == *at, shared);
                    line.push(Span::styled(cell, style));
                    line.push(Span::raw("  "));
                }
            }
            (lines, None)
        }
    }
}

fn focused(is_focus: bool, shared: &Shared) -> Style {
    if is_focus {
        shared.theme.selected
    } else {
        shared.theme.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_goes_round_and_ticks_stay_where_they_are() {
        let mut fields = Fields::new(vec![
            Field::choice("to", vec!["a".into(), "b".into()]),
            Field::checks(
                "rights",
                vec![("view".into(), false), ("read".into(), false)],
            ),
        ]);
        fields.edit(&Edit::Left);
        assert_eq!(fields.all[0].chosen(), 1);
        fields.edit(&Edit::Insert(" ".into()));
        assert_eq!(fields.all[0].chosen(), 0);
        fields.go(false);
        fields.edit(&Edit::Right);
        fields.edit(&Edit::Insert(" ".into()));
        assert_eq!(fields.all[1].ticked(), [1]);
        fields.go(false);
        assert_eq!(fields.focus(), 0);
    }
}
