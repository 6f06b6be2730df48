//! Grants to containers. The daemon has no right over a caller's key, so the caller lends it: it
//! links the key into a drop keyring that lasts as long as the connection.

use std::io::{self, Write};

use keyns::errno::KeyOp;
use keyns::name::ContainerPath;
use keyns::serial::KeySerial;
use keyns_interfaces::ErrorKind as Refusal;
use keyns_interfaces::keys::{GrantTo, Granted, Lend};
use keyns_sys::key as sys;

use super::GrantArgs;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::error::{CommandError, ErrorKind};
use crate::key::{self, Target};
use crate::table::fields;
use crate::view;

/// Grants rights on a key to a container.
///
/// # Errors
/// As [`ask`].
pub fn grant(
    context: &Context,
    args: &GrantArgs,
    container: &ContainerPath,
) -> Result<(), CommandError> {
    // A key that is not there is said before a daemon that is not there.
    let target = Target::of(&args.key)?;
    let granted = ask(&mut context.daemon()?, target, args, container)?;
    context.ui.print(&granted, show)
}

/// Has the daemon grant them, or with a dry run say what it would grant. A key of the caller's own is
/// lent on the same connection: the drop keyring ends with it.
///
/// # Errors
/// What the daemon says; `NotLendable` for a key of the caller's own without the link right.
pub fn ask(
    daemon: &mut Daemon,
    target: Target,
    args: &GrantArgs,
    container: &ContainerPath,
) -> Result<Granted, CommandError> {
    let name = match &target {
        Target::Own(serial) => named(*serial),
        Target::Contained(_) => format!("key {}", args.key),
    };
    let what = format!(
        "cannot grant {} on {name} to container “{container}”",
        args.rights
    );
    let unlendable = match &target {
        Target::Own(serial) => lend(daemon, *serial, container, &what)?,
        Target::Contained(_) => None,
    };
    let call = GrantTo {
        key: target.for_daemon(),
        container: container.to_string(),
        rights: args.rights.names().map(str::to_owned).collect(),
        accept_implied: args.accepted().names().map(str::to_owned).collect(),
        duration: args.duration.map(|time| time.0),
        dry_run: args.dry_run,
    };
    daemon
        .call(&call)
        .map_err(|error| about(error, &what))
        .map_err(|error| match (error.refusal, unlendable) {
            // It was not lent before either.
            (Some(Refusal::NoSuchKey | Refusal::NotLendable), Some(reason)) => reason,
            (Some(Refusal::ImpliedRights), _) if !error.rights.is_empty() => {
                let hint = format!(
                    "accept the extra rights with --accept-implied {}",
                    error.rights.join(",")
                );
                error.or_hint(hint)
            }
            _ => error,
        })
}

/// Links the key into a drop keyring. Returns why it could not be lent if the kernel does not allow
/// it; the daemon may hold a link of the key from an earlier grant.
fn lend(
    daemon: &mut Daemon,
    serial: KeySerial,
    container: &ContainerPath,
    what: &str,
) -> Result<Option<CommandError>, CommandError> {
    let drop = daemon.call(&Lend {}).map_err(|error| about(error, what))?;
    let Err(error) = sys::link(serial, KeySerial::new(drop.keyring)) else {
        return Ok(None);
    };
    let reason = key::failed(what.to_owned(), KeyOp::Link, &error);
    if reason.kind != ErrorKind::Denied {
        return Err(reason);
    }
    let mut reason = reason
        .cause("you have no link right on the key, so it cannot be lent to keynsd")
        .hint(format!(
            "add it through keyns instead: keyctl-ns add TYPE DESCRIPTION --container {container}, then grant {container}/TYPE:DESCRIPTION"
        ));
    reason.refusal = Some(Refusal::NotLendable);
    Ok(Some(reason))
}

/// The daemon's error as one about this grant: it knows the key by its serial alone.
fn about(error: CommandError, what: &str) -> CommandError {
    let elsewhere = matches!(error.kind, ErrorKind::Unreachable | ErrorKind::TimedOut);
    // Otherwise it is about the caller, the container or a key that is not there.
    if elsewhere || !error.message.starts_with("cannot ") {
        return error;
    }
    let cause = error.cause.clone().unwrap_or_else(|| error.message.clone());
    CommandError {
        message: what.to_owned(),
        ..error.cause(cause)
    }
}

fn named(serial: KeySerial) -> String {
    match key::info(serial) {
        Ok(key) => format!("key {serial} {}", view::key_name(&key)),
        Err(_) => format!("key {serial}"),
    }
}

fn show(out: &mut dyn Write, done: &Granted) -> io::Result<()> {
    let grant = &done.grant;
    let container = view::safe(&grant.container);
    let verb = if done.applied { "has" } else { "would have" };
    writeln!(
        out,
        "container “{container}” {verb} {} on key {} {}",
        view::rights(&grant.kernel),
        done.key.serial,
        view::key_name(&done.key)
    )?;
    let mut rows = vec![("asked for", view::rights(&grant.requested))];
    if !grant.implied.is_empty() {
        rows.push(("implied", view::rights(&grant.implied)));
    }
    rows.push(("enforced by", "kernel".to_owned()));
    rows.push(("mask of the copy", view::mask_in_container(grant.mask)));
    if let Some(copy) = grant.copy {
        rows.push(("copy", copy.to_string()));
    }
    rows.push((
        "ends",
        grant.expires_in.map_or_else(
            || "when taken back".to_owned(),
            |s| format!("in {}", view::seconds(s)),
        ),
    ));
    fields(out, &rows)
}
