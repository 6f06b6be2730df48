//! `chown` and `chgrp`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};

/// Give a key to another user
///
/// It counts against the quota of its new owner. Only an administrator may do it.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns chown %user:token \"$(id -u builder)\"")]
pub struct ChownArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// Number of the new owner
    #[arg(value_parser = args::id)]
    pub uid: u32,
}

/// Give a key to another group
///
/// The owner may choose among the groups of which it is a member, an administrator any.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns chgrp %user:token 100")]
pub struct ChgrpArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// Number of the new group
    #[arg(value_parser = args::id)]
    pub gid: u32,
}

#[derive(Serialize)]
struct Output {
    key: KeyRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
}

/// Changes the owner.
///
/// # Errors
/// What `KEYCTL_CHOWN` says.
pub fn run(context: &Context, args: &ChownArgs) -> Result<(), CommandError> {
    change(context, &args.key, Some(args.uid), None)
}

/// Changes the group.
///
/// # Errors
/// What `KEYCTL_CHOWN` says.
pub fn chgrp(context: &Context, args: &ChgrpArgs) -> Result<(), CommandError> {
    change(context, &args.key, None, Some(args.gid))
}

fn change(
    context: &Context,
    spec: &KeySpec,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), CommandError> {
    let (whom, number) = match (uid, gid) {
        (Some(uid), _) => ("uid", uid),
        (None, gid) => ("group", gid.unwrap_or_default()),
    };
    let serial = key::resolve_own(
        spec,
        "the owners of its keys belong to keynsd; keyctl-ns grant says who may do what",
    )?;
    sys::chown(serial, uid, gid).map_err(|error| {
        let what = format!("cannot give key {spec} to {whom} {number}");
        let new = key::failed_on(serial, what, KeyOp::Chown, &error);
        match error.raw_os_error() {
            // The quota is not that of the caller.
            Some(122) => new.cause(format!("key quota of uid {number} exceeded")),
            Some(22) => new.cause(format!(
                "{whom} {number} is not mapped in your user namespace"
            )),
            _ => new,
        }
    })?;
    let output = Output {
        key: KeyRef::own(serial),
        uid,
        gid,
    };
    context.ui.print(&output, |out, _| {
        writeln!(out, "key {spec} belongs to {whom} {number}")
    })
}
