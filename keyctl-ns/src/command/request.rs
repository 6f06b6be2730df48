//! `request`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::serial::KeySerial;
use keyns::spec::{KeyName, KeySpec};
use keyns_interfaces::ByteText;
use keyns_sys::key as sys;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};
use crate::view;

/// Find a key in your keyrings, or have it made
///
/// Searches the thread, process and session keyring as the kernel does. With --callout a key that
/// is not found is asked of user space: the kernel runs /sbin/request-key and the command waits for
/// the answer.
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// Type of the key
    #[arg(value_parser = args::key_type)]
    pub r#type: String,
    /// Description of the key
    #[arg(value_parser = args::bytes())]
    pub description: ByteText,
    /// Ask user space for a key that is not found, with this text for whoever makes it
    #[arg(long, value_name = "TEXT", value_parser = args::bytes())]
    pub callout: Option<ByteText>,
    /// Link the key into this keyring of your own
    #[arg(long, short, value_name = "KEYRING", value_parser = args::key(), allow_negative_numbers = true)]
    pub keyring: Option<KeySpec>,
}

/// Requests the key.
///
/// # Errors
/// What request_key(2) says.
pub fn run(context: &Context, args: &RequestArgs) -> Result<(), CommandError> {
    let shown = format!(
        "“{}: {}”",
        view::safe(&args.r#type),
        view::short(&args.description)
    );
    let wrong =
        |cause: String| CommandError::usage(format!("cannot request key {shown}")).cause(cause);
    let name = KeyName::new(args.r#type.as_bytes(), args.description.bytes())
        .map_err(|error| wrong(error.to_string()))?;
    let callout = args
        .callout
        .as_ref()
        .map(|text| std::ffi::CString::new(text.bytes()))
        .transpose()
        .map_err(|_| wrong("the callout text holds a NUL byte".to_owned()))?;
    let destination = match &args.keyring {
        Some(keyring) => key::resolve(keyring)?,
        None => KeySerial::NONE,
    };
    let serial = sys::request_key(
        name.type_(),
        name.description(),
        callout.as_deref(),
        destination,
    )
    .map_err(|error| {
        let new = key::failed(format!("cannot get key {shown}"), KeyOp::Request, &error);
        match error.raw_os_error() {
            Some(126) if callout.is_none() => {
                new.or_hint("add --callout \"\" to have it made by whoever answers for this type")
            }
            Some(1 | 13) if callout.is_some() => {
                new.cause("whoever was asked denied it, or your keyrings may not be searched")
            }
            _ => new,
        }
    })?;
    let key = KeyRef {
        serial: serial.raw(),
        type_: Some(args.r#type.clone()),
        description: Some(args.description.clone()),
        container: None,
    };
    context.ui.print(&key, |out, key| writeln!(out, "{key}"))
}
