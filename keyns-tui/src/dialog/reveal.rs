//! A payload on the screen: asked for twice, shown for a while, and never kept. That it was shown is
//! recorded; what was shown stands nowhere but here.

use std::time::Duration;

use keyctl_ns::reveal::printable;
use keyns_interfaces::Payload;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line as Row;

use super::help::wrap;
use super::{Dialog, Flow};
use crate::action::Action;
use crate::app::shared::{Context, Shared, Tone, sentence};
use crate::client::{Answer, Request, Ticket};
use crate::text;

/// How long it is shown.
const SHOWN: Duration = Duration::from_secs(15);
const SECOND: Duration = Duration::from_secs(1);
/// Bytes in a line of hexadecimal figures.
const FIGURES: usize = 16;

#[derive(Debug)]
enum State {
    Asking(Request),
    Waiting(Ticket),
    Failed(String),
    Shown {
        payload: Payload,
        now: Duration,
        until: Duration,
    },
}

/// The dialog.
#[derive(Debug)]
pub struct Reveal {
    key: String,
    state: State,
    top: usize,
}

impl Reveal {
    /// Asks whether the payload of `key`, a name that is safe already, is to be shown.
    #[must_use]
    pub fn new(key: String, request: Request) -> Self {
        Self {
            key,
            state: State::Asking(request),
            top: 0,
        }
    }
}

impl Dialog for Reveal {
    fn title(&self) -> String {
        "Payload".to_owned()
    }

    fn size(&self, _: &Shared) -> (u16, u16) {
        let rows = match &self.state {
            State::Shown { payload, .. } => payload.bytes().len().div_ceil(FIGURES).min(14) + 3,
            _ => 6,
        };
        (70, u16::try_from(rows).unwrap_or(u16::MAX))
    }

    fn actions(&self) -> &'static [Action] {
        match self.state {
            State::Asking(_) => &[Action::Confirm, Action::Cancel],
            _ => &[Action::Cancel],
        }
    }

    fn act(&mut self, action: Action, context: &mut Context<'_>) -> Flow {
        match (action, &self.state) {
            (Action::Confirm, State::Asking(request)) => {
                self.state = State::Waiting(context.ask(request.clone()));
            }
            (Action::Confirm, _) => return Flow::Close,
            (Action::NextField | Action::Down, _) => self.top = self.top.saturating_add(1),
            (Action::PreviousField | Action::Up, _) => self.top = self.top.saturating_sub(1),
            (Action::PageDown, _) => self.top = self.top.saturating_add(10),
            (Action::PageUp, _) => self.top = self.top.saturating_sub(10),
            _ => {}
        }
        Flow::Stay
    }

    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) -> Flow {
        if !matches!(self.state, State::Waiting(ticket) if ticket == answer.ticket) {
            return Flow::Stay;
        }
        context.changed();
        let now = context.shared.now.since_start;
        self.state = match &answer.result {
            Ok(crate::client::Reply::Payload(payload)) => {
                let length = payload.bytes().len();
                let shown = format!(
                    "the payload of {} ({length} bytes) was shown here",
                    self.key
                );
                context.shared.say(Tone::Plain, shown);
                State::Shown {
                    payload: payload.clone(),
                    now,
                    until: now + SHOWN,
                }
            }
            Ok(_) => return Flow::Close,
            Err(failure) => State::Failed(sentence(failure)),
        };
        Flow::Stay
    }

    fn wakes_at(&self) -> Option<Duration> {
        match self.state {
            State::Shown { now, until, .. } => Some((now + SECOND).min(until)),
            _ => None,
        }
    }

    fn tick(&mut self, context: &mut Context<'_>) -> Flow {
        let time = context.shared.now.since_start;
        context.changed();
        match &mut self.state {
            State::Shown { until, .. } if *until <= time => Flow::Close,
            State::Shown { now, .. } => {
                *now = time;
                Flow::Stay
            }
            _ => Flow::Stay,
        }
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let theme = &shared.theme;
        let width = usize::from(area.width);
        let say = |text: &str, style| -> Vec<Row<'static>> {
            let lines = wrap(text, width).into_iter();
            lines.map(|line| Row::styled(line, style)).collect()
        };
        let rows = match &self.state {
            State::Asking(_) => {
                let mut rows = say(&format!("Show the payload of {}?", self.key), theme.heading);
                let what = format!(
                    "It is a secret: whoever sees this screen, or what it leaves behind, can read it. \
                     It is shown for {} seconds, and that it was is recorded with the time.",
                    SHOWN.as_secs()
                );
                rows.extend(say(&what, theme.warning));
                rows
            }
            State::Waiting(_) => say("… reading it", theme.faint),
            State::Failed(why) => say(&format!("! {why}"), theme.bad),
            State::Shown {
                payload,
                now,
                until,
            } => {
                let left = until.saturating_sub(*now).as_secs_f64().ceil();
                let head = format!(
                    "{}: gone in {left} s",
                    text::fit(&self.key, width.max(20) - 16)
                );
                let mut rows = say(&head, theme.heading);
                let height = usize::from(area.height).saturating_sub(rows.len()).max(1);
                let all = count(payload, width);
                self.top = self.top.min(all.saturating_sub(height));
                let lines = lines(payload, width, self.top, height).into_iter();
                rows.extend(lines.map(Row::raw));
                rows
            }
        };
        for (row, place) in rows.into_iter().zip(area.rows()) {
            frame.render_widget(row, place);
        }
    }
}

/// Bytes in a line of this width.
fn figures(width: usize) -> usize {
    (width / 4).clamp(1, FIGURES)
}

/// How many lines there are, at least as many as are drawn.
fn count(payload: &Payload, width: usize) -> usize {
    match printable(payload.bytes()) {
        true => text::lines(payload.bytes(), width, usize::MAX >> 16).len(),
        false => payload.bytes().len().div_ceil(figures(width)),
    }
}

/// Lines `top` to `top + height`: text as text, anything else in figures.
fn lines(payload: &Payload, width: usize, top: usize, height: usize) -> Vec<String> {
    let bytes = payload.bytes();
    if bytes.is_empty() {
        return vec!["it is empty".to_owned()];
    }
    if printable(bytes) {
        let all = text::lines(bytes, width, top + height);
        return all.into_iter().skip(top).collect();
    }
    let line = |bytes: &[u8]| {
        let figures: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        figures.join(" ")
    };
    let chunks = bytes.chunks(figures(width)).skip(top).take(height);
    chunks.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_text_and_all_else_in_figures() {
        let shown = |bytes: &[u8]| lines(&Payload::new(bytes.to_vec()), 40, 0, 5);
        assert_eq!(shown(b"secret"), ["secret"]);
        assert_eq!(shown(b"\x1b[2J"), ["1b 5b 32 4a"]);
        assert_eq!(shown(b""), ["it is empty"]);
        assert_eq!(shown(&[0xff; 40])[3], ["ff"; 10].join(" "));
    }
}
