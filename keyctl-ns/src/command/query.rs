//! `query`

use std::io::{self, Write};

use clap::Args;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_interfaces::upcalls::{LISTED_TEXT, List, Queried, Query, UpcallInfo};
use keyns_interfaces::{ByteText, ErrorKind as Refusal};

use crate::args;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::error::{CommandError, ErrorKind};
use crate::table::fields;
use crate::view;

/// Show everything about a key request: who asked, for what, with which keyrings, since when
///
/// A request is named by its number (see upcalls), by the serial number of the key under
/// construction, or by the key's type and description as %TYPE:DESC.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// Number of the request, or the key
    #[arg(value_name = "ID|KEY", value_parser = args::key())]
    pub request: KeySpec,
}

/// Shows the request.
///
/// # Errors
/// What the daemon says; not found if no request fits, a usage error if several do.
pub fn run(context: &Context, args: &QueryArgs) -> Result<(), CommandError> {
    let mut daemon = context.daemon()?;
    let upcall = match &args.request {
        KeySpec::Serial(number) if !number.is_special() => {
            let id = u64::try_from(number.raw()).unwrap_or_default();
            match daemon.call(&Query { id }) {
                Err(error) if error.refusal == Some(Refusal::NoSuchUpcall) => {
                    by_key(&mut daemon, *number).map_err(|other| {
                        if other.kind == ErrorKind::NotFound {
                            error
                        } else {
                            other
                        }
                    })?
                }
                found => found?.upcall,
            }
        }
        KeySpec::Named(name) => {
            let (type_, description) = (name.type_().to_bytes(), name.description().to_bytes());
            let listing = daemon.call(&List { history: 0 })?;
            let mut found = Vec::new();
            for upcall in listing.upcalls {
                if upcall.type_.as_bytes() != type_ || !begins(description, &upcall.description) {
                    continue;
                }
                let whole = whole(&mut daemon, upcall)?;
                if whole.description.bytes() == description {
                    found.push(whole);
                }
            }
            only(found, &args.request)?
        }
        other => {
            return Err(CommandError::usage(format!("cannot query {other}"))
                .cause("a request is named by its number, by a serial number or by %TYPE:DESC"));
        }
    };
    context
        .ui
        .print(&Queried { upcall }, |out, done| show(out, &done.upcall))
}

fn by_key(daemon: &mut Daemon, serial: KeySerial) -> Result<UpcallInfo, CommandError> {
    let listing = daemon.call(&List { history: 256 })?;
    let matches = |upcall: &UpcallInfo| upcall.key == serial.raw();
    let found = listing
        .upcalls
        .into_iter()
        .chain(listing.history)
        .find(matches)
        .ok_or_else(|| CommandError::new(ErrorKind::NotFound, "no such request"))?;
    whole(daemon, found)
}

/// Whether a listed description may be this one: a listing has only the beginning of a long one.
fn begins(description: &[u8], listed: &ByteText) -> bool {
    match listed.bytes() {
        cut if cut.len() == LISTED_TEXT => description.starts_with(cut),
        all => description == all,
    }
}

/// A request with all of its texts.
fn whole(daemon: &mut Daemon, listed: UpcallInfo) -> Result<UpcallInfo, CommandError> {
    match daemon.call(&Query { id: listed.id }) {
        // Forgotten since it was listed.
        Err(error) if error.refusal == Some(Refusal::NoSuchUpcall) => Ok(listed),
        other => other.map(|found| found.upcall),
    }
}

fn only(found: Vec<UpcallInfo>, spec: &KeySpec) -> Result<UpcallInfo, CommandError> {
    let ids: Vec<String> = found.iter().map(|upcall| upcall.id.to_string()).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(CommandError::new(
            ErrorKind::NotFound,
            format!("no request for key {spec} is waiting"),
        )
        .hint("keyctl-ns upcalls --history 20 shows those that have ended")),
        (Some(_), Some(_)) => Err(CommandError::usage(format!(
            "several requests for key {spec} are waiting"
        ))
        .hint(format!("name one by its number: {}", ids.join(", ")))),
    }
}

/// Writes everything about a request.
///
/// # Errors
/// Those of `out`.
pub fn show(out: &mut dyn Write, upcall: &UpcallInfo) -> io::Result<()> {
    let by = &upcall.requester;
    let ring = |n: usize| match upcall.keyrings.get(n) {
        Some(0) | None => "none".to_owned(),
        Some(serial) => serial.to_string(),
    };
    let mut rows = vec![
        ("request", upcall.id.to_string()),
        ("state", view::upcall_state(upcall)),
        ("operation", view::safe(&upcall.operation)),
        ("key", upcall.key.to_string()),
        ("type", view::safe(&upcall.type_)),
        (
            "description",
            format!(
                "{}  (text of the requester)",
                view::bytes(&upcall.description)
            ),
        ),
        (
            "callout",
            format!("{}  (text of the requester)", view::bytes(&upcall.callout)),
        ),
        (
            "container",
            by.container
                .as_deref()
                .map_or_else(|| "none: the host".to_owned(), view::safe),
        ),
        ("process", format!("pid {}, thread {}", by.pid, by.tid)),
        (
            "command",
            format!("{}  (text of the requester)", view::bytes(&by.command)),
        ),
        (
            "executable",
            match view::bytes(&by.executable) {
                none if none.is_empty() => "none to be seen".to_owned(),
                path => format!("{path}  (a path of its own mounts)"),
            },
        ),
        (
            "uid",
            format!("{} (in the container {})", by.uid, by.container_uid),
        ),
        (
            "gid",
            format!("{} (in the container {})", by.gid, by.container_gid),
        ),
        (
            "capabilities",
            match by.capabilities {
                0 => "none".to_owned(),
                bits => format!("0x{bits:x}, in its own user namespace"),
            },
        ),
        (
            "verified",
            if by.verified {
                "yes, from kernel objects"
            } else {
                "no"
            }
            .to_owned(),
        ),
        (
            "keyrings",
            format!(
                "thread {}, process {}, session {}",
                ring(0),
                ring(1),
                ring(2)
            ),
        ),
        (
            "handler",
            upcall
                .handler
                .as_deref()
                .map_or_else(|| "none yet".to_owned(), view::safe),
        ),
    ];
    if let Some(rule) = upcall.rule {
        rows.push(("rule", rule.to_string()));
    }
    rows.push((
        "arrived",
        format!(
            "{} {}",
            view::time(upcall.time_ms / 1000)
                .split(' ')
                .next()
                .unwrap_or_default(),
            view::clock(upcall.time_ms)
        ),
    ));
    rows.push((
        if upcall.outcome.is_some() {
            "took"
        } else {
            "waiting for"
        },
        view::milliseconds(upcall.age_ms),
    ));
    if let Some(left) = upcall.deadline_ms {
        rows.push(("rejected in", view::milliseconds(left)));
    }
    if let Some(errno) = upcall.outcome {
        rows.push(("outcome", view::outcome(errno)));
    }
    fields(out, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_description_is_found_by_its_beginning() {
        let long = vec![b'x'; 600];
        let cut = ByteText::from(&long[..LISTED_TEXT]);
        assert!(begins(&long, &cut));
        assert!(begins(&long[..LISTED_TEXT], &cut));
        assert!(!begins(&long[..LISTED_TEXT - 1], &cut));
        assert!(!begins(&long, &ByteText::from(&long[..LISTED_TEXT - 1])));
    }
}
