//! `dh_compute`, `dh_compute_kdf`, `dh_compute_kdf_oi`: Diffie-Hellman by the kernel.

use std::ffi::CString;

use clap::Args;
use keyns::spec::KeySpec;
use keyns_interfaces::Payload;
use keyns_sys::key_crypto::{self, DhKeys, Kdf, MAX_KDF_OTHER_INFO, MAX_KDF_OUTPUT};
use keyns_sys::secret::SecretBytes;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::key;
use crate::payload::PayloadArgs;
use crate::reveal::RevealArgs;

/// The keys of a computation.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    /// Key with the private number
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub private: KeySpec,
    /// Key with the prime
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub prime: KeySpec,
    /// Key with the base: the generator, or the public number of the other side
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub base: KeySpec,
}

/// Compute a Diffie-Hellman public number or shared secret from keys
///
/// The result, base to the power of private modulo prime, goes to a pipe or file byte for byte. A
/// terminal shows it only with --reveal: it may be a secret. With --json it is base64.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: keyctl-ns dh_compute %user:private %user:prime %user:theirs --hex"
)]
pub struct DhArgs {
    /// The keys.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// How the result is shown.
    #[command(flatten)]
    pub reveal: RevealArgs,
}

/// Compute a shared secret and derive key material from it
///
/// As dh_compute, with the derivation of SP800-56A in counter mode behind it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: keyctl-ns dh_compute_kdf %user:private %user:prime %user:theirs 32 sha256 --hex"
)]
pub struct DhKdfArgs {
    /// The keys.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// How many bytes to derive
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_KDF_OUTPUT as i64))]
    pub length: u16,
    /// Name of the hash, such as sha256
    #[arg(value_parser = args::not_empty)]
    pub hash: String,
    /// How the result is shown.
    #[command(flatten)]
    pub reveal: RevealArgs,
}

/// Compute a shared secret and derive key material from it and other information
///
/// As dh_compute_kdf. The other information, at most 64 bytes, is standard input to its end.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: keyctl-ns dh_compute_kdf_oi %user:private %user:prime %user:theirs 32 sha256 < info")]
pub struct DhKdfOiArgs {
    /// As for dh_compute_kdf.
    #[command(flatten)]
    pub kdf: DhKdfArgs,
    /// The other information is written in hexadecimal
    #[arg(long, short = 'x')]
    pub other_info_hex: bool,
}

#[derive(Serialize)]
struct Output {
    bytes: usize,
    result: Payload,
}

const SECRET: &str = "the result of the computation";

/// Computes the number.
///
/// # Errors
/// What `KEYCTL_DH_COMPUTE` says.
pub fn run(context: &Context, args: &DhArgs) -> Result<(), CommandError> {
    args.reveal.permit(&context.ui, SECRET)?;
    let result = key_crypto::dh_compute(resolve(&args.keys)?).map_err(|error| failed(&error))?;
    print(context, args.reveal, &result)
}

/// Derives key material.
///
/// # Errors
/// What `KEYCTL_DH_COMPUTE` says.
pub fn kdf(context: &Context, args: &DhKdfArgs) -> Result<(), CommandError> {
    derive(context, args, b"")
}

/// Derives key material from other information too.
///
/// # Errors
/// What `KEYCTL_DH_COMPUTE` says; a usage error for other information beyond the kernel's limit.
pub fn kdf_oi(context: &Context, args: &DhKdfOiArgs) -> Result<(), CommandError> {
    let source = PayloadArgs {
        hex: args.other_info_hex,
        ..PayloadArgs::default()
    };
    let info = source.read(&context.ui)?;
    if info.len() > MAX_KDF_OTHER_INFO {
        return Err(
            CommandError::usage("cannot use the other information").cause(format!(
                "it has {} bytes, at most {MAX_KDF_OTHER_INFO} are possible",
                info.len()
            )),
        );
    }
    derive(context, &args.kdf, &info)
}

fn derive(context: &Context, args: &DhKdfArgs, other_info: &[u8]) -> Result<(), CommandError> {
    args.reveal.permit(&context.ui, SECRET)?;
    let hash = CString::new(args.hash.as_str())
        .map_err(|_| CommandError::usage("the name of the hash has a NUL byte"))?;
    let kdf = Kdf {
        hash: &hash,
        other_info,
    };
    let keys = resolve(&args.keys)?;
    let result = key_crypto::dh_compute_kdf(keys, kdf, args.length.into()).map_err(|error| {
        match error.raw_os_error() {
            Some(2) => failed(&error).cause(format!(
                "the kernel has no hash “{}”",
                crate::view::safe(&args.hash)
            )),
            _ => failed(&error),
        }
    })?;
    print(context, args.reveal, &result)
}

fn resolve(args: &KeyArgs) -> Result<DhKeys, CommandError> {
    Ok(DhKeys {
        private: key::resolve(&args.private)?,
        prime: key::resolve(&args.prime)?,
        base: key::resolve(&args.base)?,
    })
}

fn failed(error: &std::io::Error) -> CommandError {
    let new = CommandError::io("cannot compute with these keys", error);
    match error.raw_os_error() {
        Some(95) => new
            .cause("this kernel has no Diffie-Hellman computations, or a key is not of type user")
            .hint("keyctl-ns supports dh_compute"),
        Some(13) => new.cause("the permissions do not allow it: it needs READ on all three keys"),
        Some(126..=128) => CommandError {
            kind: ErrorKind::NotFound,
            ..new
        }
        .cause("a key does not exist any more, or never did"),
        Some(22) => new.cause("a number is longer than the prime, or the prime is too short"),
        _ => new,
    }
}

fn print(context: &Context, reveal: RevealArgs, result: &SecretBytes) -> Result<(), CommandError> {
    let output = Output {
        bytes: result.len(),
        result: Payload::new(result.as_slice().to_vec()),
    };
    reveal.print(&context.ui, result.as_slice(), &output)
}
