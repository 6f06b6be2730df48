//! `move`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::name::ContainerPath;
use keyns::spec::KeySpec;
use keyns_interfaces::keys::Move;
use keyns_sys::key as sys;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef, Target};

/// Move a key from one keyring to another, or from one container to another
///
/// Between keyrings of your own: move KEY FROM TO. For a key of a container give the containers:
/// move web/user:token web db. Grants of the key to the former container end.
#[derive(Debug, Args)]
#[command(name = "move")]
pub struct MoveArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// Keyring (or container) it is in
    #[arg(value_name = "FROM", allow_negative_numbers = true)]
    pub from: String,
    /// Keyring (or container) it goes to
    #[arg(value_name = "TO", allow_negative_numbers = true)]
    pub to: String,
    /// Replace a key of the same type and description there
    #[arg(long, short)]
    pub force: bool,
}

/// Moves the key.
///
/// # Errors
/// What `KEYCTL_MOVE` or the daemon says; a usage error when a container and a keyring are mixed.
pub fn run(context: &Context, args: &MoveArgs) -> Result<(), CommandError> {
    let moved = match &args.key {
        KeySpec::InContainer { container, .. } => {
            let to = named(args, &args.to)?;
            if named(args, &args.from)? != *container {
                return Err(wrong(
                    args,
                    format!(
                        "it is in container “{container}”, not in “{}”",
                        short(&args.from)
                    ),
                ));
            }
            let Target::Contained(key) = Target::of(&args.key)? else {
                return Err(wrong(args, "it is a key of your own".to_owned()));
            };
            let call = Move {
                key,
                to: to.to_string(),
                replace: args.force,
            };
            KeyRef::from(context.daemon()?.call(&call)?.key)
        }
        own => {
            let key = key::resolve(own)?;
            let from = key::resolve(&keyring(args, &args.from)?)?;
            let to = key::resolve(&keyring(args, &args.to)?)?;
            let flags = if args.force { 0 } else { sys::MOVE_EXCL };
            sys::move_key(key, from, to, flags).map_err(|error| {
                let new = key::failed(
                    format!(
                        "cannot move key {} from {} to {}",
                        args.key,
                        short(&args.from),
                        short(&args.to)
                    ),
                    KeyOp::Move,
                    &error,
                );
                match error.raw_os_error() {
                    Some(17) => new.hint("replace it with --force"),
                    _ => new,
                }
            })?;
            KeyRef::own(key)
        }
    };
    context.ui.print(&moved, |out, key| writeln!(out, "{key}"))
}

fn named(args: &MoveArgs, text: &str) -> Result<ContainerPath, CommandError> {
    text.parse().map_err(|error: keyns::name::PathError| {
        wrong(args, format!("“{}” is no container: {error}", short(text))).hint(
            "a key of a container moves between containers: keyctl-ns move web/user:token web db",
        )
    })
}

fn keyring(args: &MoveArgs, text: &str) -> Result<KeySpec, CommandError> {
    text.parse()
        .map_err(|error: keyns::spec::SpecError| wrong(args, error.to_string()))
}

fn wrong(args: &MoveArgs, cause: String) -> CommandError {
    CommandError::usage(format!("cannot move key {}", args.key)).cause(cause)
}

fn short(text: &str) -> String {
    keyns::text::Escaped::new(text).cut(40).to_string()
}
