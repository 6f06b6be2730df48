//! The page Containers: each with its processes, keys and rules, as a tree.

mod change;
pub mod details;
pub mod item;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crossterm::event::MouseEvent;
use keyctl_ns::error::ErrorKind;
use keyns_interfaces::containers::{ContainerInfo, Shown, State};
use keyns_interfaces::event::Event;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line as Row;

use self::item::ContainerItem;
use super::tree_view::{Outcome, TreeView};
use super::{Page, beside, pane};
use crate::action::{Action, Scope};
use crate::app::shared::{Context, Link, Shared, sentence};
use crate::client::{Answer, Named, Reply, Request, Ticket};
use crate::dialog::help::wrap;
use crate::dialog::sheet::Sheet;
use crate::filter::Filter;
use crate::tree::NodeId;

/// How often what is open is read again: not every change of it is an event.
const REREAD: Duration = Duration::from_secs(3);
/// How long events are collected before what they are about is read again.
const SETTLE: Duration = Duration::from_millis(300);

/// The page.
#[derive(Debug, Default)]
pub struct Containers {
    view: TreeView<ContainerItem>,
    all: Vec<ContainerInfo>,
    contents: HashMap<u64, Shown>,
    failed: HashMap<u64, String>,
    asked: HashMap<Ticket, u64>,
    listing: Option<Ticket>,
    /// Whether something has happened since the list was asked for.
    is_outdated: bool,
    touched: BTreeSet<u64>,
    settles_at: Option<Duration>,
    reread_at: Duration,
}

impl Containers {
    fn list(&mut self, context: &mut Context<'_>) {
        if self.listing.is_some() {
            self.is_outdated = true;
            return;
        }
        self.is_outdated = false;
        self.listing = Some(context.ask(Request::Containers));
    }

    fn read(&mut self, id: u64, context: &mut Context<'_>) {
        let is_known = self.all.iter().any(|it| it.id == id);
        if is_known && !self.asked.values().any(|it| *it == id) {
            let ticket = context.ask(Request::Contents(id.to_string()));
            self.asked.insert(ticket, id);
        }
    }

    /// Reads what the row under the cursor is about, if that was never read.
    fn look(&mut self, context: &mut Context<'_>) {
        if let Some(ContainerItem::Container(it)) = self.view.tree.current_item()
            && !self.contents.contains_key(&it.id)
            && !self.failed.contains_key(&it.id)
        {
            let id = it.id;
            self.read(id, context);
        }
    }

    fn open(&self) -> Vec<u64> {
        let nodes = self.view.tree.all();
        nodes
            .filter_map(|(_, node)| match &node.item {
                ContainerItem::Container(it) if node.is_open => Some(it.id),
                _ => None,
            })
            .collect()
    }

    /// Makes the tree of what is known.
    fn build(&mut self, context: &mut Context<'_>) {
        let is_root = |it: &&ContainerInfo| {
            it.parent
                .is_none_or(|parent| self.all.iter().all(|other| other.id != parent))
        };
        let roots: Vec<ContainerItem> = self
            .all
            .iter()
            .filter(is_root)
            .map(|it| ContainerItem::Container(it.clone()))
            .collect();
        let mut is_changed = self.merge(None, roots);
        let mut next = self.view.tree.roots().to_vec();
        while let Some(id) = next.pop() {
            let Some(node) = self.view.tree.node(id) else {
                continue;
            };
            let ContainerItem::Container(container) = &node.item else {
                continue;
            };
            if let Some(children) = self.children(container) {
                is_changed |= self.merge(Some(id), children);
                next.extend_from_slice(self.view.tree.children(id));
            }
        }
        if is_changed {
            self.view.arrange();
            context.changed();
        }
        self.look(context);
    }

    fn merge(&mut self, parent: Option<NodeId>, items: Vec<ContainerItem>) -> bool {
        let items = items.into_iter().map(|item| {
            let below = item.below();
            (item, below)
        });
        self.view.tree.merge(parent, items)
    }

    /// What stands below a container; nothing if that was never read.
    fn children(&self, container: &ContainerInfo) -> Option<Vec<ContainerItem>> {
        let nested = self.all.iter().filter(|it| it.parent == Some(container.id));
        let nested = nested.map(|it| ContainerItem::Container(it.clone()));
        if let Some(why) = self.failed.get(&container.id) {
            return Some(nested.chain([ContainerItem::Failed(why.clone())]).collect());
        }
        let shown = self.contents.get(&container.id)?;
        let named = Named::from(container);
        let processes = shown.processes.iter();
        let processes =
            processes.map(|process| ContainerItem::Process(named.clone(), process.clone()));
        let keys = shown.keys.iter().map(|key| ContainerItem::Key {
            container: named.clone(),
            grant: key
                .grants
                .iter()
                .find(|it| it.container == container.name)
                .cloned(),
            key: key.clone(),
        });
        let rules = shown.rules.iter();
        let rules = rules.map(|rule| ContainerItem::Rule(named.clone(), rule.clone()));
        Some(processes.chain(keys).chain(rules).chain(nested).collect())
    }

    /// The container that the row under the cursor is, or belongs to.
    fn current(&self) -> Option<&ContainerInfo> {
        let id = self.view.tree.current_item()?.container()?.id;
        self.all.iter().find(|it| it.id == id)
    }

    fn enlarge(&self, context: &mut Context<'_>) {
        let Some(item) = self.view.tree.current_item().cloned() else {
            return;
        };
        let contents = self.current().and_then(|it| self.contents.get(&it.id));
        let contents = contents.cloned();
        let write = move |shared: &Shared, width: u16| {
            details::lines(&item, contents.as_ref(), shared, width).rows()
        };
        context.open(Sheet::new("Details", Box::new(write)));
    }

    fn listed(&mut self, all: &[ContainerInfo], context: &mut Context<'_>) {
        self.all = all.to_vec();
        let is_there = |id: &u64| all.iter().any(|it| it.id == *id);
        self.contents.retain(|id, _| is_there(id));
        self.failed.retain(|id, _| is_there(id));
        self.build(context);
    }
}

impl Page for Containers {
    fn name(&self) -> &'static str {
        "Containers"
    }

    fn scope(&self) -> Scope {
        Scope::Containers
    }

    fn refresh(&mut self, context: &mut Context<'_>) {
        self.listing = None;
        self.asked.clear();
        self.failed.clear();
        self.list(context);
        let known: Vec<u64> = self.contents.keys().copied().collect();
        for id in known {
            self.read(id, context);
        }
    }

    fn act(&mut self, action: Action, context: &mut Context<'_>) -> bool {
        if action == Action::Details {
            self.enlarge(context);
            return true;
        }
        match self.view.act(action) {
            Outcome::NotMine => {
                let item = self.view.tree.current_item();
                let container = self.current();
                let contents = container.and_then(|it| self.contents.get(&it.id));
                let state = container.map(|it| it.state);
                return change::ask(item, state, contents, action, context);
            }
            Outcome::Entered => self.enlarge(context),
            Outcome::Unread(_) | Outcome::Done => {}
        }
        self.look(context);
        true
    }

    fn mouse(&mut self, event: MouseEvent, context: &mut Context<'_>) {
        self.view.mouse(event);
        self.look(context);
    }

    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) {
        if let Some(id) = self.asked.remove(&answer.ticket) {
            match &answer.result {
                Ok(Reply::Contents(contents)) => {
                    self.failed.remove(&id);
                    self.contents.insert(id, contents.shown.clone());
                }
                // What was known of it is shown as stale by the first line.
                Err(failure) if failure.kind == ErrorKind::Unreachable => {}
                Err(failure) => {
                    self.failed.insert(id, sentence(failure));
                }
                Ok(_) => {}
            }
            return self.build(context);
        }
        let is_mine = self.listing == Some(answer.ticket);
        if is_mine {
            self.listing = None;
        }
        match &answer.result {
            // Also those that another page has asked for.
            Ok(Reply::Containers(all)) => self.listed(all, context),
            Ok(Reply::Done(_)) => {
                self.list(context);
                let mut changed = self.open();
                changed.extend(self.current().map(|it| it.id));
                for id in changed {
                    self.read(id, context);
                }
            }
            _ => {}
        }
        if is_mine && self.is_outdated {
            self.list(context);
        }
    }

    fn event(&mut self, event: &Event, context: &mut Context<'_>) {
        if let Some(container) = &event.container {
            self.touched.insert(container.id);
        }
        let key = event.key.as_ref().and_then(|key| key.container.as_ref());
        let grant = event.grant.as_ref().map(|grant| &grant.container);
        for name in key.into_iter().chain(grant) {
            let id = self.all.iter().find(|it| it.name == *name).map(|it| it.id);
            self.touched.extend(id);
        }
        if self.touched.is_empty() || self.settles_at.is_some() {
            return;
        }
        self.settles_at = Some(context.shared.now.since_start + SETTLE);
    }

    fn filter(&mut self, filter: &Filter, context: &mut Context<'_>) {
        self.view.filter(filter);
        context.changed();
        self.look(context);
    }

    fn wakes_at(&self, shared: &Shared) -> Option<Duration> {
        let reread = (shared.link.is_up() && !self.open().is_empty()).then_some(self.reread_at);
        self.settles_at.into_iter().chain(reread).min()
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        let now = context.shared.now.since_start;
        if self.settles_at.is_some_and(|at| at <= now) {
            self.settles_at = None;
            self.list(context);
            for id in std::mem::take(&mut self.touched) {
                if self.contents.contains_key(&id) {
                    self.read(id, context);
                }
            }
        }
        if self.reread_at <= now {
            self.reread_at = now + REREAD;
            if context.shared.link.is_up() {
                for id in self.open() {
                    self.read(id, context);
                }
            }
        }
    }

    fn summary(&self, _: &Shared) -> String {
        let alive = |it: &&ContainerInfo| matches!(it.state, State::Created | State::Running);
        let living = self.all.iter().filter(alive).count();
        format!("{living} living, {} dead", self.all.len() - living)
    }

    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared) {
        let parts = beside::split(frame, area, shared);
        if self.all.is_empty() {
            for (line, place) in wrap(nothing(shared), parts.list.width.into())
                .into_iter()
                .zip(parts.list.rows())
            {
                frame.render_widget(Row::styled(line, shared.theme.faint), place);
            }
            return;
        }
        self.view.draw(frame, parts.list, shared);
        if let (Some(area), Some(item)) = (parts.details, self.view.tree.current_item()) {
            let contents = self.current().and_then(|it| self.contents.get(&it.id));
            let lines = details::lines(item, contents, shared, area.width);
            pane::beginning(frame, area, lines, shared);
        }
    }
}

/// Why there is no container to be seen.
fn nothing(shared: &Shared) -> &'static str {
    match &shared.link {
        Link::Connecting => "asking keynsd …",
        Link::Up(_) => "There is no container. n creates one.",
        Link::Stale { .. } => "keynsd does not answer; this goes on by itself when it does.",
        Link::Absent(failure) if failure.kind == ErrorKind::Denied => {
            "keynsd serves root alone, so there are no containers to be seen here."
        }
        Link::Absent(_) => {
            "keynsd does not run, so there are no containers. Start it with: systemctl start keynsd"
        }
    }
}
