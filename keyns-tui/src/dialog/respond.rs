//! The answer to a request for a key, given by hand. The dialog names the request all the time, and
//! goes when the request does.

use std::path::PathBuf;

use keyctl_ns::{args, view};
use keyns::errno::Errno;
use keyns_interfaces::event::Event;
use keyns_interfaces::upcalls::{Rejection, UpcallInfo};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line as Row, Span};

use super::help::wrap;
use super::secret::Secret;
use super::subject::Subject;
use super::{Dialog, Flow};
use crate::action::Action;
use crate::app::shared::{Context, Shared, sentence};
use crate::client::{Answer, Asked, Request, Response, Ticket};
use crate::edit::{Edit, Line};
use crate::page::upcalls::requests::is_waiting;
use crate::text;

/// What the requester is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// A payload that is typed.
    Typed,
    /// The content of a file.
    File,
    /// A copy of the container's own key.
    Copy,
    /// That there is no such key.
    Negate,
    /// Another error.
    Reject,
}

impl With {
    const ALL: [Self; 5] = [
        Self::Typed,
        Self::File,
        Self::Copy,
        Self::Negate,
        Self::Reject,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::Typed => "a payload typed here",
            Self::File => "the content of a file",
            Self::Copy => "a copy of its container's key",
            Self::Negate => "“there is no such key”",
            Self::Reject => "an error",
        }
    }

    const fn fields(self) -> &'static [Field] {
        match self {
            Self::Typed => &[Field::With, Field::Payload],
            Self::File => &[Field::With, Field::Path],
            Self::Copy => &[Field::With],
            Self::Negate => &[Field::With, Field::Time],
            Self::Reject => &[Field::With, Field::Error, Field::Time],
        }
    }

    const fn consequence(self) -> &'static str {
        match self {
            Self::Typed | Self::File => {
                "The requester gets a key with this payload, and whoever may read that key reads it."
            }
            Self::Copy => {
                "The requester gets a copy of the key of this type and description in the store of its container."
            }
            Self::Negate => {
                "The requester gets ENOKEY, and the kernel repeats that for this time without asking."
            }
            Self::Reject => {
                "The requester gets this error, and the kernel repeats it for this time without asking."
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    With,
    Payload,
    Path,
    Error,
    Time,
}

impl Field {
    const fn label(self) -> &'static str {
        match self {
            Self::With => "answer",
            Self::Payload => "payload",
            Self::Path => "file",
            Self::Error => "error",
            Self::Time => "repeated",
        }
    }
}

/// The dialog.
#[derive(Debug)]
pub struct Respond {
    request: UpcallInfo,
    with: With,
    focus: usize,
    payload: Secret,
    path: Line,
    error: Line,
    time: Line,
    complaint: Option<String>,
    waiting: Option<Ticket>,
}

/// Cells of the sign and the label before a field.
const LABELS: usize = 11;
const WIDTH: usize = 66;

impl Respond {
    /// A dialog about this request, which waits.
    #[must_use]
    pub fn new(request: UpcallInfo, with: With) -> Self {
        Self {
            request,
            with,
            // Where something is to be filled in.
            focus: with.fields().len().min(2) - 1,
            payload: Secret::default(),
            path: Line::default(),
            error: Line::new("EKEYREJECTED"),
            time: Line::new("5s"),
            complaint: None,
            waiting: None,
        }
    }

    fn field(&self) -> Field {
        let fields = self.with.fields();
        fields.get(self.focus).copied().unwrap_or(Field::With)
    }

    fn choose(&mut self, back: bool) {
        let all = With::ALL.len();
        let at = With::ALL.iter().position(|it| *it == self.with);
        let by = if back { all - 1 } else { 1 };
        let next = (at.unwrap_or(0) + by) % all;
        self.with = With::ALL.get(next).copied().unwrap_or(self.with);
        self.focus = 0;
    }

    fn response(&mut self) -> Result<Response, String> {
        let time = || args::rejection_time(self.time.text().trim());
        match self.with {
            With::Typed if self.payload.is_empty() => Err("the payload is empty".to_owned()),
            With::Typed => Ok(Response::Payload(self.payload.take())),
            With::File => match self.path.text() {
                "" => Err("name a file".to_owned()),
                path => Ok(Response::File(PathBuf::from(path))),
            },
            With::Copy => Ok(Response::FromKeyring),
            With::Negate => Ok(Response::Reject(Rejection {
                errno: Errno::ENOKEY.raw(),
                timeout: time()?,
            })),
            With::Reject => Ok(Response::Reject(Rejection {
                errno: args::rejection_error(self.error.text().trim())?.raw(),
                timeout: time()?,
            })),
        }
    }

    /// What the error that is being typed means.
    fn meaning(&self) -> String {
        match args::rejection_error(self.error.text().trim()) {
            Ok(errno) => {
                let error = std::io::Error::from_raw_os_error(errno.raw());
                format!(
                    "{}: {}",
                    view::outcome(errno.raw()),
                    keyns::errno_text::text_of(&error)
                )
            }
            Err(error) => error,
        }
    }

    /// The request in lines, as much as tells whether it is to be answered.
    fn named(&self, width: usize, shared: &Shared) -> Vec<Row<'static>> {
        let (info, by) = (&self.request, &self.request.requester);
        let theme = &shared.theme;
        let what = format!(
            "Request {}: {}: {}",
            info.id,
            text::line(&info.type_, 31),
            text::line(info.description.bytes(), 160)
        );
        let place = match &by.container {
            Some(name) => format!("container “{}”", text::line(name, 64)),
            None => "the host".to_owned(),
        };
        let verified = if by.verified {
            "verified"
        } else {
            "NOT VERIFIED"
        };
        let who = format!(
            "asked by {}, pid {}, uid {}, of {place}; {verified}",
            text::line(by.command.bytes(), 16),
            by.pid,
            by.uid
        );
        let mut rows = Vec::new();
        let what = text::lines(&what, width, 2);
        rows.extend(what.into_iter().map(|it| Row::styled(it, theme.heading)));
        let style = if by.verified { theme.base } else { theme.bad };
        let who = wrap(&who, width).into_iter();
        rows.extend(who.map(|it| Row::styled(it, style)));
        rows
    }

    /// The fields in lines, the one with the cursor in it, and the cell of the cursor.
    fn filled(&self, width: usize, shared: &Shared) -> (Vec<Row<'static>>, usize, Option<usize>) {
        let theme = &shared.theme;
        let room = width.saturating_sub(LABELS).max(4);
        let mut cursor = None;
        let fields = self.with.fields();
        let mut rows = Vec::new();
        let mut focus = 0;
        for (at, field) in fields.iter().enumerate() {
            let is_focus = at == self.focus;
            let sign = if is_focus { "▸" } else { " " };
            let label = Span::styled(format!("{sign} {:<9}", field.label()), theme.heading);
            if is_focus {
                focus = rows.len();
            }
            let line = |line: &Line| line.shown(room);
            let (shown, column) = match field {
                Field::With => {
                    let style = if is_focus { theme.selected } else { theme.base };
                    let words = text::fit(self.with.words(), room.saturating_sub(4));
                    rows.push(Row::from(vec![
                        label,
                        Span::raw("← "),
                        Span::styled(words, style),
                        Span::raw(" →"),
                    ]));
                    continue;
                }
                Field::Payload => (text::fit(&self.payload.shown(), room), None),
                Field::Path => at_cursor(line(&self.path)),
                Field::Error => at_cursor(line(&self.error)),
                Field::Time => at_cursor(line(&self.time)),
            };
            if is_focus {
                cursor = column.map(|column| column + LABELS);
            }
            rows.push(Row::from(vec![label, Span::styled(shown, theme.base)]));
            if *field == Field::Error {
                let meaning = text::fit(&self.meaning(), room);
                let blanks = Span::raw(" ".repeat(LABELS));
                rows.push(Row::from(vec![blanks, Span::styled(meaning, theme.faint)]));
            }
        }
        (rows, focus, cursor)
    }

    /// What is said below the fields.
    fn below(&self, width: usize, shared: &Shared) -> Vec<Row<'static>> {
        let theme = &shared.theme;
        let (text, style) = match (&self.waiting, &self.complaint) {
            (Some(_), _) => ("… waiting for the daemon".to_owned(), theme.faint),
            (None, Some(complaint)) => (format!("! {complaint}"), theme.bad),
            (None, None) => (self.with.consequence().to_owned(), theme.faint),
        };
        let lines = wrap(&text, width).into_iter();
        lines.map(|it| Row::styled(it, style)).collect()
    }
}

fn at_cursor((shown, cursor): (String, usize)) -> (String, Option<usize>) {
    (shown, Some(cursor))
}

impl Dialog for Respond {
    fn title(&self) -> String {
        format!("Answer request {}", self.request.id)
    }

    fn size(&self, shared: &Shared) -> (u16, u16) {
        let fields = self.filled(WIDTH, shared).0.len();
        let below = self.below(WIDTH, shared).len();
        let rows = self.named(WIDTH, shared).len() + fields + below + 2;
        (66, u16::try_from(rows).unwrap_or(u16::MAX))
    }

    fn takes_text(&self) -> bool {
        true
    }

    fn actions(&self) -> &'static [Action] {
        &[Action::Confirm, Action::Cancel, Action::NextField]
    }

    fn edit(&mut self, edit: &Edit, _: &mut Context<'_>) {
        if self.waiting.is_some() {
            return;
        }
        self.complaint = None;
        match self.field() {
            Field::With => match edit {
                Edit::Left => self.choose(true),
                Edit::Right => self.choose(false),
                Edit::Insert(text) if text == " " => self.choose(false),
                _ => {}
            },
            Field::Payload => self.payload.edit(edit),
            Field::Path => self.path.edit(edit),
            Field::Error => self.error.edit(edit),
            Field::Time => self.time.edit(edit),
        }
    }

    fn act(&mut self, action: Action, context: &mut Context<'_>) -> Flow {
        let fields = self.with.fields().len();
        match action {
            Action::NextField => self.focus = (self.focus + 1) % fields,
            Action::PreviousField => self.focus = (self.focus + fields - 1) % fields,
            Action::Confirm if self.waiting.is_some() => {}
            // Who has just chosen how to answer has not filled in with what.
            Action::Confirm
                if self.field() == Field::With
                    && fields > 1
                    && matches!(self.with, With::Typed | With::File)
                    && self.payload.is_empty()
                    && self.path.text().is_empty() =>
            {
                self.focus = 1;
            }
            Action::Confirm if !context.shared.link.is_up() => {
                self.complaint = Some("the daemon does not answer now".to_owned());
            }
            Action::Confirm => match self.response() {
                Ok(response) => {
                    let request = Asked::from(&self.request);
                    self.waiting = Some(context.ask(Request::Respond { request, response }));
                }
                Err(complaint) => self.complaint = Some(complaint),
            },
            _ => {}
        }
        Flow::Stay
    }

    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) -> Flow {
        if self.waiting == Some(answer.ticket) {
            context.changed();
            self.waiting = None;
            if let Err(failure) = &answer.result {
                self.complaint = Some(sentence(failure));
                let is_gone = failure.refusal == Some(keyns_interfaces::ErrorKind::NoSuchUpcall);
                return if is_gone { Flow::Close } else { Flow::Stay };
            }
            return Flow::Close;
        }
        Subject::from(&self.request).answer(answer, context)
    }

    fn event(&mut self, event: &Event, context: &mut Context<'_>) -> Flow {
        match &event.upcall {
            // What came of it is in the answer that is on its way.
            Some(info)
                if self.waiting.is_some()
                    && Asked::from(info) == Asked::from(&self.request)
                    && !is_waiting(info) =>
            {
                Flow::Close
            }
            _ => Subject::from(&self.request).event(event, context),
        }
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let width = usize::from(area.width);
        let height = usize::from(area.height);
        let (fields, focus, cursor) = self.filled(width, shared);
        let mut rows = self.named(width, shared);
        // The fields must be seen, and as much of the request as there is room for above them.
        rows.truncate(height.saturating_sub(fields.len()).max(1));
        if rows.len() + fields.len() + 3 <= height {
            rows.push(Row::default());
        }
        let line = rows.len() + focus;
        rows.extend(fields);
        let below = self.below(width, shared);
        if rows.len() + below.len() < height {
            rows.push(Row::default());
        }
        rows.extend(below);
        let skip = (line + 1).saturating_sub(height);
        for (row, place) in rows.into_iter().skip(skip).zip(area.rows()) {
            frame.render_widget(row, place);
        }
        if let Some(column) = cursor {
            let row = u16::try_from(line - skip).unwrap_or(u16::MAX);
            let column = u16::try_from(column).unwrap_or(u16::MAX);
            shared.place_cursor(frame, area, column, row);
        }
    }
}
