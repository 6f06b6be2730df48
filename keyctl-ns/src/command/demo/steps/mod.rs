//! The steps, in their order.

mod container;
mod crash;
mod ground;
mod keys;
mod reach;
mod upcalls;

use super::step::{Step, Title};
use super::story::Story;
use crate::error::CommandError;

/// A step: what it shows, and how.
#[derive(Clone, Copy)]
pub struct Act {
    /// Its title.
    pub title: Title,
    /// What it does.
    pub play: fn(&Step<'_>, &mut Story) -> Result<(), CommandError>,
}

const fn act(
    name: &'static str,
    about: &'static str,
    play: fn(&Step<'_>, &mut Story) -> Result<(), CommandError>,
) -> Act {
    Act {
        title: Title { name, about },
        play,
    }
}

/// All steps; the last one puts the machine right and is always played.
pub const ACTS: [Act; 20] = [
    act(
        "features",
        "what is enforced on this machine, and by whom",
        ground::features,
    ),
    act(
        "take-over",
        "requests for keys reach keyns from now on",
        ground::take_over,
    ),
    act(
        "container",
        "namespaces of its own and an empty root directory",
        container::create,
    ),
    act(
        "keyring",
        "the container gets a keyring of its own",
        container::keyring,
    ),
    act(
        "add",
        "the manager has keys; payloads come from standard input",
        keys::add,
    ),
    act(
        "grant-refused",
        "rights nobody asked for are not given along silently",
        keys::grant_refused,
    ),
    act(
        "grant",
        "the container gets a key, with the extra rights accepted by name",
        keys::grant,
    ),
    act(
        "use-inside",
        "a process in the container finds the key as it finds any",
        keys::use_inside,
    ),
    act(
        "isolated",
        "nothing else is in reach, in either direction",
        reach::isolated,
    ),
    act(
        "nested",
        "a container in the container does not inherit the key",
        reach::nested,
    ),
    act("update", "a new payload appears inside", keys::update),
    act("ungrant", "the key is taken back", keys::ungrant),
    act(
        "upcall-identity",
        "a request is shown with who really asked",
        upcalls::identity,
    ),
    act(
        "agent-answers",
        "a program answers requests",
        upcalls::agent_answers,
    ),
    act(
        "rejected",
        "a rule and a person say no, with an error of their choice",
        upcalls::rejected,
    ),
    act(
        "wildcard-rule",
        "one rule for all types that have none of their own",
        upcalls::wildcard,
    ),
    act(
        "flood",
        "limits stop a container; the host does not notice",
        upcalls::flood,
    ),
    act(
        "daemon-killed",
        "the daemon dies while a request waits; the request does not",
        crash::daemon_killed,
    ),
    act(
        "container-killed",
        "a container dies while a request waits; nothing remains",
        crash::container_killed,
    ),
    act("give-back", "the machine is as it was", ground::give_back),
];
