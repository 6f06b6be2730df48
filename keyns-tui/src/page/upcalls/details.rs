//! Everything about a request.

use std::time::Duration;

use keyctl_ns::view;
use keyns_interfaces::ByteText;
use keyns_interfaces::upcalls::UpcallInfo;

use super::requests::{Known, is_waiting};
use super::whole;
use crate::app::shared::Shared;
use crate::page::keys::details::Lines;
use crate::text;

/// Lines that a text of the requester may take.
const TEXT: usize = 6;

/// A request in lines.
#[must_use]
pub fn lines<'a>(known: &Known, now: Duration, shared: &'a Shared, width: u16) -> Lines<'a> {
    let mut lines = Lines::new(shared, width);
    let (info, by) = (&known.info, &known.info.requester);
    let theme = &shared.theme;
    let room = lines.room();
    let style = match info.outcome {
        _ if is_waiting(info) => theme.warning,
        Some(0) => theme.good,
        _ => theme.bad,
    };
    let state = format!("{}, {}", info.id, ending(info));
    lines.lines("request", vec![text::fit(&state, room)], style);
    lines.lines("type", vec![text::line(&info.type_, room)], theme.base);
    theirs(&mut lines, "description", &info.description);
    let container = match &by.container {
        Some(name) => text::lines(name, room, 3),
        None => vec!["none: the host".to_owned()],
    };
    lines.lines("container", container, theme.base);
    let verified = match by.verified {
        true => "yes, thread and container come from kernel objects",
        false => "NO: who asked could not be established from kernel objects",
    };
    lines.sentence("verified", verified);
    theirs(&mut lines, "command", &by.command);
    let executable = match by.executable.bytes() {
        [] => vec!["none to be seen".to_owned()],
        path => text::lines(path, room, 3),
    };
    lines.lines("executable", executable, theme.base);
    lines.sentence("process", &format!("pid {}, thread {}", by.pid, by.tid));
    let id = |id: u32, inside: u32| match inside {
        65534 => format!("{id} (not mapped in the container)"),
        inside => format!("{id} ({inside} in the container)"),
    };
    lines.sentence("uid", &id(by.uid, by.container_uid));
    lines.sentence("gid", &id(by.gid, by.container_gid));
    let handler = match &info.handler {
        Some(handler) => text::line(handler, room),
        None if is_waiting(info) => "none yet".to_owned(),
        None => "none".to_owned(),
    };
    lines.lines("handler", vec![handler], theme.base);
    if let Some(rule) = info.rule {
        lines.sentence("rule", &rule.to_string());
    }
    let arrived = format!(
        "{} {}",
        view::time(info.time_ms / 1000)
            .split(' ')
            .next()
            .unwrap_or_default(),
        view::clock(info.time_ms)
    );
    lines.sentence("arrived", &arrived);
    match is_waiting(info) {
        true => lines.sentence("waits for", &whole(known.age(now))),
        false => lines.sentence("took", &view::milliseconds(info.age_ms)),
    }
    if let Some(left) = known.left(now) {
        let what = match info.state.as_str() {
            "offered" => "passed on",
            _ => "rejected",
        };
        lines.sentence(what, &format!("in {}", whole(left)));
    }
    lines.sentence("key", &info.key.to_string());
    theirs(&mut lines, "callout", &info.callout);
    let ring = |at: usize| match info.keyrings.get(at) {
        Some(0) | None => "none".to_owned(),
        Some(serial) => serial.to_string(),
    };
    let rings = format!(
        "thread {}, process {}, session {}",
        ring(0),
        ring(1),
        ring(2)
    );
    lines.sentence("keyrings", &rings);
    let capabilities = match by.capabilities {
        0 => "none".to_owned(),
        bits => format!("0x{bits:x}, in its own user namespace"),
    };
    lines.sentence("capability", &capabilities);
    lines.lines(
        "operation",
        vec![text::line(&info.operation, room)],
        theme.base,
    );
    lines.sentence(
        "",
        "Description, callout and command are text of the requester: they prove nothing.",
    );
    lines
}

/// A text of the requester.
fn theirs(lines: &mut Lines<'_>, name: &str, bytes: &ByteText) {
    let text = match bytes.bytes() {
        [] => vec!["(empty)".to_owned()],
        bytes => text::lines(bytes, lines.room(), TEXT),
    };
    lines.lines(name, text, lines.base());
}

/// What became of a request, in words.
#[must_use]
pub fn ending(info: &UpcallInfo) -> String {
    match (info.outcome, info.state.as_str()) {
        (None, "queued") => "waiting for an answer".to_owned(),
        (None, "offered") => "offered to an agent".to_owned(),
        (Some(0), "answered") => "answered: the requester has its key".to_owned(),
        (Some(errno), state) if errno != 0 => {
            format!(
                "{}: the requester got {}",
                text::line(state, 16),
                view::outcome(errno)
            )
        }
        (_, state) => text::line(state, 16),
    }
}
