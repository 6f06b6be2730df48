//! `instantiate` and `pinstantiate`

use std::ffi::OsString;

use clap::Args;
use keyns::errno::KeyOp;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_sys::key as sys;

use crate::args::{self, Destination};
use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::key::{self, KeyRef};
use crate::payload::PayloadArgs;

/// Give a key under construction its payload
///
/// For programs that the kernel starts to have a key made: /sbin/request-key and those it runs. They
/// alone have the authority over the request. A request that waits with keynsd is answered with answer
/// instead.
///
/// The payload is standard input to its end. As keyctl has it, it may also stand on the command line,
/// where every process of the machine can read it, and you are warned.
#[derive(Debug, Args)]
#[command(after_help = "Example: printf %s \"$TOKEN\" | keyctl-ns pinstantiate \"$1\" @s")]
pub struct InstantiateArgs {
    /// The key under construction
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// The payload; better not given here
    #[arg(requires = "keyring", conflicts_with_all = ["file", "fd"])]
    pub data: Option<OsString>,
    /// Keyring to link it into, after DATA: one of the requester's, or 0 for none
    #[arg(value_parser = args::destination(), allow_negative_numbers = true)]
    pub keyring: Option<Destination>,
    /// Where the payload comes from.
    #[command(flatten)]
    pub payload: PayloadArgs,
}

/// Give a key under construction the payload on standard input
///
/// The same as instantiate, with the keyring as an argument, as keyctl has it.
#[derive(Debug, Args)]
#[command(after_help = "Example: printf %s \"$TOKEN\" | keyctl-ns pinstantiate \"$1\" @s")]
pub struct PinstantiateArgs {
    /// The key under construction
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// Keyring to link it into: one of the requester's, or 0 for none
    #[arg(
        value_parser = args::destination(),
        allow_negative_numbers = true,
        default_value = "0"
    )]
    pub keyring: Destination,
    /// Where the payload comes from.
    #[command(flatten)]
    pub payload: PayloadArgs,
}

/// Instantiates the key.
///
/// # Errors
/// What `KEYCTL_INSTANTIATE` says.
pub fn run(context: &Context, args: &InstantiateArgs) -> Result<(), CommandError> {
    let keyring = args.keyring.as_ref().and_then(|to| to.0.as_ref());
    let construction = Construction::of(&args.key, keyring)?;
    let payload = args.payload.read_or(&context.ui, args.data.as_deref())?;
    construction.instantiate(context, &payload)
}

/// Instantiates the key.
///
/// # Errors
/// What `KEYCTL_INSTANTIATE` says.
pub fn pinstantiate(context: &Context, args: &PinstantiateArgs) -> Result<(), CommandError> {
    let construction = Construction::of(&args.key, args.keyring.0.as_ref())?;
    let payload = args.payload.read(&context.ui)?;
    construction.instantiate(context, &payload)
}

/// A key under construction, and where it goes.
pub(crate) struct Construction<'a> {
    spec: &'a KeySpec,
    pub(crate) serial: KeySerial,
    pub(crate) destination: KeySerial,
}

impl<'a> Construction<'a> {
    /// Resolves both.
    ///
    /// # Errors
    /// As [`key::resolve`].
    pub(crate) fn of(
        spec: &'a KeySpec,
        destination: Option<&KeySpec>,
    ) -> Result<Self, CommandError> {
        let serial = key::resolve_own(
            spec,
            "keyctl-ns upcalls shows the requests of containers, and keyctl-ns answer answers them",
        )?;
        Ok(Self {
            spec,
            serial,
            destination: key::destination(destination)?,
        })
    }

    /// Assumes the authority over the request, if whoever started this process has not done so.
    ///
    /// That there is none shows when it is used, so a failure here is ignored.
    pub(crate) fn assume_authority(&self) {
        let _ = sys::assume_authority(self.serial);
    }

    fn instantiate(&self, context: &Context, payload: &[u8]) -> Result<(), CommandError> {
        self.assume_authority();
        sys::instantiate(self.serial, payload, self.destination).map_err(|error| {
            let new = self.failed("instantiate", KeyOp::Instantiate, &error);
            match error.raw_os_error() {
                Some(22) => {
                    let type_ = key::info(self.serial).map(|key| key.type_);
                    new.or_hint(key::payload_rule(&type_.unwrap_or_default(), payload.len()))
                }
                _ => new,
            }
        })?;
        context
            .ui
            .print(&KeyRef::own(self.serial), |out, key| writeln!(out, "{key}"))
    }

    /// Why the request could not be ended.
    pub(crate) fn failed(
        &self,
        verb: &str,
        operation: KeyOp,
        error: &std::io::Error,
    ) -> CommandError {
        let new = key::failed(format!("cannot {verb} key {}", self.spec), operation, error);
        match error.raw_os_error() {
            // Nobody has authority over a key that is not under construction.
            Some(1) => CommandError {
                kind: ErrorKind::Denied,
                ..new
            }
            .cause("you have no authority over a request for it")
            .hint("only the program that the kernel started for the request has it; keyctl-ns upcalls shows what waits with keynsd"),
            _ => new,
        }
    }
}
