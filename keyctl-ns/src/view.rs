//! How values are shown to people.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use keyns::errno::Errno;
use keyns::mask::{Bits, Mask};
use keyns::text::Escaped;
use keyns_interfaces::ByteText;
use keyns_interfaces::containers::{ExitStatus, Namespace, Root, State};
use keyns_interfaces::keys::{Grant, KeyInfo};
use keyns_interfaces::upcalls::{Requester, Rule, Target, UpcallInfo};

use crate::args::NAMESPACES;
use crate::table::Table;

/// Bytes of a text as long as a table's cell should be.
pub const SHORT: usize = 80;

/// Text of somebody else, made safe for a terminal.
#[must_use]
pub fn safe(text: &str) -> String {
    Escaped::new(text).to_string()
}

/// Bytes of somebody else, made safe for a terminal.
#[must_use]
pub fn bytes(text: &ByteText) -> String {
    Escaped::new(text.bytes()).to_string()
}

/// The same, at most as long as a table's cell should be.
#[must_use]
pub fn short(text: &ByteText) -> String {
    Escaped::new(text.bytes()).cut(SHORT).to_string()
}

/// Writes what [`bytes`] or, with a `limit`, [`short`] returns; most texts are harmless and short
/// enough to go out as they are.
///
/// # Errors
/// Those of `out`.
pub fn write_bytes(out: &mut dyn Write, text: &[u8], limit: usize) -> io::Result<()> {
    let is_harmless = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'\\';
    if text.len() <= limit && text.iter().all(is_harmless) {
        out.write_all(text)
    } else {
        write!(out, "{}", Escaped::new(text).cut(limit))
    }
}

/// `user: description` of a key, for sentences.
#[must_use]
pub fn key_name(key: &KeyInfo) -> String {
    format!("“{}: {}”", safe(&key.type_), short(&key.description))
}

/// A span of seconds in its two largest units: `45s`, `7m 30s`, `2h 5m`, `3d 4h`.
#[must_use]
pub fn seconds(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut words = Vec::new();
    for (size, unit) in UNITS {
        let n = rest / size;
        rest %= size;
        if n > 0 || (!words.is_empty() && words.len() < 2) || (size == 1 && words.is_empty()) {
            words.push(format!("{n}{unit}"));
        }
    }
    words.truncate(2);
    if words.len() == 2 && words.last().is_some_and(|word| word.starts_with('0')) {
        words.pop();
    }
    words.join(" ")
}

/// Milliseconds as a span with a useful precision: `12ms`, `1.5s`, `7m 30s`.
#[must_use]
pub fn milliseconds(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms}ms"),
        1000..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => seconds(ms / 1000),
    }
}

/// When a key or grant ends.
#[must_use]
pub fn expiry(expires_in: Option<u64>) -> String {
    expires_in.map_or_else(|| "never".to_owned(), seconds)
}

/// A point in time in the local time zone.
#[must_use]
pub fn time(epoch_seconds: u64) -> String {
    i64::try_from(epoch_seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(
            || format!("{epoch_seconds} seconds after 1970"),
            |stamp| {
                stamp
                    .to_zoned(TimeZone::system())
                    .strftime("%Y-%m-%d %H:%M:%S")
                    .to_string()
            },
        )
}

/// The time of day of a point in time, to the millisecond.
#[must_use]
pub fn clock(epoch_ms: u64) -> String {
    i64::try_from(epoch_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(
            || format!("{epoch_ms} ms"),
            |stamp| {
                stamp
                    .to_zoned(TimeZone::system())
                    .strftime("%H:%M:%S%.3f")
                    .to_string()
            },
        )
}

/// How long ago a point in time was.
#[must_use]
pub fn ago(epoch_seconds: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    seconds(now.saturating_sub(epoch_seconds))
}

/// A permission mask in letters, or in figures if it has bits nobody knows.
#[must_use]
pub fn mask(raw: u32) -> String {
    Mask::from_raw(raw).map_or_else(|| format!("{raw:#010x}"), Mask::letters)
}

/// The mask of a key that a container has. `+` as in ls(1): what the container may do is not in the
/// mask, which says nothing of its processes, but an entry of the key's list of rights.
#[must_use]
pub fn mask_in_container(raw: u32) -> String {
    let listed = Mask::from_raw(raw).is_some_and(|mask| mask.possessor() == Bits::NONE);
    mask(raw) + if listed { "+" } else { "" }
}

/// Names of namespaces.
#[must_use]
pub fn namespaces(namespaces: &[Namespace]) -> String {
    let names: Vec<&str> = NAMESPACES
        .iter()
        .filter(|(namespace, _)| namespaces.contains(namespace))
        .map(|(_, name)| *name)
        .collect();
    match names.len() {
        0 => "none".to_owned(),
        n if n == NAMESPACES.len() => "all".to_owned(),
        _ => names.join(","),
    }
}

/// A root directory.
#[must_use]
pub fn root(root: Option<&Root>) -> String {
    match root {
        None => "shared".to_owned(),
        Some(Root::Empty) => "empty".to_owned(),
        Some(Root::Usr) => "usr".to_owned(),
        Some(Root::Copy) => "copy".to_owned(),
        Some(Root::Dir(path)) => bytes(path),
    }
}

/// A state.
#[must_use]
pub fn state(state: State) -> &'static str {
    match state {
        State::Created => "created",
        State::Running => "running",
        State::Dying => "dying",
        State::Dead => "dead",
    }
}

/// How a process ended.
#[must_use]
pub fn exit(exit: ExitStatus) -> String {
    match exit {
        ExitStatus::Exited(code) => format!("exited with {code}"),
        ExitStatus::Killed(signal) => format!("killed by signal {signal}"),
        ExitStatus::Unknown => "ended, status unknown".to_owned(),
    }
}

/// The exit code of a shell for a process that ended like this.
#[must_use]
pub fn exit_code(exit: ExitStatus) -> u8 {
    match exit {
        ExitStatus::Exited(code) => u8::try_from(code & 0xff).unwrap_or(1),
        ExitStatus::Killed(signal) => u8::try_from(128 + (signal & 0x7f)).unwrap_or(u8::MAX),
        ExitStatus::Unknown => 1,
    }
}

/// What a requester got.
#[must_use]
pub fn outcome(errno: i32) -> String {
    match errno {
        0 => "ok".to_owned(),
        errno => Errno::new(errno).map_or_else(|| errno.to_string(), |e| e.to_string()),
    }
}

/// Where a rule sends requests.
#[must_use]
pub fn target(target: &Target) -> String {
    match target {
        Target::Queue(name) => format!("queue {}", safe(name)),
        Target::Agent(name) if name.is_empty() => "any agent".to_owned(),
        Target::Agent(name) => format!("agent {}", safe(name)),
        Target::Reject(rejection) => {
            format!(
                "reject {} for {}",
                outcome(rejection.errno),
                seconds(u64::from(rejection.timeout))
            )
        }
    }
}

/// That a request was given to `target`.
#[must_use]
pub fn rerouted(request: &UpcallInfo, target: &Target) -> String {
    let left = request
        .deadline_ms
        .map(|left| format!(" and may wait {} more", seconds(left / 1000)));
    format!(
        "request {} goes to {}{}",
        request.id,
        self::target(target),
        left.unwrap_or_default()
    )
}

/// Who asked, in a few words.
#[must_use]
pub fn requester(requester: &Requester) -> String {
    let place = requester
        .container
        .as_deref()
        .map_or_else(|| "host".to_owned(), safe);
    let doubt = if requester.verified {
        ""
    } else {
        " (not verified)"
    };
    format!("{place} pid {} uid {}{doubt}", requester.pid, requester.uid)
}

/// Rights by name.
#[must_use]
pub fn rights(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        safe(&names.join(","))
    }
}

/// Rights of a grant, with those that were only accepted marked.
#[must_use]
pub fn grant_rights(grant: &Grant) -> String {
    if grant.implied.is_empty() {
        rights(&grant.requested)
    } else {
        format!(
            "{} (implied: {})",
            rights(&grant.requested),
            rights(&grant.implied)
        )
    }
}

/// Keys as a table.
#[must_use]
pub fn key_table(keys: &[KeyInfo]) -> Table<8> {
    let mut table = Table::new([
        "CONTAINER",
        ">KEY",
        "TYPE",
        "MASK",
        ">UID",
        "EXPIRES",
        "ORIGIN",
        "DESCRIPTION",
    ]);
    for key in keys {
        table.row([
            key.container
                .as_deref()
                .map_or_else(|| "-".to_owned(), safe),
            key.serial.to_string(),
            safe(&key.type_),
            mask(key.mask),
            key.uid.to_string(),
            expiry(key.expires_in),
            safe(&key.origin),
            short(&key.description),
        ]);
    }
    table
}

/// Rules as a table.
#[must_use]
pub fn rule_table(rules: &[Rule]) -> Table<7> {
    let mut table = Table::new([
        "CONTAINER",
        "TYPE",
        "TO",
        ">DEADLINE",
        ">RATE/S",
        ">BURST",
        ">PENDING",
    ]);
    for rule in rules {
        table.row([
            safe(&rule.container),
            safe(&rule.type_),
            target(&rule.target),
            milliseconds(u64::from(rule.deadline_ms)),
            rule.rate.to_string(),
            rule.burst.to_string(),
            rule.pending.to_string(),
        ]);
    }
    table
}

/// Upcalls as a table.
#[must_use]
pub fn upcall_table(upcalls: &[UpcallInfo]) -> Table<8> {
    let mut table = Table::new([
        ">ID",
        "STATE",
        ">AGE",
        ">LEFT",
        "REQUESTER",
        "HANDLER",
        "TYPE",
        "DESCRIPTION",
    ]);
    for upcall in upcalls {
        table.row([
            upcall.id.to_string(),
            upcall_state(upcall),
            milliseconds(upcall.age_ms),
            upcall
                .deadline_ms
                .map_or_else(|| "-".to_owned(), milliseconds),
            requester(&upcall.requester),
            upcall
                .handler
                .as_deref()
                .map_or_else(|| "-".to_owned(), safe),
            safe(&upcall.type_),
            short(&upcall.description),
        ]);
    }
    table
}

/// State of an upcall, with the error its requester got.
#[must_use]
pub fn upcall_state(upcall: &UpcallInfo) -> String {
    match upcall.outcome {
        Some(errno @ 1..) => format!("{} {}", safe(&upcall.state), outcome(errno)),
        _ => safe(&upcall.state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shown_in_their_two_largest_units() {
        for (span, text) in [
            (0, "0s"),
            (45, "45s"),
            (60, "1m"),
            (450, "7m 30s"),
            (7500, "2h 5m"),
            (7205, "2h"),
            (273_600, "3d 4h"),
        ] {
            assert_eq!(seconds(span), text);
        }
        assert_eq!(milliseconds(12), "12ms");
        assert_eq!(milliseconds(1549), "1.5s");
    }

    #[test]
    fn what_is_written_is_what_is_returned() {
        let long = "x".repeat(SHORT + 1);
        for text in ["", "plain", "back\\slash", "\x1b[2J", "ü\n", &long] {
            let text = ByteText(text.as_bytes().to_vec());
            for (limit, expected) in [(usize::MAX, bytes(&text)), (SHORT, short(&text))] {
                let mut out = Vec::new();
                write_bytes(&mut out, text.bytes(), limit).unwrap();
                assert_eq!(out, expected.as_bytes());
            }
        }
    }

    #[test]
    fn a_killed_process_is_128_and_its_signal() {
        assert_eq!(exit_code(ExitStatus::Exited(7)), 7);
        assert_eq!(exit_code(ExitStatus::Killed(9)), 137);
    }

    #[test]
    fn the_outcome_of_a_request_is_a_name() {
        assert_eq!(outcome(0), "ok");
        assert_eq!(outcome(126), "ENOKEY");
    }
}
