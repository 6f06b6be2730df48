//! `security`

use clap::Args;
use keyns::errno::{Errno, KeyOp};
use keyns::spec::KeySpec;
use keyns_interfaces::ByteText;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::key::{self, KeyRef};
use crate::view;

/// Show the label that a security module gave a key
#[derive(Debug, Args)]
pub struct SecurityArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
}

#[derive(Serialize)]
struct Output {
    key: KeyRef,
    /// Null if no security module labels keys.
    label: Option<ByteText>,
}

/// Shows the label.
///
/// # Errors
/// What `KEYCTL_GET_SECURITY` says.
pub fn run(context: &Context, args: &SecurityArgs) -> Result<(), CommandError> {
    let serial = key::resolve_own(&args.key, "ask for the key by its number inside")?;
    let label = sys::get_security(serial).map_err(|error| {
        let what = format!("cannot read the security label of key {}", args.key);
        // Of a key that may not be viewed, the kernel says here that it does not exist.
        let is_hidden = error.raw_os_error() == Some(Errno::ENOKEY.raw())
            && key::describe(serial).is_err_and(|error| error.kind == ErrorKind::Denied);
        let error = if is_hidden {
            Errno::EACCES.into()
        } else {
            error
        };
        key::failed_on(serial, what, KeyOp::GetSecurity, &error)
    })?;
    let output = Output {
        key: KeyRef::own(serial),
        label: (!label.is_empty()).then_some(ByteText(label)),
    };
    if output.label.is_none() {
        context.ui.note("no security module labels keys here");
    }
    context.ui.print(&output, |out, done| match &done.label {
        Some(label) => writeln!(out, "{}", view::bytes(label)),
        None => Ok(()),
    })
}
