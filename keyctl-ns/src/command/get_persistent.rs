//! `get_persistent`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_sys::key as sys;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};

/// Link the keyring of a user that outlives all sessions into a keyring
///
/// It is made when there is none, and ends some days after it was linked for the last time.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns get_persistent @s")]
pub struct GetPersistentArgs {
    /// Keyring of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub keyring: KeySpec,
    /// Number of the user (default: yourself); another one needs CAP_SETUID
    #[arg(value_parser = args::id)]
    pub uid: Option<u32>,
}

/// Links the persistent keyring.
///
/// # Errors
/// What `KEYCTL_GET_PERSISTENT` says.
pub fn run(context: &Context, args: &GetPersistentArgs) -> Result<(), CommandError> {
    let ring = key::resolve_own(
        &args.keyring,
        "what a container's processes find is granted to it: keyctl-ns grant",
    )?;
    let persistent = sys::get_persistent(args.uid, ring).map_err(|error| {
        let whose = match args.uid {
            Some(uid) => format!("the persistent keyring of uid {uid}"),
            None => "your persistent keyring".to_owned(),
        };
        let what = format!("cannot link {whose} into keyring {}", args.keyring);
        let new = key::failed_on(ring, what, KeyOp::GetPersistent, &error);
        match error.raw_os_error() {
            Some(1) => new.cause("the persistent keyring of another user needs CAP_SETUID"),
            Some(95) => new.cause("this kernel has no persistent keyrings"),
            _ => new,
        }
    })?;
    context
        .ui
        .print(&KeyRef::own(persistent), |out, key| writeln!(out, "{key}"))
}
