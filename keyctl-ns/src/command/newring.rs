//! `newring`

use clap::Args;
use keyns::spec::KeySpec;
use keyns_interfaces::ByteText;

use super::add::{self, AddArgs};
use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::payload::PayloadArgs;

/// Make an empty keyring
///
/// A keyring of that name in the same keyring is replaced by the new one. The same as add with type
/// keyring.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns newring build @s")]
pub struct NewringArgs {
    /// Name of the keyring
    #[arg(value_parser = args::bytes())]
    pub name: ByteText,
    /// Keyring of your own to put it into
    #[arg(
        value_parser = args::key(),
        default_value = "@s",
        allow_negative_numbers = true
    )]
    pub keyring: KeySpec,
}

/// Makes the keyring.
///
/// # Errors
/// Those of [`add::run`].
pub fn run(context: &Context, args: NewringArgs) -> Result<(), CommandError> {
    add::run(
        context,
        &AddArgs {
            r#type: "keyring".to_owned(),
            description: args.name,
            data: None,
            into: None,
            container: None,
            keyring: args.keyring,
            timeout: None,
            payload: PayloadArgs::default(),
        },
    )
}
