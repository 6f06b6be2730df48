//! What is done to the chosen keys, each time after a dialog that names them.

use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_interfaces::containers::{ContainerInfo, State};
use keyns_interfaces::keys::Acl;

use super::item::{KeyItem, Place, title};
use crate::action::Action;
use crate::app::shared::{Context, Tone};
use crate::client::{Move, Named, Request};
use crate::dialog::confirm::Confirm;
use crate::dialog::fields::Field;
use crate::dialog::form::Form;
use crate::dialog::grant::{Grant, grantees};
use crate::dialog::pick::Pick;
use crate::dialog::reveal::Reveal;
use crate::page::tree_view::TreeView;
use crate::text;

/// What the page knows besides its tree.
pub(super) struct Surroundings<'a> {
    pub containers: &'a [ContainerInfo],
    pub acl: Option<&'a Acl>,
}

impl Surroundings<'_> {
    fn living(&self) -> Vec<Named> {
        let living = |it: &&ContainerInfo| matches!(it.state, State::Created | State::Running);
        self.containers
            .iter()
            .filter(living)
            .map(Named::from)
            .collect()
    }

    /// The containers that have rights on a key.
    fn granted(&self, item: &KeyItem) -> Vec<String> {
        let Some(key) = item.key() else {
            return Vec::new();
        };
        let acl = self.acl.filter(|acl| acl.key.serial == key.serial);
        let grants = acl.map_or(&key.grants, |acl| &acl.key.grants);
        grants.iter().map(|it| it.container.clone()).collect()
    }
}

/// Opens the dialog of the action; says whether it is one of these.
pub(super) fn ask(
    view: &TreeView<KeyItem>,
    surroundings: &Surroundings<'_>,
    action: Action,
    context: &mut Context<'_>,
) -> bool {
    let chosen = view.chosen();
    let items: Vec<&KeyItem> = chosen
        .iter()
        .filter_map(|id| Some(&view.tree.node(*id)?.item))
        .collect();
    let opened = match action {
        Action::Unlink | Action::Revoke | Action::Invalidate => destroy(action, &items, context),
        Action::Grant => grant(&items, surroundings, context),
        Action::Ungrant => ungrant(&items, surroundings, context),
        Action::Move => place(view, &items, surroundings, context),
        Action::Timeout => timeout(&items, context),
        Action::Reveal => reveal(&items, context),
        _ => return false,
    };
    if let Err(why) = opened {
        context.shared.say(Tone::Plain, why);
    }
    true
}

fn destroy(
    action: Action,
    items: &[&KeyItem],
    context: &mut Context<'_>,
) -> Result<(), &'static str> {
    let (verb, consequence, refusal) = match action {
        Action::Unlink => (
            "Unlink",
            "A key goes when no keyring holds it any more.",
            "only a key in a keyring of yours can be unlinked",
        ),
        Action::Revoke => (
            "Revoke",
            "Every use of it fails from then on, and it cannot be taken back.",
            "only keys of yours can be revoked; those of a container are invalidated",
        ),
        _ => (
            "Invalidate",
            "It goes at once from every keyring that holds it.",
            "only keys of yours and those in the store of a container can be invalidated",
        ),
    };
    let requests = all(items, |item| request(action, item)).ok_or(refusal)?;
    let question = format!("{verb} {}?", names(items));
    context.open(Confirm::new(verb, question, consequence, requests));
    Ok(())
}

/// What is made of each; nothing if it cannot be of one of them, or there is none.
fn all<T>(items: &[&KeyItem], make: impl Fn(&KeyItem) -> Option<T>) -> Option<Vec<T>> {
    let made: Option<Vec<T>> = items.iter().map(|item| make(item)).collect();
    made.filter(|made| !made.is_empty())
}

/// What is asked for about one of the chosen; nothing if it cannot be done to it.
fn request(action: Action, item: &KeyItem) -> Option<Request> {
    let serial = KeySerial::new(item.key()?.serial);
    match (action, item) {
        (
            Action::Unlink,
            KeyItem::Key {
                place: Place::Ring(ring),
                ..
            },
        ) => Some(Request::Unlink(serial, *ring)),
        (Action::Unlink, _) => None,
        (Action::Revoke, item) => item.reachable().map(Request::Revoke),
        (
            Action::Invalidate,
            KeyItem::Key {
                place: Place::Store(container),
                ..
            },
        ) => Some(Request::InvalidateStored(container.clone(), serial)),
        (Action::Invalidate, item) => item.reachable().map(Request::Invalidate),
        _ => None,
    }
}

fn grant(
    items: &[&KeyItem],
    surroundings: &Surroundings<'_>,
    context: &mut Context<'_>,
) -> Result<(), &'static str> {
    const REFUSAL: &str = "keys of yours and those in the store of a container can be granted";
    let spec = |item: &KeyItem| -> Option<KeySpec> {
        let text = item.for_daemon()?;
        std::str::from_utf8(text.bytes()).ok()?.parse().ok()
    };
    let keys = all(items, spec).ok_or(REFUSAL)?;
    let is_own = items.iter().all(|item| item.reachable().is_some());
    // A container can only be granted keys, no keyrings; those of a mask can.
    let is_ring = |item: &&KeyItem| item.key().is_some_and(|key| key.type_ == "keyring");
    let containers = match items.iter().any(is_ring) {
        true => Vec::new(),
        false => surroundings.living(),
    };
    let mut all = grantees(containers, is_own);
    // The container that the cursor is in comes first.
    if let Some(name) = items.first().and_then(|item| item.container()) {
        all.sort_by_key(|it| it.container.as_ref().is_none_or(|it| it.name != name));
    }
    if all.is_empty() {
        return Err("there is no container to grant it to");
    }
    context.open(Grant::new(keys, names(items), all));
    Ok(())
}

fn ungrant(
    items: &[&KeyItem],
    surroundings: &Surroundings<'_>,
    context: &mut Context<'_>,
) -> Result<(), &'static str> {
    let [item] = items else {
        return Err("grants are taken back one key at a time; M takes the marks away");
    };
    let key = item
        .for_daemon()
        .ok_or("this is the copy; take the grant back on the key in the store, or on your own")?;
    let granted = surroundings.granted(item);
    if granted.is_empty() {
        return Err("no container has rights on it");
    }
    let words = granted.iter().map(|name| text::line(name, 60)).collect();
    let intro = format!(
        "Take back what a container may do with {}. Its copy is destroyed; what a process has read already stays read.",
        names(items)
    );
    let build = move |fields: &[Field]| {
        let at = fields.first().map_or(0, Field::chosen);
        let container = granted.get(at).cloned().ok_or("no container is chosen")?;
        let key = key.clone();
        Ok(Request::Ungrant { key, container })
    };
    let fields = vec![Field::choice("container", words)];
    context.open(Form::new("Ungrant", intro, fields, Box::new(build)));
    Ok(())
}

/// Move or link to a place that is picked.
fn place(
    view: &TreeView<KeyItem>,
    items: &[&KeyItem],
    surroundings: &Surroundings<'_>,
    context: &mut Context<'_>,
) -> Result<(), &'static str> {
    const REFUSAL: &str = "keys of yours move between your keyrings, those in a store to another";
    let stored = all(items, |item| match item {
        KeyItem::Key {
            place: Place::Store(_),
            ..
        } => item.for_daemon(),
        _ => None,
    });
    if let Some(keys) = stored {
        let own = items.first().and_then(|item| item.container());
        let mut containers = surroundings.living();
        containers.retain(|it| Some(it.name.as_str()) != own);
        if containers.is_empty() {
            return Err("there is no other container that it could move to");
        }
        let places = containers
            .iter()
            .map(|it| format!("container {}", text::line(&it.name, 60)))
            .collect();
        let build = move |mode: usize, place: usize| {
            let to = containers.get(place).map(|it| it.name.clone());
            let one = |key: &keyns_interfaces::ByteText| {
                let (key, to) = (key.clone(), to.clone()?);
                let replace = mode == 1;
                Some(Request::MoveStored { key, to, replace })
            };
            keys.iter().filter_map(one).collect()
        };
        let intro = format!("Where is {} to go? Its grants end.", names(items));
        let modes = vec!["move", "move and replace"];
        context.open(Pick::new("Move", intro, modes, places, Box::new(build)));
        return Ok(());
    }
    let links = all(items, |item| {
        let from = match item {
            KeyItem::Key {
                place: Place::Ring(ring),
                ..
            } => Some(*ring),
            _ => None,
        };
        Some((item.reachable()?, from))
    })
    .ok_or(REFUSAL)?;
    let mut rings = rings(view);
    // Where all of them are already is nowhere to go.
    if let Some((_, Some(from))) = links.first().copied()
        && links.iter().all(|(_, other)| *other == Some(from))
    {
        rings.retain(|(ring, _)| *ring != from);
    }
    if rings.is_empty() {
        return Err("no keyring is known that it could go to; open one in the tree first");
    }
    let can_move = links.iter().all(|(_, from)| from.is_some());
    let modes = match can_move {
        true => vec!["move", "link", "move and replace"],
        false => vec!["link"],
    };
    let places = rings.iter().map(|(_, name)| name.clone()).collect();
    let build = move |mode: usize, place: usize| {
        let to = rings.get(place).map(|(serial, _)| *serial);
        let one = |(key, from): &(KeySerial, Option<KeySerial>)| {
            let (key, to) = (*key, to?);
            Some(match (mode, from) {
                (0 | 2, Some(from)) => Request::Move(Move {
                    key,
                    from: *from,
                    to,
                    replace: mode == 2,
                }),
                _ => Request::Link(key, to),
            })
        };
        links.iter().filter_map(one).collect()
    };
    let intro = format!("Where is {} to go?", names(items));
    context.open(Pick::new(
        "Move or link",
        intro,
        modes,
        places,
        Box::new(build),
    ));
    Ok(())
}

/// Every keyring of the tree that this process reaches, once, with its name.
fn rings(view: &TreeView<KeyItem>) -> Vec<(KeySerial, String)> {
    let mut rings: Vec<(bool, KeySerial, String)> = Vec::new();
    for (_, node) in view.tree.all() {
        let (Some(serial), Some(key)) = (node.item.reachable(), node.item.key()) else {
            continue;
        };
        let name = match &node.item {
            KeyItem::Own { name, title, .. } => format!("{name}  {title}"),
            _ if key.type_ == "keyring" => title(key, 60),
            _ => continue,
        };
        let is_own = matches!(node.item, KeyItem::Own { .. });
        rings.push((!is_own, serial, format!("{name}  {serial}")));
    }
    rings.sort_by_key(|(rank, serial, _)| (*rank, serial.raw()));
    let mut seen = std::collections::HashSet::new();
    rings.retain(|(_, serial, _)| seen.insert(*serial));
    rings
        .into_iter()
        .map(|(_, serial, name)| (serial, name))
        .collect()
}

fn timeout(items: &[&KeyItem], context: &mut Context<'_>) -> Result<(), &'static str> {
    const REFUSAL: &str = "only keys of yours; one of a container gets its time when it is added, a grant when it is made";
    let [item] = items else {
        return Err("a time is set for one key at a time; M takes the marks away");
    };
    let serial = item.reachable().ok_or(REFUSAL)?;
    let intro = format!("When is {} to expire?", names(items));
    let build = move |fields: &[Field]| {
        let typed = fields.first().map_or("", Field::typed);
        let seconds = match typed {
            "" => return Err("a time is missing: 90s, 15m, 8h, 2d, or never".to_owned()),
            typed => keyctl_ns::args::timeout(typed)?,
        };
        Ok(Request::Timeout(serial, seconds))
    };
    let fields = vec![Field::text("in", "", "a time: 90s, 15m, 8h, 2d, or never")];
    context.open(Form::new("Timeout", intro, fields, Box::new(build)));
    Ok(())
}

fn reveal(items: &[&KeyItem], context: &mut Context<'_>) -> Result<(), &'static str> {
    let [item] = items else {
        return Err("payloads are shown one at a time; M takes the marks away");
    };
    let key = item.key().ok_or("this has no payload")?;
    if key.type_ == "keyring" {
        return Err("what a keyring holds is shown below it");
    }
    let request = match item {
        KeyItem::Key {
            place: Place::Store(_),
            ..
        } => item.for_daemon().map(Request::RevealStored),
        item => item.reachable().map(Request::Reveal),
    };
    let request =
        request.ok_or("it can be read where it comes from: in the store, or as your own")?;
    context.open(Reveal::new(names(items), request));
    Ok(())
}

/// The objects of a question.
fn names(items: &[&KeyItem]) -> String {
    let name = |item: &&KeyItem| {
        let key = item.key()?;
        Some(format!("key {} “{}”", key.serial, title(key, 60)))
    };
    let names: Vec<String> = items.iter().filter_map(name).take(3).collect();
    let more = items.len().saturating_sub(names.len());
    let rest = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    format!("{}{rest}", names.join(", "))
}
