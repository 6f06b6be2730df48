//! `search`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::{KeyName, KeySpec};
use keyns_interfaces::ByteText;
use keyns_sys::key as sys;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};
use crate::view;

/// Find a key in a keyring and those below it
///
/// Unlike request it looks nowhere else, and nobody is asked to make the key.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns search @u user token")]
pub struct SearchArgs {
    /// Keyring of your own to search
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub keyring: KeySpec,
    /// Type of the key
    #[arg(value_parser = args::key_type)]
    pub r#type: String,
    /// Description of the key
    #[arg(value_parser = args::bytes())]
    pub description: ByteText,
    /// Keyring of your own to link it into
    #[arg(
        value_name = "DESTINATION",
        value_parser = args::destination(),
        allow_negative_numbers = true
    )]
    pub destination: Option<args::Destination>,
}

/// Searches for the key.
///
/// # Errors
/// What `KEYCTL_SEARCH` says.
pub fn run(context: &Context, args: &SearchArgs) -> Result<(), CommandError> {
    let what = || {
        format!(
            "cannot find key “{}: {}” in keyring {}",
            view::safe(&args.r#type),
            view::short(&args.description),
            args.keyring
        )
    };
    let name = KeyName::new(args.r#type.as_bytes(), args.description.bytes())
        .map_err(|error| CommandError::usage(what()).cause(error.to_string()))?;
    let hint = match &args.keyring {
        KeySpec::InContainer { container, .. } => format!(
            "keys of a container have names: keyctl-ns describe {container}/{}",
            name
        ),
        _ => String::new(),
    };
    let keyring = key::resolve_own(&args.keyring, &hint)?;
    let destination = args.destination.as_ref().and_then(|to| to.0.as_ref());
    let destination = key::destination(destination)?;
    let serial = sys::search(keyring, name.type_(), name.description(), destination)
        .map_err(|error| key::failed_on(keyring, what(), KeyOp::Search, &error))?;
    let key = KeyRef {
        serial: serial.raw(),
        type_: Some(args.r#type.clone()),
        description: Some(args.description.clone()),
        container: None,
    };
    context.ui.print(&key, |out, key| writeln!(out, "{key}"))
}
