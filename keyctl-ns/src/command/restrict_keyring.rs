//! `restrict_keyring`

use std::ffi::CString;

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_interfaces::ByteText;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};
use crate::view;

/// Let a keyring take only certain keys from now on
///
/// With a type and what it calls a restriction, only keys that pass it: for type asymmetric those
/// signed by a key that is named. Without a type no key at all. It cannot be taken back.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: keyctl-ns restrict_keyring %:trusted asymmetric builtin_trusted")]
pub struct RestrictKeyringArgs {
    /// Keyring of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub keyring: KeySpec,
    /// Type whose restrictions are meant
    #[arg(value_parser = args::key_type)]
    pub r#type: Option<String>,
    /// The restriction, as the type writes it
    #[arg(value_parser = args::bytes())]
    pub restriction: Option<ByteText>,
}

#[derive(Serialize)]
struct Output {
    keyring: KeyRef,
    /// Null: no key at all.
    #[serde(rename = "type")]
    type_: Option<String>,
    restriction: Option<ByteText>,
}

/// Restricts the keyring.
///
/// # Errors
/// What `KEYCTL_RESTRICT_KEYRING` says.
pub fn run(context: &Context, args: &RestrictKeyringArgs) -> Result<(), CommandError> {
    let what = || format!("cannot restrict keyring {}", args.keyring);
    let nul = |_| CommandError::usage(what()).cause("an argument has a NUL byte");
    let type_ = args.r#type.as_deref().map(CString::new).transpose();
    let type_ = type_.map_err(nul)?;
    let restriction = args.restriction.as_ref().map(|it| CString::new(it.bytes()));
    let restriction = restriction.transpose().map_err(nul)?;
    let ring = key::resolve_own(
        &args.keyring,
        "its keyring takes only what is granted: keyctl-ns grant",
    )?;
    sys::restrict_keyring(ring, type_.as_deref(), restriction.as_deref()).map_err(|error| {
        let new = key::failed_on(ring, what(), KeyOp::Restrict, &error);
        match (error.raw_os_error(), &args.r#type) {
            (Some(2), Some(type_)) => new.cause(format!(
                "type {} has no restrictions for keyrings",
                view::safe(type_)
            )),
            _ => new,
        }
    })?;
    let output = Output {
        keyring: KeyRef::own(ring),
        type_: args.r#type.clone(),
        restriction: args.restriction.clone(),
    };
    context.ui.print(&output, |out, done| match &done.type_ {
        None => writeln!(out, "keyring {} takes no key any more", args.keyring),
        Some(type_) => writeln!(
            out,
            "keyring {} takes only keys that type {} lets pass",
            args.keyring,
            view::safe(type_)
        ),
    })
}
