//! What is done to the chosen keys, each time after a question that names them.

use keyns::serial::KeySerial;

use super::item::{KeyItem, Place, title};
use crate::action::Action;
use crate::app::shared::{Context, Tone};
use crate::client::Request;
use crate::dialog::confirm::Confirm;
use crate::page::tree_view::TreeView;

/// Asks what the action asks; says whether it is one of these.
pub(super) fn ask(view: &mut TreeView<KeyItem>, action: Action, context: &mut Context<'_>) -> bool {
    let (verb, consequence) = match action {
        Action::Unlink => ("Unlink", "A key goes when no keyring holds it any more."),
        Action::Revoke => (
            "Revoke",
            "Every use of it fails from then on, and it cannot be taken back.",
        ),
        Action::Invalidate => (
            "Invalidate",
            "It goes at once from every keyring that holds it.",
        ),
        _ => return false,
    };
    let chosen = view.chosen();
    let items: Vec<&KeyItem> = chosen
        .iter()
        .filter_map(|id| Some(&view.tree.node(*id)?.item))
        .collect();
    let requests: Option<Vec<Request>> = items.iter().map(|item| request(action, item)).collect();
    let Some(requests) = requests.filter(|requests| !requests.is_empty()) else {
        context.shared.say(Tone::Plain, refusal(action));
        return true;
    };
    let question = format!("{verb} {}?", names(&items));
    context.open(Confirm::new(verb, question, consequence, requests));
    true
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

const fn refusal(action: Action) -> &'static str {
    match action {
        Action::Unlink => "only a key in a keyring of yours can be unlinked",
        Action::Revoke => "only keys of yours can be revoked; those of a container are invalidated",
        _ => "only keys of yours and those in the store of a container can be invalidated",
    }
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
