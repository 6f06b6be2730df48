//! `update`

use std::ffi::OsString;

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_interfaces::Payload;
use keyns_interfaces::keys::{KeyInfo, Update};
use keyns_sys::key as sys;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef, Target};
use crate::payload::PayloadArgs;
use crate::view;

/// Replace the payload of a key
///
/// The payload is standard input to its end, byte for byte. For a key of a container every copy of
/// it gets the new payload as well.
#[derive(Debug, Args)]
#[command(
    visible_alias = "pupdate",
    after_help = "Example: printf %s \"$TOKEN\" | keyctl-ns update %user:token"
)]
pub struct UpdateArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// The payload; better not given here, where every process of the machine can read it
    #[arg(conflicts_with_all = ["file", "fd"])]
    pub data: Option<OsString>,
    /// Where the payload comes from.
    #[command(flatten)]
    pub payload: PayloadArgs,
}

/// Updates the key.
///
/// # Errors
/// What `KEYCTL_UPDATE` or the daemon says.
pub fn run(context: &Context, args: &UpdateArgs) -> Result<(), CommandError> {
    let payload = args.payload.read_or(&context.ui, args.data.as_deref())?;
    let key = match Target::of(&args.key)? {
        Target::Contained(key) => {
            let payload = Payload::new(payload.to_vec());
            KeyRef::from(context.daemon()?.call(&Update { key, payload })?.key)
        }
        Target::Own(serial) => {
            sys::update(serial, &payload).map_err(|error| {
                let new = key::failed_on(
                    serial,
                    format!("cannot update key {}", args.key),
                    KeyOp::Update,
                    &error,
                );
                if error.raw_os_error() != Some(22) {
                    return new;
                }
                let info = key::info(serial).ok();
                // keyctl_update_key(): whatever the type accepts.
                if payload.len() > rustix::param::page_size() {
                    return too_long(new, payload.len(), info.as_ref());
                }
                let type_ = info.map(|key| key.type_).unwrap_or_default();
                new.or_hint(key::payload_rule(&type_, payload.len()))
            })?;
            KeyRef::own(serial)
        }
    };
    context.ui.print(&key, |out, key| writeln!(out, "{key}"))
}

/// Adding a key of the same type and description updates it too, and takes any length.
fn too_long(error: CommandError, length: usize, key: Option<&KeyInfo>) -> CommandError {
    let new = error.cause(format!(
        "an update takes at most {} bytes, this payload has {length}",
        rustix::param::page_size()
    ));
    match key {
        Some(key) => new.hint(format!(
            "add it again to the keyring that holds it: keyctl-ns add {} {} --keyring KEYRING",
            view::safe(&key.type_),
            view::short(&key.description)
        )),
        None => new,
    }
}
