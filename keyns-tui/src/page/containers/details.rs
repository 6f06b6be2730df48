//! Everything about the row under the cursor, in words.

use keyns_interfaces::containers::{ContainerInfo, Shown};

use super::item::{ContainerItem, command, type_words};
use crate::app::shared::Shared;
use crate::page::keys::details::{self, Known, Lines};
use crate::page::keys::item::{KeyItem, Place};
use crate::text;

/// Everything about a row, in lines of this width.
#[must_use]
pub fn lines<'a>(
    item: &ContainerItem,
    contents: Option<&Shown>,
    shared: &'a Shared,
    width: u16,
) -> Lines<'a> {
    let mut lines = Lines::new(shared, width);
    let room = lines.room();
    let base = shared.theme.base;
    match item {
        ContainerItem::Container(container) => {
            of_container(&mut lines, container, contents, shared);
        }
        ContainerItem::Process(container, process) => {
            lines.lines("container", vec![text::line(&container.name, room)], base);
            lines.sentence(
                "process",
                &format!("{}, pid {} on the host", process.process, process.pid),
            );
            let words = command(process, room * 4);
            lines.lines("command", text::lines(&words, room, 4), base);
            let state = process
                .exit
                .map_or_else(|| "running".to_owned(), keyctl_ns::view::exit);
            lines.sentence("state", &state);
        }
        ContainerItem::Key { container, key, .. } => {
            let name = container.name.clone();
            let place = match &key.container {
                Some(home) => Place::Store(home.clone()),
                None => Place::Lent(name),
            };
            let key = key.clone();
            let item = KeyItem::Key { key, place };
            return details::lines(&item, Known::default(), shared, width);
        }
        ContainerItem::Rule(container, rule) => {
            lines.lines("container", vec![text::line(&container.name, room)], base);
            lines.sentence("requests", &format!("for {}", type_words(&rule.type_)));
            lines.sentence("go to", &keyctl_ns::view::target(&rule.target));
            let deadline = keyctl_ns::view::milliseconds(u64::from(rule.deadline_ms));
            lines.sentence("deadline", &format!("{deadline}, then they are rejected"));
            lines.sentence(
                "limits",
                &format!(
                    "{} per second, {} at once beyond that, {} waiting",
                    rule.rate, rule.burst, rule.pending
                ),
            );
        }
        ContainerItem::Failed(why) => lines.sentence("", why),
    }
    lines
}

fn of_container(
    lines: &mut Lines<'_>,
    container: &ContainerInfo,
    contents: Option<&Shown>,
    shared: &Shared,
) {
    use keyctl_ns::view;
    let name = text::lines(&container.name, lines.room(), 3);
    lines.lines("container", name, shared.theme.base);
    let exit = match container.exit {
        Some(exit) => format!(", its first process {}", view::exit(exit)),
        None => String::new(),
    };
    lines.sentence(
        "state",
        &format!(
            "{}{exit}, number {}",
            view::state(container.state),
            container.id
        ),
    );
    lines.sentence("namespaces", &view::namespaces(&container.namespaces));
    lines.sentence("root", &view::root(container.root.as_ref()));
    if let (Some(base), Some(count)) = (container.uid_base, container.uid_count) {
        lines.sentence(
            "ids",
            &format!("{count} from {base} on, for users and groups"),
        );
    }
    match container.keyring {
        Some(keyring) => lines.sentence("keyring", &keyring.to_string()),
        None => lines.sentence("keyring", "gone with the container"),
    }
    if let Some(pid) = container.init_pid {
        lines.sentence("first", &format!("pid {pid} on the host"));
    }
    if let Some(shown) = contents {
        let living = shown
            .processes
            .iter()
            .filter(|it| it.exit.is_none())
            .count();
        let ended = shown.processes.len() - living;
        lines.sentence(
            "members",
            &format!("{living} started here run, {ended} ended"),
        );
        let granted = |key: &&keyns_interfaces::keys::KeyInfo| {
            key.grants.iter().any(|it| it.container == container.name)
        };
        let grants = shown.keys.iter().filter(granted).count();
        lines.sentence(
            "keys",
            &format!("{} known, {grants} granted", shown.keys.len()),
        );
        lines.sentence("rules", &shown.rules.len().to_string());
    }
    lines.sentence("created", &view::time(container.created));
    if container.kill_on_close {
        lines.sentence("lease", "it is killed when its creator ends");
    }
    for caveat in &container.caveats {
        lines.sentence("caution", &text::line(caveat, 400));
    }
}
