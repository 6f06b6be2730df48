//! Everything about the key under the cursor, in words.

use keyns::classic;
use keyns::mask::Mask;
use keyns_interfaces::keys::{Ace, Acl, KeyInfo};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line as Row, Span};

use super::item::{KeyItem, Place};
use crate::app::shared::Shared;
use crate::client::Described;
use crate::dialog::help::wrap;
use crate::text;

/// Width of the names at the left.
const NAMES: usize = 11;

/// Lines of names and values.
pub struct Lines<'a> {
    shared: &'a Shared,
    width: usize,
    rows: Vec<Row<'static>>,
}

impl<'a> Lines<'a> {
    /// None yet, for an area of this width.
    #[must_use]
    pub fn new(shared: &'a Shared, width: u16) -> Self {
        Self {
            shared,
            width: usize::from(width),
            rows: Vec::new(),
        }
    }

    /// A name and lines of a value, which is safe already.
    pub fn lines(&mut self, name: &str, lines: Vec<String>, style: Style) {
        for (at, line) in lines.into_iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            self.rows.push(Row::from(vec![
                Span::styled(format!("{name:<NAMES$} "), self.shared.theme.heading),
                Span::styled(line, style),
            ]));
        }
    }

    /// A name and a sentence of our own words.
    pub fn sentence(&mut self, name: &str, sentence: &str) {
        self.lines(name, wrap(sentence, self.room()), self.shared.theme.base);
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        self.rows.push(Row::styled(
            text::fit(text, self.width),
            self.shared.theme.heading,
        ));
    }

    /// Cells for values.
    #[must_use]
    pub fn room(&self) -> usize {
        self.width.saturating_sub(NAMES + 1).max(8)
    }

    /// The lines.
    #[must_use]
    pub fn rows(self) -> Vec<Row<'static>> {
        self.rows
    }

    /// How text is drawn that means nothing else.
    #[must_use]
    pub fn base(&self) -> Style {
        self.shared.theme.base
    }

    /// How many lines there are.
    #[must_use]
    pub fn height(&self) -> usize {
        self.rows.len()
    }

    /// Draws what fits, from the line `top` on.
    pub fn draw(self, frame: &mut Frame<'_>, area: Rect, top: usize) {
        for (row, place) in self.rows.into_iter().skip(top).zip(area.rows()) {
            frame.render_widget(row, place);
        }
    }
}

/// What is known of a row besides what stands in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The key as the kernel has it.
    pub described: Option<&'a Described>,
    /// The list that the daemon has of it.
    pub acl: Option<&'a Acl>,
}

/// Everything about a row, in lines of this width.
#[must_use]
pub fn lines<'a>(item: &KeyItem, known: Known<'_>, shared: &'a Shared, width: u16) -> Lines<'a> {
    let mut lines = Lines::new(shared, width);
    match item.key() {
        Some(key) => of_key(&mut lines, key, item, known, shared),
        None => of_other(&mut lines, item, shared),
    }
    lines
}

fn of_key(lines: &mut Lines<'_>, key: &KeyInfo, item: &KeyItem, known: Known<'_>, shared: &Shared) {
    let described = known
        .described
        .filter(|it| it.key.serial == key.serial && item.reachable().is_some());
    let acl = known.acl.filter(|it| it.key.serial == key.serial);
    let grants = acl.map_or(&key.grants, |acl| &acl.key.grants);
    let key = described.map_or(key, |it| &it.key);
    let room = lines.room();
    let base = shared.theme.base;
    lines.lines(
        "key",
        vec![format!("{}  {}", key.serial, text::line(&key.type_, 31))],
        base,
    );
    lines.lines(
        "description",
        text::lines(key.description.bytes(), room, 4),
        base,
    );
    if let Some(container) = item.container() {
        lines.lines("container", vec![text::line(container, room)], base);
    }
    if let Some(origin) = origin(item, acl) {
        lines.sentence("origin", origin);
    }
    lines.sentence(
        "owner",
        &format!("{}, group {}", shared.users.show(key.uid), key.gid),
    );
    if let Some(state) = described.and_then(|it| it.state) {
        lines.sentence("state", state);
    }
    let expiry = match key.expires_in {
        Some(left) => format!("in {} or a little more", keyctl_ns::view::seconds(left)),
        None => "never".to_owned(),
    };
    lines.sentence("expires", &expiry);
    lines.lines("mask", vec![keyctl_ns::view::mask(key.mask)], base);
    for grant in grants {
        let ends = match grant.expires_in {
            Some(left) => format!("ends in {}", keyctl_ns::view::seconds(left)),
            None => "until taken back".to_owned(),
        };
        let container = text::line(&grant.container, room);
        let copy = grant
            .copy
            .map_or(String::new(), |copy| format!(", copy {copy}"));
        let asked = keyctl_ns::view::rights(&grant.requested);
        lines.sentence(
            "granted",
            &format!("{asked} to container “{container}”{copy}, {ends}"),
        );
    }
    match acl {
        Some(acl) => listed(lines, acl),
        None => rights(lines, key),
    }
    if key.type_ != "keyring" {
        lines.sentence("payload", "hidden; p shows it for a while");
    }
}

/// How the key came to be where it is, as far as that is not obvious.
fn origin(item: &KeyItem, acl: Option<&Acl>) -> Option<&'static str> {
    let KeyItem::Key { place, .. } = item else {
        return None;
    };
    match place {
        Place::Store(_) => Some("put into the container; its processes find it once it is granted"),
        Place::Lent(_) => Some("lent by its owner; the container has a copy"),
        Place::Copy(_) => Some("a copy that a grant made, kept like its source"),
        _ if acl.is_some_and(|acl| acl.lent) => Some("lent to keynsd, which holds a link to it"),
        _ => None,
    }
}

/// The entries that the daemon knows, with who enforces each.
fn listed(lines: &mut Lines<'_>, acl: &Acl) {
    if acl.entries.is_empty() {
        lines.sentence("rights", "nobody may do anything with it");
    }
    // The containers first: they are what one looks for, and there may be no room for all.
    let is_container = |ace: &&Ace| ace.subject.starts_with("container:");
    let containers = acl.entries.iter().filter(is_container);
    let others = acl.entries.iter().filter(|ace| !is_container(ace));
    for ace in containers.chain(others) {
        let implied = match ace.implied.as_slice() {
            [] => String::new(),
            some => format!(" (not asked for: {})", keyctl_ns::view::rights(some)),
        };
        let (name, who) = match ace.subject.strip_prefix("container:") {
            Some(container) => ("container", format!("“{}” ", text::line(container, 60))),
            None => (ace.subject.as_str(), String::new()),
        };
        let rights = keyctl_ns::view::rights(&ace.rights).replace(',', ", ");
        let enforcer = text::line(&ace.enforcer, 16);
        lines.sentence(
            &text::line(name, 11),
            &format!("{who}may {rights}{implied} [{enforcer}]"),
        );
    }
}

/// What the mask gives to whom, and who enforces it.
fn rights(lines: &mut Lines<'_>, key: &KeyInfo) {
    let mask = Mask::from_raw(key.mask).unwrap_or(Mask::NONE);
    let acl = classic::acl_of(mask, keyctl_ns::key::object(key));
    if acl.is_empty() {
        lines.sentence("rights", "nobody may do anything with it");
    }
    for ace in acl.iter() {
        let rights: Vec<&str> = ace.rights().names().collect();
        let sentence = format!("may {} [{}]", rights.join(", "), ace.enforced_by);
        lines.sentence(&ace.subject.to_string(), &sentence);
    }
}

fn of_other(lines: &mut Lines<'_>, item: &KeyItem, shared: &Shared) {
    match item {
        KeyItem::Users => lines.sentence("", "Every user who has keys here. The kernel shows those keys alone that you may view."),
        KeyItem::User(user) => {
            lines.lines("user", vec![shared.users.show(user.uid)], shared.theme.base);
            lines.sentence("keys", &format!("{}, of which {} have their payload", user.keys, user.instantiated));
            lines.sentence("quota", &format!("{} of {} keys, {} of {} bytes", user.charged_keys, user.max_keys, user.charged_bytes, user.max_bytes));
        }
        KeyItem::Container(container) => {
            let name = text::lines(&container.name, lines.room(), 3);
            lines.lines("container", name, shared.theme.base);
            lines.sentence("state", keyctl_ns::view::state(container.state));
            lines.sentence("namespaces", &keyctl_ns::view::namespaces(&container.namespaces));
        }
        KeyItem::Found(_) => lines.sentence("", "The copies in the container's keyring, which its processes find first. Grants make them."),
        KeyItem::Store(_) => lines.sentence("", "The keys that were put into the container, and those lent for it. Its processes find them once they are granted."),
        KeyItem::Hidden(_) => lines.sentence("", "The kernel tells nothing of keys without the right to view them."),
        KeyItem::Failed(why) => lines.sentence("", why),
        KeyItem::Nothing => {}
        KeyItem::Own { .. } | KeyItem::Key { .. } => {}
    }
}
