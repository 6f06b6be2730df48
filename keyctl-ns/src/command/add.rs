//! `add`

use std::ffi::{CString, OsString};

use clap::Args;
use keyns::errno::KeyOp;
use keyns::name::ContainerPath;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_interfaces::keys::Add;
use keyns_interfaces::{ByteText, Payload};
use keyns_sys::key as sys;

use crate::args::{self, Seconds};
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};
use crate::payload::PayloadArgs;
use crate::view;

/// Add a key, or replace the payload of the one with that type and description
///
/// The payload is standard input to its end, byte for byte: use printf rather than echo if it must
/// not end in a newline. A keyring (type keyring) has none.
///
/// Without --container the key goes into a keyring of your own. With --container it goes into the
/// container's store, where its processes do not see it until it is granted.
///
/// As keyctl has it, the payload may also stand on the command line, with the keyring after it. Every
/// process of the machine can read it there, and you are warned.
#[derive(Debug, Args)]
#[command(after_help = "Example: printf %s \"$TOKEN\" | keyctl-ns add user api:token --timeout 8h")]
pub struct AddArgs {
    /// Type of the key, e.g. user, logon, keyring
    #[arg(value_parser = args::key_type)]
    pub r#type: String,
    /// Description, by which the key is found
    #[arg(value_parser = args::bytes())]
    pub description: ByteText,
    /// The payload; better not given here
    #[arg(requires = "into", conflicts_with_all = ["file", "fd", "container"])]
    pub data: Option<OsString>,
    /// Keyring of your own to put it into, after DATA
    #[arg(
        value_name = "INTO",
        value_parser = args::key(),
        allow_negative_numbers = true,
        conflicts_with = "keyring"
    )]
    pub into: Option<KeySpec>,
    /// Put it into the store of this container
    #[arg(long, short, value_name = "CONTAINER", value_parser = args::container(), conflicts_with = "keyring")]
    pub container: Option<ContainerPath>,
    /// Put it into this keyring of your own
    #[arg(long, short, value_name = "KEYRING", value_parser = args::key(), default_value = "@s", allow_negative_numbers = true)]
    pub keyring: KeySpec,
    /// Let it expire after this time (90s, 15m, 8h, 2d)
    #[arg(long, short, value_name = "TIME")]
    pub timeout: Option<Seconds>,
    /// Where the payload comes from.
    #[command(flatten)]
    pub payload: PayloadArgs,
}

/// Add a key with the payload on standard input
///
/// The same as add, with the keyring as an argument, as keyctl has it.
#[derive(Debug, Args)]
#[command(after_help = "Example: printf %s \"$TOKEN\" | keyctl-ns padd user api:token @u")]
pub struct PaddArgs {
    /// Type of the key, e.g. user, logon, keyring
    #[arg(value_parser = args::key_type)]
    pub r#type: String,
    /// Description, by which the key is found
    #[arg(value_parser = args::bytes())]
    pub description: ByteText,
    /// Keyring of your own to put it into
    #[arg(
        value_parser = args::key(),
        default_value = "@s",
        allow_negative_numbers = true
    )]
    pub keyring: KeySpec,
    /// Let it expire after this time (90s, 15m, 8h, 2d)
    #[arg(long, short, value_name = "TIME")]
    pub timeout: Option<Seconds>,
    /// Where the payload comes from.
    #[command(flatten)]
    pub payload: PayloadArgs,
}

/// Adds the key.
///
/// # Errors
/// Those of [`run`].
pub fn padd(context: &Context, args: PaddArgs) -> Result<(), CommandError> {
    let args = AddArgs {
        r#type: args.r#type,
        description: args.description,
        data: None,
        into: None,
        container: None,
        keyring: args.keyring,
        timeout: args.timeout,
        payload: args.payload,
    };
    run(context, &args)
}

/// Adds the key.
///
/// # Errors
/// A description or payload no key can have; what add_key(2) or the daemon says.
pub fn run(context: &Context, args: &AddArgs) -> Result<(), CommandError> {
    let name = format!(
        "“{}: {}”",
        view::safe(&args.r#type),
        view::short(&args.description)
    );
    let description = checked(&args.description, &name)?;
    let bare_keyring = args.r#type == "keyring" && !args.payload.is_given();
    let payload = match &args.data {
        // An empty word is how keyctl(1) is told that a keyring has none.
        Some(data) if data.is_empty() => Default::default(),
        None if bare_keyring => Default::default(),
        data => args.payload.read_or(&context.ui, data.as_deref())?,
    };

    let key = if let Some(container) = &args.container {
        let call = Add {
            container: container.to_string(),
            type_: args.r#type.clone(),
            description: args.description.clone(),
            payload: Payload::new(payload.to_vec()),
            timeout: args.timeout.map(|time| time.0),
        };
        KeyRef::from(context.daemon()?.call(&call)?.key)
    } else {
        let keyring = key::resolve(args.into.as_ref().unwrap_or(&args.keyring))?;
        let serial = own(&args.r#type, &description, &payload, keyring, &name)?;
        if let Some(Seconds(time)) = args.timeout {
            sys::set_timeout(serial, time).map_err(|error| {
                key::failed(
                    format!("cannot set the timeout of the new key {serial} {name}"),
                    KeyOp::SetTimeout,
                    &error,
                )
                .hint(format!("remove it again: keyctl-ns invalidate {serial}"))
            })?;
        }
        KeyRef {
            serial: serial.raw(),
            type_: Some(args.r#type.clone()),
            description: Some(args.description.clone()),
            container: None,
        }
    };
    context.ui.print(&key, |out, key| writeln!(out, "{key}"))
}

fn own(
    type_: &str,
    description: &CString,
    payload: &[u8],
    keyring: KeySerial,
    name: &str,
) -> Result<KeySerial, CommandError> {
    let failed = || format!("cannot add key {name} to keyring {keyring}");
    // The parser refused types with a NUL.
    let type_ = CString::new(type_).map_err(|_| CommandError::usage(failed()))?;
    sys::add_key(&type_, description, payload, keyring).map_err(|error| {
        let new = key::failed(failed(), KeyOp::Add, &error);
        match error.raw_os_error() {
            Some(22) => new.or_hint(key::payload_rule(&type_.to_string_lossy(), payload.len())),
            _ => new,
        }
    })
}

/// A description the kernel can be given.
fn checked(description: &ByteText, name: &str) -> Result<CString, CommandError> {
    let wrong = |cause: String| CommandError::usage(format!("cannot add key {name}")).cause(cause);
    let length = description.bytes().len();
    if length == 0 {
        return Err(wrong("the description is empty".to_owned()));
    }
    if length > sys::MAX_DESCRIPTION {
        return Err(wrong(format!(
            "the description has {length} bytes, the most a key can have is {}",
            sys::MAX_DESCRIPTION
        )));
    }
    CString::new(description.bytes())
        .map_err(|_| wrong("the description holds a NUL byte".to_owned()))
}
