//! A grant, with what it would come to before it is made.
//!
//! After every change the same request is made as a dry run, of the daemon or of the mask: what is
//! shown is what whoever enforces it says, and only what is shown can be applied.

use std::collections::BTreeSet;

use keyctl_ns::args::Seconds;
use keyctl_ns::command::grant::GrantArgs;
use keyns::rights::Rights;
use keyns::spec::KeySpec;
use keyns::subject::Subject as To;
use keyns_interfaces::ErrorKind as Refusal;
use keyns_interfaces::event::Event;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line as Row;

use super::fields::{Field, Fields};
use super::help::wrap;
use super::subject::Subject;
use super::{Dialog, Flow};
use crate::action::Action;
use crate::app::shared::{Context, Shared, sentence};
use crate::client::{Answer, Failure, Named, Preview, Reply, Request, Ticket};
use crate::edit::Edit;
use crate::text;

/// Somebody who can be granted something.
#[derive(Debug, Clone, PartialEq)]
pub struct Grantee {
    /// Whom.
    pub to: To,
    /// The container, if it is one.
    pub container: Option<Named>,
}

/// What is known of what the grant would come to.
#[derive(Debug)]
enum State {
    /// Something is missing, or wrong.
    Incomplete(String),
    /// It was asked.
    Asked(Vec<Ticket>),
    /// The dry runs were answered: each different outcome with the number of keys that it is for, or the
    /// first refusal.
    Known(Result<Vec<(Preview, usize)>, Failure>),
    /// It is being applied.
    Applying(Vec<Ticket>),
}

const TO: usize = 0;
const RIGHTS: usize = 1;
const ACCEPT: usize = 2;
const TIME: usize = 3;

/// The dialog.
#[derive(Debug)]
pub struct Grant {
    keys: Vec<KeySpec>,
    names: String,
    grantees: Vec<Grantee>,
    fields: Fields,
    state: State,
    /// What the kernel cannot leave out.
    implied: Rights,
    /// Answers of dry runs so far.
    answers: Vec<Result<Preview, Failure>>,
    error: Option<String>,
}

impl Grant {
    /// Rights on `keys`, called `names` in sentences, for one of `grantees`.
    #[must_use]
    pub fn new(keys: Vec<KeySpec>, names: String, grantees: Vec<Grantee>) -> Self {
        let to = grantees
            .iter()
            .map(|it| match &it.container {
                Some(container) => format!("container {}", text::line(&container.name, 60)),
                None => it.to.to_string(),
            })
            .collect();
        let rights = Rights::NAMED
            .iter()
            .map(|(_, name, _)| ((*name).to_owned(), false))
            .collect();
        let accept = vec![("what comes with them".to_owned(), false)];
        Self {
            keys,
            names,
            grantees,
            fields: Fields::new(vec![
                Field::choice("to", to),
                Field::checks("rights", rights),
                Field::checks("accept", accept),
                Field::text("for", "", "until taken back (or a time: 90s, 15m, 8h, 2d)"),
            ]),
            state: State::Incomplete(CHOOSE.to_owned()),
            implied: Rights::NONE,
            answers: Vec::new(),
            error: None,
        }
    }

    fn field(&self, at: usize) -> Option<&Field> {
        self.fields.all.get(at)
    }

    fn grantee(&self) -> Option<&Grantee> {
        self.grantees.get(self.field(TO)?.chosen())
    }

    fn rights(&self) -> Rights {
        let ticked = self.field(RIGHTS).map(Field::ticked).unwrap_or_default();
        let right = |at: usize| Rights::NAMED.get(at).map(|it| it.0);
        ticked.into_iter().filter_map(right).collect()
    }

    fn accepts(&self) -> bool {
        self.field(ACCEPT).is_some_and(|it| !it.ticked().is_empty())
    }

    fn refuse_implied(&mut self) {
        if let Some(field) = self.fields.all.get_mut(ACCEPT) {
            *field = Field::checks("accept", vec![("what comes with them".to_owned(), false)]);
        }
        self.implied = Rights::NONE;
    }

    fn requests(&self, dry_run: bool) -> Result<Vec<Request>, String> {
        let Some(grantee) = self.grantee() else {
            return Err("there is nobody to grant it to".to_owned());
        };
        let rights = self.rights();
        if rights.is_empty() {
            return Err(CHOOSE.to_owned());
        }
        let time = self.field(TIME).map_or("", Field::typed);
        let duration = match time {
            "" => None,
            time => Some(time.parse::<Seconds>()?),
        };
        let accepted = self.implied - rights;
        let accept = (self.accepts() && !accepted.is_empty()).then_some(accepted);
        let one = |key: &KeySpec| {
            Request::Grant(Box::new(GrantArgs {
                key: key.clone(),
                subject: grantee.to.clone(),
                rights,
                accept_implied: accept,
                duration,
                dry_run,
            }))
        };
        Ok(self.keys.iter().map(one).collect())
    }

    /// Asks what it would come to.
    fn preview(&mut self, context: &mut Context<'_>) {
        self.answers.clear();
        self.error = None;
        self.state = match self.requests(true) {
            Ok(requests) => {
                let ask = |request| context.ask(request);
                State::Asked(requests.into_iter().map(ask).collect())
            }
            Err(missing) => State::Incomplete(missing),
        };
    }

    fn asked(&mut self, answer: &Answer, context: &mut Context<'_>) {
        let State::Asked(tickets) = &mut self.state else {
            return;
        };
        tickets.retain(|ticket| *ticket != answer.ticket);
        let is_last = tickets.is_empty();
        self.answers.push(match &answer.result {
            Ok(Reply::Preview(preview)) => Ok((**preview).clone()),
            Ok(_) => return,
            Err(failure) => Err(failure.clone()),
        });
        if !is_last {
            return;
        }
        context.changed();
        let answers = std::mem::take(&mut self.answers);
        let before = self.implied;
        for failure in answers.iter().filter_map(|it| it.as_ref().err()) {
            if is_implied(failure) {
                let named = failure.rights.iter().filter_map(|it| it.parse().ok());
                self.implied |= named.collect::<Rights>();
            }
        }
        if self.accepts() && self.implied != before {
            return self.preview(context);
        }
        let all: Result<Vec<Preview>, Failure> = answers.into_iter().collect();
        self.state = State::Known(all.map(outcomes));
    }

    fn apply(&mut self, context: &mut Context<'_>) {
        match &self.state {
            State::Known(Ok(_)) => match self.requests(false) {
                Ok(requests) => {
                    self.error = None;
                    let ask = |request| context.ask(request);
                    self.state = State::Applying(requests.into_iter().map(ask).collect());
                }
                Err(missing) => self.error = Some(missing),
            },
            State::Known(Err(failure)) if is_implied(failure) => {
                self.error = Some("not before “accept” is ticked, or other rights are".to_owned());
            }
            State::Known(Err(_)) => self.error = Some("it cannot be granted like this".to_owned()),
            State::Incomplete(missing) => self.error = Some(missing.clone()),
            State::Asked(_) | State::Applying(_) => {}
        }
    }

    fn applied(&mut self, answer: &Answer, context: &mut Context<'_>) -> Flow {
        let State::Applying(tickets) = &mut self.state else {
            return Flow::Stay;
        };
        tickets.retain(|ticket| *ticket != answer.ticket);
        let is_last = tickets.is_empty();
        if let Err(failure) = &answer.result {
            self.error = Some(sentence(failure));
        }
        context.changed();
        match (is_last, self.error.take()) {
            (true, None) => Flow::Close,
            (true, Some(error)) => {
                self.preview(context);
                self.error = Some(error);
                Flow::Stay
            }
            (false, error) => {
                self.error = error;
                Flow::Stay
            }
        }
    }

    fn subject(&self) -> Subject {
        let container = self.grantee().and_then(|it| it.container.clone());
        container.map_or(Subject::Nothing, Subject::Container)
    }

    fn outcome(&self, shared: &Shared) -> Vec<(String, Style)> {
        let theme = &shared.theme;
        let mut said = match &self.state {
            State::Incomplete(missing) => vec![(missing.clone(), theme.faint)],
            State::Asked(_) => vec![("… asking what it would come to".to_owned(), theme.faint)],
            State::Applying(_) => vec![("… granting".to_owned(), theme.faint)],
            State::Known(Ok(outcomes)) => self.good(outcomes, shared),
            State::Known(Err(failure)) if is_implied(failure) => {
                let rights = self.implied - self.rights();
                let cause = failure.cause.clone().unwrap_or_default();
                vec![
                    (format!("! not alone: {cause}"), theme.warning),
                    (
                        format!("tick “accept” to give {rights} as well"),
                        theme.base,
                    ),
                ]
            }
            State::Known(Err(failure)) => vec![(format!("! {}", sentence(failure)), theme.bad)],
        };
        if let Some(error) = &self.error {
            said.push((format!("! {error}"), theme.bad));
        }
        said
    }

    fn good(&self, outcomes: &[(Preview, usize)], shared: &Shared) -> Vec<(String, Style)> {
        let theme = &shared.theme;
        let mut said = Vec::new();
        for (preview, keys) in outcomes {
            let which = match outcomes.len() {
                1 => String::new(),
                _ => format!("{keys} of {} keys: ", self.keys.len()),
            };
            said.push((
                format!(
                    "{which}would have {}: enforced by the kernel",
                    preview.rights
                ),
                theme.good,
            ));
            if !preview.implied.is_empty() {
                let implied = format!("of this nobody asked for {}", preview.implied);
                said.push((implied, theme.warning));
            }
            let what = match preview.is_copy {
                true => "its processes find a copy of the key, with the mask",
                false => "in place of what it has now; the mask of the key becomes",
            };
            said.push((format!("{what} {}", preview.mask), theme.base));
        }
        said.push(("Enter grants it".to_owned(), theme.heading));
        said
    }
}

/// The different ones among these, in their order, each with how many there are of it.
fn outcomes(all: Vec<Preview>) -> Vec<(Preview, usize)> {
    let mut outcomes: Vec<(Preview, usize)> = Vec::new();
    for preview in all {
        match outcomes.iter_mut().find(|(known, _)| *known == preview) {
            Some((_, keys)) => *keys += 1,
            None => outcomes.push((preview, 1)),
        }
    }
    outcomes
}

const CHOOSE: &str = "choose rights with ← → and Space";

fn is_implied(failure: &Failure) -> bool {
    failure.refusal == Some(Refusal::ImpliedRights)
}

impl Dialog for Grant {
    fn title(&self) -> String {
        "Grant".to_owned()
    }

    fn size(&self, shared: &Shared) -> (u16, u16) {
        let rows = wrap(&self.names, 70).len() + self.fields.height(70, shared) + 8;
        (70, u16::try_from(rows).unwrap_or(u16::MAX))
    }

    fn takes_text(&self) -> bool {
        true
    }

    fn actions(&self) -> &'static [Action] {
        &[Action::Confirm, Action::Cancel, Action::NextField]
    }

    fn edit(&mut self, edit: &Edit, context: &mut Context<'_>) {
        if matches!(self.state, State::Applying(_)) {
            return;
        }
        let before = (
            self.field(TO).map(Field::chosen),
            self.rights(),
            self.accepts(),
        );
        let time = self.field(TIME).map_or("", Field::typed).to_owned();
        self.fields.edit(edit);
        let after = (
            self.field(TO).map(Field::chosen),
            self.rights(),
            self.accepts(),
        );
        if (before.0, before.1) != (after.0, after.1) {
            // What was accepted was accepted for something else.
            self.refuse_implied();
        }
        if before != after || time != self.field(TIME).map_or("", Field::typed) {
            self.preview(context);
        }
    }

    fn act(&mut self, action: Action, context: &mut Context<'_>) -> Flow {
        match action {
            Action::NextField => self.fields.go(false),
            Action::PreviousField => self.fields.go(true),
            Action::Confirm => self.apply(context),
            _ => {}
        }
        Flow::Stay
    }

    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) -> Flow {
        match &self.state {
            State::Asked(tickets) if tickets.contains(&answer.ticket) => {
                self.asked(answer, context);
                Flow::Stay
            }
            State::Applying(tickets) if tickets.contains(&answer.ticket) => {
                self.applied(answer, context)
            }
            _ => self.subject().answer(answer, context),
        }
    }

    fn event(&mut self, event: &Event, context: &mut Context<'_>) -> Flow {
        self.subject().event(event, context)
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let width = usize::from(area.width);
        let before: Vec<Row<'static>> = wrap(&self.names, width)
            .into_iter()
            .take(3)
            .map(|line| Row::styled(line, shared.theme.heading))
            .collect();
        let mut after = Vec::new();
        for (said, style) in self.outcome(shared) {
            let lines = wrap(&said, width).into_iter();
            after.extend(lines.map(|line| Row::styled(line, style)));
        }
        self.fields.draw(frame, area, shared, before, after);
    }
}

/// Whom a key can be granted to: the containers, and for a key of the caller's own also those of its
/// mask.
#[must_use]
pub fn grantees(containers: Vec<Named>, is_own: bool) -> Vec<Grantee> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for container in containers {
        if let Ok(path) = container.name.parse()
            && seen.insert(container.id)
        {
            all.push(Grantee {
                to: To::Container(path),
                container: Some(container),
            });
        }
    }
    if is_own {
        let mask = [To::Possessor, To::Owner, To::Group, To::Everyone];
        all.extend(mask.map(|to| Grantee {
            to,
            container: None,
        }));
    }
    all
}
