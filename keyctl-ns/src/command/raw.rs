//! `rdescribe` and `rlist`: what the kernel says of a key or keyring, for scripts.

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_interfaces::ByteText;
use keyns_interfaces::keys::Describe;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, Target};
use crate::keyctl::description::Described;
use crate::view;

/// Print type, owner, group, mask and description of a key in one line for scripts
///
/// Separated by semicolons, or by SEPARATOR: type;uid;gid;mask;description, ids as the kernel prints
/// them and the mask in hexadecimal. Unlike keyctl, a description is escaped where it could act on a
/// terminal or break the line, and its own semicolons stay.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns rdescribe %user:token")]
pub struct RdescribeArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// What stands between the fields
    #[arg(default_value = ";", value_parser = separator)]
    pub separator: String,
}

/// Print the numbers of the keys in a keyring in one line for scripts
#[derive(Debug, Args)]
#[command(
    after_help = "Example: for key in $(keyctl-ns rlist @s); do keyctl-ns rdescribe $key; done"
)]
pub struct RlistArgs {
    /// Keyring of your own
    #[arg(
        value_parser = args::key(),
        default_value = "@s",
        allow_negative_numbers = true
    )]
    pub keyring: KeySpec,
}

/// One or more characters that neither act on a terminal nor are part of a number.
fn separator(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("the separator is empty".to_owned());
    }
    if text != "\t" && view::safe(text) != text {
        return Err("the separator has characters that act on a terminal".to_owned());
    }
    Ok(text.to_owned())
}

#[derive(Serialize)]
struct Fields {
    serial: i32,
    #[serde(rename = "type")]
    type_: String,
    uid: i32,
    gid: i32,
    mask: u32,
    description: ByteText,
}

/// Prints the line.
///
/// # Errors
/// What `KEYCTL_DESCRIBE` or the daemon says.
pub fn describe(context: &Context, args: &RdescribeArgs) -> Result<(), CommandError> {
    let fields = match Target::of(&args.key)? {
        Target::Contained(key) => {
            let key = context.daemon()?.call(&Describe { key })?.key;
            Fields {
                serial: key.serial,
                type_: key.type_,
                uid: key.uid.cast_signed(),
                gid: key.gid.cast_signed(),
                mask: key.mask,
                description: key.description,
            }
        }
        Target::Own(serial) => {
            let what = || format!("cannot describe key {}", args.key);
            let text = sys::describe(serial)
                .map_err(|error| key::failed_on(serial, what(), KeyOp::Describe, &error))?;
            let described = Described::parse(&text).ok_or_else(|| {
                CommandError::failure(what()).cause("the kernel describes it as it never does")
            })?;
            Fields {
                serial: serial.raw(),
                type_: String::from_utf8_lossy(described.type_).into_owned(),
                uid: described.uid,
                gid: described.gid,
                mask: described.mask,
                description: ByteText(described.description.to_vec()),
            }
        }
    };
    let gap = &args.separator;
    context.ui.print(&fields, |out, key| {
        let (type_, description) = (view::safe(&key.type_), view::bytes(&key.description));
        let (uid, gid, mask) = (key.uid, key.gid, key.mask);
        writeln!(
            out,
            "{type_}{gap}{uid}{gap}{gid}{gap}{mask:08x}{gap}{description}"
        )
    })
}

#[derive(Serialize)]
struct Numbers {
    keys: Vec<i32>,
}

/// Prints the numbers.
///
/// # Errors
/// What `KEYCTL_READ` says; a failure for a key that is no keyring.
pub fn list(context: &Context, args: &RlistArgs) -> Result<(), CommandError> {
    let hint = match &args.keyring {
        KeySpec::InContainer { container, .. } => {
            format!("keyctl-ns list --container {container}")
        }
        _ => String::new(),
    };
    let ring = key::resolve_own(&args.keyring, &hint)?;
    let keys = key::serials(ring)?.iter().map(|key| key.raw()).collect();
    context.ui.print(&Numbers { keys }, |out, done| {
        let mut gap = "";
        for key in &done.keys {
            write!(out, "{gap}{key}")?;
            gap = " ";
        }
        writeln!(out)
    })
}
