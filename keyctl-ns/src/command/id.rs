//! `id`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_interfaces::keys::Describe;
use keyns_sys::key as sys;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef, Target};

/// Print the serial number of a key
///
/// The number alone, for scripts. Fails if there is no such key, or it may not be searched.
#[derive(Debug, Args)]
#[command(after_help = "Example: ring=$(keyctl-ns id %:build)")]
pub struct IdArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
}

/// Prints the number.
///
/// # Errors
/// What `KEYCTL_GET_KEYRING_ID` or the daemon says.
pub fn run(context: &Context, args: &IdArgs) -> Result<(), CommandError> {
    let key = match Target::of(&args.key)? {
        Target::Contained(key) => KeyRef::from(context.daemon()?.call(&Describe { key })?.key),
        Target::Own(serial) => {
            let what = || format!("cannot find key {}", args.key);
            let serial = sys::get_keyring_id(serial, false)
                .map_err(|error| key::failed_on(serial, what(), KeyOp::GetKeyringId, &error))?;
            KeyRef::own(serial)
        }
    };
    context
        .ui
        .print(&key, |out, key| writeln!(out, "{}", key.serial))
}
