//! The page Keys: every keyring that can be reached, as trees, with the key under the cursor in words.

mod change;
pub mod details;
pub mod item;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crossterm::event::MouseEvent;
use keyns_interfaces::containers::{ContainerInfo, State};
use keyns_interfaces::event::Event;
use keyns_interfaces::keys::{Acl, KeyInfo};
use ratatui::Frame;
use ratatui::layout::Rect;

use self::details::Known;
use self::item::{KeyItem, Place};
use super::tree_view::{Outcome, TreeView};
use super::{Page, beside, pane};
use crate::action::{Action, Scope};
use crate::app::shared::{Context, Shared, sentence};
use crate::client::{Answer, Described, Failure, OwnKeyring, Reply, Request, Ticket};
use crate::dialog::sheet::Sheet;
use crate::filter::Filter;
use crate::tree::{Below, NodeId};
use keyctl_ns::error::ErrorKind;
use keyctl_ns::proc_file::Expiring;

/// How often open keyrings are read again, unless that takes long.
const REREAD: Duration = Duration::from_secs(3);
/// The part of the time that reading may take.
const SHARE: u32 = 200;
/// How long events of a container are collected before it is read again.
const SETTLE: Duration = Duration::from_millis(500);

/// The page.
#[derive(Debug, Default)]
pub struct Keys {
    view: TreeView<KeyItem>,
    own: Vec<OwnKeyring>,
    /// Which of the caller's keys expire, as far as it is known.
    expiring: Expiring,
    /// The question for that, and since when it is on its way.
    timing: Option<(Ticket, Duration)>,
    containers: Vec<ContainerInfo>,
    /// Questions on their way, the node that each is about, and since when.
    asked: HashMap<Ticket, (NodeId, Duration)>,
    described: Option<Described>,
    describing: Option<Ticket>,
    /// What the daemon knows of the key with this serial, if it was asked.
    acl: Option<(i32, Option<Acl>)>,
    listing: Option<(Ticket, i32)>,
    /// Containers of which something has changed.
    touched: BTreeSet<String>,
    /// When they are read again.
    settles_at: Option<Duration>,
    reread_at: Duration,
    is_started: bool,
}

impl Keys {
    fn roots(&mut self, context: &mut Context<'_>) {
        let own = self.own.iter().map(|own| KeyItem::Own {
            name: own.name,
            title: own.title,
            key: timed(&own.key, &self.expiring),
        });
        let living = self.containers.iter().filter(|it| it.state != State::Dead);
        let containers = living.map(|it| KeyItem::Container(it.clone()));
        let roots: Vec<KeyItem> = own
            .chain(std::iter::once(KeyItem::Users))
            .chain(containers)
            .collect();
        let roots = roots.into_iter().map(|item| {
            let below = item.below();
            (item, below)
        });
        if self.view.tree.merge(None, roots) {
            self.changed(context);
        }
        if !self.is_started
            && let Some(session) = self.view.tree.roots().first().copied()
            && !self.own.is_empty()
        {
            self.is_started = true;
            if let Some(node) = self.view.tree.node_mut(session) {
                node.is_open = true;
            }
            self.read(session, context);
        }
    }

    fn changed(&mut self, context: &mut Context<'_>) {
        self.view.arrange();
        context.changed();
        self.describe(context);
    }

    /// Asks for what is below a node.
    fn read(&mut self, id: NodeId, context: &mut Context<'_>) {
        if self.asked.values().any(|(node, _)| *node == id) {
            return;
        }
        let Some(node) = self.view.tree.node_mut(id) else {
            return;
        };
        let request = match &node.item {
            KeyItem::Users => Request::Users,
            KeyItem::User(user) => Request::UserKeys(user.uid),
            KeyItem::Container(container) => Request::Contents(container.name.clone()),
            item => match item.reachable() {
                Some(serial) => Request::Members(serial),
                None => return,
            },
        };
        if node.below == Below::Unread {
            node.below = Below::Reading;
        }
        let ticket = context.ask(request);
        self.asked
            .insert(ticket, (id, context.shared.now.since_start));
    }

    /// Asks for the state of the key under the cursor, one question at a time: whoever scrolls is not
    /// kept waiting by answers nobody looks at.
    fn describe(&mut self, context: &mut Context<'_>) {
        if self.describing.is_some() {
            return;
        }
        let current = self.view.tree.current_item().and_then(KeyItem::reachable);
        let known = self.described.as_ref().map(|it| it.key.serial);
        match current {
            Some(serial) if known != Some(serial.raw()) => {
                self.describing = Some(context.ask(Request::Describe(serial)));
            }
            _ => {}
        }
        self.list(context);
    }

    /// Asks for the state of the key under the cursor again: it may expire, or be revoked.
    fn redescribe(&mut self, context: &mut Context<'_>) {
        let current = self.view.tree.current_item().and_then(KeyItem::reachable);
        if let (Some(serial), None) = (current, self.describing) {
            self.describing = Some(context.ask(Request::Describe(serial)));
        }
    }

    /// Whether nothing that was asked for is on its way.
    fn is_answered(&self) -> bool {
        self.asked.is_empty() && self.timing.is_none()
    }

    /// Asks which keys expire.
    fn time(&mut self, context: &mut Context<'_>) {
        if self.timing.is_none() {
            let now = context.shared.now.since_start;
            self.timing = Some((context.ask(Request::Expiring), now));
        }
    }

    /// Shows which keys expire.
    fn show_times(&mut self, expiring: &Expiring, context: &mut Context<'_>) {
        if self.expiring == *expiring {
            return;
        }
        self.expiring = expiring.clone();
        let mut is_changed = false;
        for item in self.view.tree.items_mut() {
            let is_own = item.reachable().is_some();
            if let (true, Some(key)) = (is_own, item.key_mut()) {
                let left = self.expiring.left(key);
                is_changed |= key.expires_in != left;
                key.expires_in = left;
            }
        }
        if is_changed {
            context.changed();
        }
    }

    /// Reading takes at most its share of the time.
    fn took(&mut self, since: Duration, context: &Context<'_>) {
        let now = context.shared.now.since_start;
        let took = now.saturating_sub(since);
        self.reread_at = self.reread_at.max(now + REREAD.max(took * SHARE));
    }

    /// Reads again what events were about.
    fn settle(&mut self, context: &mut Context<'_>) {
        context.ask(Request::Containers);
        let touched = std::mem::take(&mut self.touched);
        for id in self.view.tree.roots().to_vec() {
            let is_touched = self.view.tree.node(id).is_some_and(|node| {
                node.below == Below::Read
                    && matches!(&node.item, KeyItem::Container(it) if touched.contains(&it.name))
            });
            if is_touched {
                self.read(id, context);
            }
        }
    }

    /// Asks the daemon who may do what with the key under the cursor.
    fn list(&mut self, context: &mut Context<'_>) {
        if self.listing.is_some() || !context.shared.link.is_up() {
            return;
        }
        let Some(item) = self.view.tree.current_item() else {
            return;
        };
        let (Some(key), Some(name)) = (item.key(), item.for_daemon()) else {
            return;
        };
        if self.acl.as_ref().map(|(serial, _)| *serial) != Some(key.serial) {
            let serial = key.serial;
            self.listing = Some((context.ask(Request::Acl(name)), serial));
        }
    }

    /// What is known of the row under the cursor.
    fn known(&self) -> Known<'_> {
        let serial = self
            .view
            .tree
            .current_item()
            .and_then(KeyItem::key)
            .map(|key| key.serial);
        let described = self.described.as_ref();
        let acl = self.acl.as_ref();
        Known {
            described: described.filter(|it| Some(it.key.serial) == serial),
            acl: acl
                .filter(|(it, _)| Some(*it) == serial)
                .and_then(|(_, acl)| acl.as_ref()),
        }
    }

    /// Shows the details alone.
    fn enlarge(&self, context: &mut Context<'_>) {
        let Some(item) = self.view.tree.current_item().cloned() else {
            return;
        };
        let known = self.known();
        let (described, acl) = (known.described.cloned(), known.acl.cloned());
        let write = move |shared: &Shared, width: u16| {
            let known = Known {
                described: described.as_ref(),
                acl: acl.as_ref(),
            };
            details::lines(&item, known, shared, width).rows()
        };
        context.open(Sheet::new("Details", Box::new(write)));
    }

    fn act_on_keys(&mut self, action: Action, context: &mut Context<'_>) -> bool {
        let surroundings = change::Surroundings {
            containers: &self.containers,
            acl: self.known().acl,
        };
        change::ask(&self.view, &surroundings, action, context)
    }

    /// Reads everything again that was read and is open.
    fn reread(&mut self, only_kernel: bool, context: &mut Context<'_>) {
        let mut open = Vec::new();
        for row in 0..self.view.tree.len() {
            let Some(id) = self.view.tree.row(row) else {
                continue;
            };
            let Some(node) = self.view.tree.node(id) else {
                continue;
            };
            let is_kernels = node.item.reachable().is_some();
            if node.is_open && node.below == Below::Read && (is_kernels || !only_kernel) {
                open.push(id);
            }
        }
        for id in open {
            self.read(id, context);
        }
    }

    fn fill(&mut self, id: NodeId, answer: &Answer, context: &mut Context<'_>) {
        let items: Vec<KeyItem> = match &answer.result {
            Ok(Reply::Members(members)) => {
                let place = match &answer.request {
                    Request::Members(ring) => Place::Ring(*ring),
                    _ => Place::Listed,
                };
                let key = |key: &KeyInfo| KeyItem::Key {
                    key: timed(key, &self.expiring),
                    place: place.clone(),
                };
                let hidden = (members.hidden > 0).then_some(KeyItem::Hidden(members.hidden));
                let mut items: Vec<KeyItem> = members.keys.iter().map(key).chain(hidden).collect();
                if items.is_empty() {
                    items.push(KeyItem::Nothing);
                }
                items
            }
            Ok(Reply::Users(users)) => users.iter().map(|user| KeyItem::User(*user)).collect(),
            Ok(Reply::Contents(contents)) => {
                let name = contents.shown.container.name.clone();
                let pair = vec![KeyItem::Found(name.clone()), KeyItem::Store(name)];
                self.merge(Some(id), pair, context);
                let halves = self.view.tree.children(id).to_vec();
                for half in halves {
                    self.fill_half(half, contents, context);
                }
                return;
            }
            Ok(_) => return,
            Err(failure) => self.failed(id, failure),
        };
        self.merge(Some(id), items, context);
    }

    fn fill_half(
        &mut self,
        half: NodeId,
        contents: &crate::client::Contents,
        context: &mut Context<'_>,
    ) {
        let name = contents.shown.container.name.clone();
        let Some(node) = self.view.tree.node_mut(half) else {
            return;
        };
        if node.below == Below::Unread {
            node.is_open = true;
        }
        let is_store = matches!(node.item, KeyItem::Store(_));
        let keys = match is_store {
            true => &contents.shown.keys,
            false => &contents.copies,
        };
        let keys = keys
            .iter()
            .filter(|key| !is_store || !matches!(key.origin.as_str(), "keyring" | "copy"));
        let items = keys.map(|key| KeyItem::Key {
            key: key.clone(),
            place: match (is_store, key.container.as_ref()) {
                (false, _) => Place::Copy(name.clone()),
                // A key in the store of another container can be granted to this one.
                (true, Some(home)) => Place::Store(home.clone()),
                (true, None) => Place::Lent(name.clone()),
            },
        });
        let mut items: Vec<KeyItem> = items.collect();
        if items.is_empty() {
            items.push(KeyItem::Nothing);
        }
        self.merge(Some(half), items, context);
    }

    /// What stands below a node that could not be read.
    fn failed(&self, _: NodeId, failure: &Failure) -> Vec<KeyItem> {
        let why = match failure.kind {
            ErrorKind::Denied => "you may not list it".to_owned(),
            _ => sentence(failure),
        };
        vec![KeyItem::Failed(why)]
    }

    fn merge(&mut self, parent: Option<NodeId>, items: Vec<KeyItem>, context: &mut Context<'_>) {
        let items = items.into_iter().map(|item| {
            let below = item.below();
            (item, below)
        });
        if self.view.tree.merge(parent, items) {
            self.changed(context);
        }
    }
}

impl Page for Keys {
    fn name(&self) -> &'static str {
        "Keys"
    }

    fn scope(&self) -> Scope {
        Scope::Keys
    }

    fn refresh(&mut self, context: &mut Context<'_>) {
        context.ask(Request::Own);
        self.time(context);
        context.ask(Request::Containers);
        (self.described, self.describing) = (None, None);
        (self.acl, self.listing) = (None, None);
        self.describe(context);
        self.reread(false, context);
    }

    fn act(&mut self, action: Action, context: &mut Context<'_>) -> bool {
        if action == Action::Details {
            self.enlarge(context);
            return true;
        }
        match self.view.act(action) {
            Outcome::NotMine => return self.act_on_keys(action, context),
            Outcome::Unread(id) => self.read(id, context),
            Outcome::Entered => self.enlarge(context),
            Outcome::Done => {}
        }
        self.describe(context);
        true
    }

    fn mouse(&mut self, event: MouseEvent, context: &mut Context<'_>) {
        if let Outcome::Unread(id) = self.view.mouse(event) {
            self.read(id, context);
        }
        self.describe(context);
    }

    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) {
        if let Some((id, since)) = self.asked.remove(&answer.ticket) {
            self.took(since, context);
            return self.fill(id, answer, context);
        }
        if let Some((ticket, since)) = self.timing
            && ticket == answer.ticket
        {
            self.timing = None;
            self.took(since, context);
            if let Ok(Reply::Expiring(expiring)) = &answer.result {
                self.show_times(expiring, context);
            }
            return;
        }
        if self.describing == Some(answer.ticket) {
            self.describing = None;
            if let Ok(Reply::Described(described)) = &answer.result {
                let described = Some((**described).clone());
                if self.described != described {
                    self.described = described;
                    context.changed();
                }
                // The cursor may have moved on.
                self.describe(context);
            }
            return;
        }
        if let Some((ticket, serial)) = self.listing
            && ticket == answer.ticket
        {
            self.listing = None;
            let acl = match &answer.result {
                Ok(Reply::Acl(acl)) => Some((**acl).clone()),
                _ => None,
            };
            if acl.is_some() {
                context.changed();
            }
            self.acl = Some((serial, acl));
            return self.list(context);
        }
        match &answer.result {
            Ok(Reply::Own(own)) => {
                self.own.clone_from(own);
                self.roots(context);
            }
            Ok(Reply::Containers(containers)) => {
                self.containers.clone_from(containers);
                self.roots(context);
            }
            Ok(Reply::Done(_)) => {
                (self.described, self.acl) = (None, None);
                self.describe(context);
                self.reread(false, context);
            }
            Err(failure)
                if matches!(answer.request, Request::Own | Request::Containers)
                    && !is_absence(failure) =>
            {
                context.shared.complain(failure);
                context.changed();
            }
            _ => {}
        }
    }

    fn event(&mut self, event: &Event, context: &mut Context<'_>) {
        let about = event.key.as_ref().map(|key| key.serial);
        if about.is_some() && about == self.acl.as_ref().map(|(serial, _)| *serial) {
            self.acl = None;
            self.list(context);
        }
        let key = event.key.as_ref().and_then(|key| key.container.clone());
        let grant = event.grant.as_ref().map(|grant| grant.container.clone());
        let container = event.container.as_ref().map(|it| it.name.clone());
        self.touched
            .extend(key.into_iter().chain(grant).chain(container));
        if !self.touched.is_empty() && self.settles_at.is_none() {
            self.settles_at = Some(context.shared.now.since_start + SETTLE);
        }
    }

    fn filter(&mut self, filter: &Filter, context: &mut Context<'_>) {
        self.view.filter(filter);
        self.changed(context);
    }

    fn wakes_at(&self, _: &Shared) -> Option<Duration> {
        let reread = self.is_answered().then_some(self.reread_at);
        self.settles_at.into_iter().chain(reread).min()
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        let now = context.shared.now.since_start;
        if self.settles_at.is_some_and(|at| at <= now) {
            self.settles_at = None;
            self.settle(context);
        }
        if self.is_answered() && self.reread_at <= now {
            self.reread_at = now + REREAD;
            self.reread(true, context);
            self.time(context);
            self.redescribe(context);
        }
    }

    fn summary(&self, _: &Shared) -> String {
        let tree = &self.view.tree;
        let row = if tree.is_empty() {
            0
        } else {
            tree.cursor() + 1
        };
        let marked = match self.view.marked() {
            0 => String::new(),
            marked => format!("  {marked} marked"),
        };
        format!("{row}/{}{marked}", tree.len())
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let parts = beside::split(frame, area, shared);
        self.view.draw(frame, parts.list, shared);
        if let (Some(area), Some(item)) = (parts.details, self.view.tree.current_item()) {
            let lines = details::lines(item, self.known(), shared, area.width);
            pane::beginning(frame, area, lines, shared);
        }
    }
}

/// A key with the time it has left.
fn timed(key: &KeyInfo, expiring: &Expiring) -> KeyInfo {
    let mut key = key.clone();
    key.expires_in = key.expires_in.or_else(|| expiring.left(&key));
    key
}

/// Whether there is only no daemon to be asked, which the first line says.
fn is_absence(failure: &Failure) -> bool {
    failure.kind == ErrorKind::Unreachable
        || failure.refusal == Some(keyns_interfaces::ErrorKind::NotPermitted)
}
