//! The screen as a whole: tabs and the state of the daemon, the page, a line for what is going on,
//! the footer, and above it all the dialogs.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line as Row, Span};
use ratatui::widgets::{Block, BorderType, Clear};

use super::prompt::Kind;
use super::shared::{Link, Shared, Tone, sentence};
use super::{App, Damage, SMALLEST};
use crate::action::{self, Action, Scope, TABLE};
use crate::page::Page;
use crate::text;
use crate::theme;

impl App {
    /// Draws everything.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        self.damage = Damage::None;
        let area = frame.area();
        frame.buffer_mut().set_style(area, self.shared.theme.base);
        if area.width < SMALLEST.width || area.height < SMALLEST.height {
            (self.body, self.inside) = (Rect::ZERO, Rect::ZERO);
            self.tabs.clear();
            let sorry = format!("sorry, this needs {}x{}", SMALLEST.width, SMALLEST.height);
            let sorry = text::fit(&sorry, area.width.into());
            frame.render_widget(Row::raw(sorry), area);
        } else {
            let rows = [
                Constraint::Length(1),
                Constraint::Fill(1),
                Constraint::Length(1),
                Constraint::Length(1),
            ];
            let [top, body, line, footer] = Layout::vertical(rows).areas(area);
            self.body = body;
            self.draw_top(frame, top);
            if let Some(page) = self.pages.get_mut(self.current) {
                page.draw(frame, body, &self.shared);
            }
            self.draw_line(frame, line);
            self.draw_footer(frame, footer);
            self.draw_dialogs(frame, body);
        }
        if !self.shared.options.unicode {
            theme::reduce(frame.buffer_mut());
        }
    }

    fn draw_top(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let theme = &self.shared.theme;
        self.tabs.clear();
        let (state, style) = daemon(&self.shared, usize::from(area.width) / 2);
        let mut column = area.x;
        let tabs = self.tabs(usize::from(area.width), text::width(&state));
        for (at, text) in tabs.into_iter().enumerate() {
            let width = u16::try_from(text::width(&text)).unwrap_or(u16::MAX);
            let tab = Rect::new(column, area.y, width, 1).intersection(area);
            column = column.saturating_add(width);
            let style = if at == self.current {
                theme.selected
            } else {
                theme.accent
            };
            frame.render_widget(Row::styled(text, style), tab);
            self.tabs.push(tab);
        }
        let room = usize::from(area.right().saturating_sub(column + 1));
        let state = Row::styled(text::fit(&state, room), style).right_aligned();
        frame.render_widget(state, area);
    }

    /// The tabs with as many words as the width has room for besides the state of the daemon.
    fn tabs(&self, width: usize, state: usize) -> Vec<String> {
        let tabs = |write: &dyn Fn(usize, &dyn Page) -> String| -> Vec<String> {
            let pages = self.pages.iter().enumerate();
            pages.map(|(at, page)| write(at, page.as_ref())).collect()
        };
        let cells = |tabs: &[String]| tabs.iter().map(|tab| text::width(tab)).sum::<usize>();
        let wide = tabs(&|at, page| format!(" {} {}{} ", at + 1, page.name(), page.badge()));
        if cells(&wide) + 1 + state <= width {
            return wide;
        }
        let close = tabs(&|at, page| format!("{} {}{} ", at + 1, page.name(), page.badge()));
        if cells(&close) + 8 <= width {
            return close;
        }
        tabs(&|at, page| match at == self.current {
            true => format!(" {} {}{} ", at + 1, page.name(), page.badge()),
            false => format!(" {}{} ", at + 1, page.badge()),
        })
    }

    fn draw_line(&self, frame: &mut Frame<'_>, area: Rect) {
        let shared = &self.shared;
        let theme = &shared.theme;
        let width = usize::from(area.width);
        if let Some(prompt) = &self.prompt {
            let sign = match prompt.kind {
                Kind::Filter => "/",
                Kind::Command => ":",
            };
            let (typed, cursor) = prompt.line.shown(width.saturating_sub(2));
            let row = Row::from(vec![Span::styled(sign, theme.accent), Span::raw(typed)]);
            frame.render_widget(row, area);
            if self.dialogs.is_empty() {
                shared.place_cursor(
                    frame,
                    area,
                    u16::try_from(cursor + 1).unwrap_or(u16::MAX),
                    0,
                );
            }
            return;
        }
        let row = if let Some(notice) = &shared.notice {
            let (sign, style) = match notice.tone {
                Tone::Good => ("✓ ", theme.good),
                Tone::Bad => ("! ", theme.bad),
                Tone::Plain => ("", theme.base),
            };
            Row::styled(text::fit(&format!("{sign}{}", notice.text), width), style)
        } else {
            let summary = self
                .pages
                .get(self.current)
                .map(|page| page.summary(shared));
            let filter = match self.filter.is_empty() {
                true => String::new(),
                false => format!("  only /{}", text::line(&self.filter, 60)),
            };
            let text = format!("{}{filter}", summary.unwrap_or_default());
            Row::styled(text::fit(&text, width), theme.faint)
        };
        frame.render_widget(row, area);
    }

    fn draw_footer(&self, frame: &mut Frame<'_>, area: Rect) {
        let theme = &self.shared.theme;
        let mut spans = Vec::new();
        let mut room = usize::from(area.width);
        for (action, word) in self.hints() {
            let key = self.shared.keymap.first(action);
            let cells = text::width(&key) + text::width(word) + 3;
            if key.is_empty() {
                continue;
            }
            if cells > room + 2 {
                break;
            }
            room = room.saturating_sub(cells);
            spans.push(Span::styled(key, theme.accent));
            spans.push(Span::raw(format!(" {word}  ")));
        }
        frame.render_widget(Row::from(spans), area);
    }

    /// What the footer speaks of.
    fn hints(&self) -> Vec<(Action, &'static str)> {
        let named = |actions: &[Action]| {
            let word = |action: &Action| Some((*action, action::of(*action)?.name));
            actions.iter().filter_map(word).collect()
        };
        if let Some(dialog) = self.dialogs.last() {
            return named(dialog.actions());
        }
        if self.prompt.is_some() {
            return named(&[Action::Complete, Action::Confirm, Action::Cancel]);
        }
        let page = self.pages.get(self.current);
        let has_marks = page.is_none_or(|page| page.has_marks());
        let page = page.map(|page| page.scope());
        let of = |scope: Scope| TABLE.iter().filter(move |entry| entry.scope == scope);
        let always = [Action::Help, Action::Quit];
        page.into_iter()
            .flat_map(of)
            .filter(|entry| !(entry.changes && self.shared.options.read_only))
            .chain(of(Scope::Global).filter(|entry| always.contains(&entry.action)))
            .chain(of(Scope::List))
            .filter(|entry| has_marks || entry.action != Action::Mark)
            .chain(of(Scope::Global).filter(|entry| !always.contains(&entry.action)))
            .filter_map(|entry| Some((entry.action, entry.footer?)))
            .collect()
    }

    fn draw_dialogs(&mut self, frame: &mut Frame<'_>, area: Rect) {
        for dialog in &mut self.dialogs {
            let (columns, rows) = dialog.size(&self.shared);
            let width = columns.saturating_add(4).min(area.width);
            let height = rows.saturating_add(2).min(area.height);
            let place = Rect::new(
                area.x + (area.width - width) / 2,
                area.y + (area.height - height) / 2,
                width,
                height,
            );
            let title = format!(
                " {} ",
                text::fit(&dialog.title(), usize::from(width).saturating_sub(6))
            );
            let block = Block::bordered()
                .border_type(BorderType::Plain)
                .border_style(self.shared.theme.accent)
                .title(Span::styled(title, self.shared.theme.heading));
            frame.render_widget(Clear, place);
            frame.buffer_mut().set_style(place, self.shared.theme.base);
            let mut inside = block.inner(place);
            frame.render_widget(block, place);
            inside.x += 1;
            inside.width = inside.width.saturating_sub(2);
            self.inside = inside;
            dialog.draw(frame, inside, &self.shared);
        }
    }
}

/// How the daemon is, in words for the first line.
fn daemon(shared: &Shared, width: usize) -> (String, ratatui::style::Style) {
    let theme = &shared.theme;
    let (text, style) = match &shared.link {
        Link::Connecting => ("keynsd …".to_owned(), theme.faint),
        Link::Up(status) => {
            let name = text::line(&status.instance, 24);
            (
                format!("keynsd {name}, {}", text::line(&status.engine, 16)),
                theme.good,
            )
        }
        Link::Stale { since_ms, .. } => {
            let clock = keyctl_ns::view::clock(*since_ms);
            let clock = clock.get(..8).unwrap_or(&clock).to_owned();
            (format!("stale since {clock}, connecting"), theme.bad)
        }
        Link::Absent(failure) => {
            let text = match failure.kind {
                keyctl_ns::error::ErrorKind::Unreachable => {
                    "no keynsd: only your own keys".to_owned()
                }
                keyctl_ns::error::ErrorKind::Denied => {
                    "keynsd serves root: only your own keys".to_owned()
                }
                _ => format!("keynsd: {}", sentence(failure)),
            };
            (text, theme.warning)
        }
    };
    let read_only = if shared.options.read_only {
        "read-only  "
    } else {
        ""
    };
    (
        format!("{read_only}{}", text::fit(&text, width.max(24))),
        style,
    )
}
