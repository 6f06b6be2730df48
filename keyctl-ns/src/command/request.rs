//! `request`, `request2`, `prequest2`

use std::ffi::CString;

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::{KeyName, KeySpec};
use keyns_interfaces::ByteText;
use keyns_sys::key as sys;

use crate::args::{self, Destination};
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};
use crate::payload;
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
    /// Keyring of your own to link it into
    #[arg(
        value_name = "DESTINATION",
        value_parser = args::destination(),
        allow_negative_numbers = true,
        conflicts_with = "keyring"
    )]
    pub destination: Option<Destination>,
    /// Ask user space for a key that is not found, with this text for whoever makes it
    #[arg(long, value_name = "TEXT", value_parser = args::bytes())]
    pub callout: Option<ByteText>,
    /// Link the key into this keyring of your own
    #[arg(long, short, value_name = "KEYRING", value_parser = args::key(), allow_negative_numbers = true)]
    pub keyring: Option<KeySpec>,
}

/// Find a key in your keyrings, or have it made with a text for whoever makes it
///
/// The same as request with --callout, as keyctl has it.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns request2 dns_resolver a:example.net \"\"")]
pub struct Request2Args {
    /// Type of the key
    #[arg(value_parser = args::key_type)]
    pub r#type: String,
    /// Description of the key
    #[arg(value_parser = args::bytes())]
    pub description: ByteText,
    /// Text for whoever makes the key
    #[arg(value_parser = args::bytes())]
    pub callout: ByteText,
    /// Keyring of your own to link it into
    #[arg(
        value_name = "DESTINATION",
        value_parser = args::destination(),
        allow_negative_numbers = true
    )]
    pub destination: Option<Destination>,
}

/// Find a key in your keyrings, or have it made with a text from standard input
///
/// The text is standard input to its end.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns prequest2 user token < callout.txt")]
pub struct Prequest2Args {
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
    pub destination: Option<Destination>,
}

/// Requests the key.
///
/// # Errors
/// What request_key(2) says.
pub fn run(context: &Context, args: &RequestArgs) -> Result<(), CommandError> {
    let destination = match (&args.keyring, &args.destination) {
        (Some(keyring), _) => Some(keyring),
        (None, Some(Destination(keyring))) => keyring.as_ref(),
        (None, None) => None,
    };
    request(
        context,
        &args.r#type,
        &args.description,
        args.callout.as_ref(),
        destination,
    )
}

/// Requests the key with a text for whoever makes it.
///
/// # Errors
/// What request_key(2) says.
pub fn request2(context: &Context, args: &Request2Args) -> Result<(), CommandError> {
    let destination = args.destination.as_ref().and_then(|to| to.0.as_ref());
    let callout = Some(&args.callout);
    request(
        context,
        &args.r#type,
        &args.description,
        callout,
        destination,
    )
}

/// Requests the key with the text on standard input.
///
/// # Errors
/// What request_key(2) says.
pub fn prequest2(context: &Context, args: &Prequest2Args) -> Result<(), CommandError> {
    let text = payload::standard_input(&context.ui)?;
    let destination = args.destination.as_ref().and_then(|to| to.0.as_ref());
    let callout = ByteText(text.to_vec());
    request(
        context,
        &args.r#type,
        &args.description,
        Some(&callout),
        destination,
    )
}

fn request(
    context: &Context,
    type_: &str,
    description: &ByteText,
    callout: Option<&ByteText>,
    destination: Option<&KeySpec>,
) -> Result<(), CommandError> {
    let shown = format!("“{}: {}”", view::safe(type_), view::short(description));
    let wrong =
        |cause: String| CommandError::usage(format!("cannot request key {shown}")).cause(cause);
    let name = KeyName::new(type_.as_bytes(), description.bytes())
        .map_err(|error| wrong(error.to_string()))?;
    let callout = callout
        .map(|text| CString::new(text.bytes()))
        .transpose()
        .map_err(|_| wrong("the callout text holds a NUL byte".to_owned()))?;
    let destination = key::destination(destination)?;
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
        type_: Some(type_.to_owned()),
        description: Some(description.clone()),
        container: None,
    };
    context.ui.print(&key, |out, key| writeln!(out, "{key}"))
}
