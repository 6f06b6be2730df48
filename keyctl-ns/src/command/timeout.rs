//! `timeout`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};
use crate::view;

/// Let a key expire after some time, or never
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyctl-ns timeout %user:token 8h
  keyctl-ns timeout %user:token never")]
pub struct TimeoutArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// Time from now (90s, 15m, 8h, 2d, or a number of seconds), 0 or never for no end
    #[arg(value_name = "TIME", value_parser = args::timeout)]
    pub time: u32,
}

#[derive(Serialize)]
struct Output {
    key: KeyRef,
    /// Seconds from now; null: never.
    expires_in: Option<u32>,
}

/// Sets the time.
///
/// # Errors
/// What `KEYCTL_SET_TIMEOUT` says.
pub fn run(context: &Context, args: &TimeoutArgs) -> Result<(), CommandError> {
    let serial = key::resolve_own(
        &args.key,
        "a key of a container gets its time when it is added, a grant with --for",
    )?;
    sys::set_timeout(serial, args.time).map_err(|error| {
        let what = format!("cannot set the timeout of key {}", args.key);
        key::failed_on(serial, what, KeyOp::SetTimeout, &error)
    })?;
    let output = Output {
        key: KeyRef::own(serial),
        expires_in: (args.time != 0).then_some(args.time),
    };
    context
        .ui
        .print(&output, |out, done| match done.expires_in {
            Some(left) => writeln!(
                out,
                "key {} expires in {}",
                args.key,
                view::seconds(left.into())
            ),
            None => writeln!(out, "key {} does not expire", args.key),
        })
}
