//! `reap`

use clap::Args;
use keyns::errno::{Errno, KeyOp, explain};
use keyns::serial::KeySerial;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::key;
use crate::keyctl::walk;

/// Take expired, revoked and rejected keys out of your keyrings
///
/// Every keyring below your session keyring is looked through. The kernel collects such keys by
/// itself, but minutes later.
#[derive(Debug, Args)]
pub struct ReapArgs {
    /// Show every key that is taken out
    #[arg(long, short)]
    pub verbose: bool,
}

#[derive(Serialize)]
struct Reaped {
    serial: i32,
    keyring: i32,
    /// Why it is of no use.
    error: Errno,
}

#[derive(Serialize)]
struct Output {
    reaped: Vec<Reaped>,
}

/// Removes the links.
///
/// # Errors
/// What `KEYCTL_UNLINK` says of the first that could not be removed.
pub fn run(context: &Context, args: &ReapArgs) -> Result<(), CommandError> {
    let mut reaped = Vec::new();
    let mut failure = None;
    walk::session(|visit| {
        let (key, keyring) = (visit.key, visit.parent);
        // Of a key that may not be viewed nothing is known.
        let Some(error) = visit.described.err().and_then(Errno::new) else {
            return;
        };
        if error == Errno::EACCES || keyring == KeySerial::NONE {
            return;
        }
        match sys::unlink(key, keyring) {
            Ok(()) => reaped.push(Reaped {
                serial: key.raw(),
                keyring: keyring.raw(),
                error,
            }),
            Err(error) => {
                let what = format!("cannot take key {key} out of keyring {keyring}");
                failure.get_or_insert_with(|| key::failed_on(keyring, what, KeyOp::Unlink, &error));
            }
        }
    })
    .map_err(|error| {
        let what = "cannot look through your session keyring".to_owned();
        key::failed(what, KeyOp::GetKeyringId, &error)
    })?;
    context.ui.print(&Output { reaped }, |out, done| {
        if args.verbose {
            for key in &done.reaped {
                let why = explain(KeyOp::Describe, key.error, None);
                writeln!(out, "{}  from keyring {}: {why}", key.serial, key.keyring)?;
            }
        }
        match done.reaped.len() {
            1 => writeln!(out, "1 key taken out"),
            n => writeln!(out, "{n} keys taken out"),
        }
    })?;
    failure.map_or(Ok(()), Err)
}
