//! `pkey_query`, `pkey_encrypt`, `pkey_decrypt`, `pkey_sign`, `pkey_verify`: operations of the kernel
//! with asymmetric keys.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use clap::Args;
use keyns::errno::{Errno, KeyOp};
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_interfaces::Payload;
use keyns_sys::key_crypto;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key;
use crate::payload;
use crate::reveal::RevealArgs;
use crate::table::fields;

/// The longest text of all options that the kernel takes, without its NUL.
const MAX_INFO: usize = 4095;

/// Show what a key can be used for
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns pkey_query %asymmetric:server enc=pkcs1 hash=sha256")]
pub struct QueryArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// How the key is used: enc=pkcs1, hash=sha256 … (a 0 in front, as keyctl needs it, is ignored)
    #[arg(value_name = "NAME=VALUE")]
    pub words: Vec<OsString>,
}

/// Encrypt data with a key
///
/// The result goes to standard output byte for byte, to a terminal in hexadecimal. With --json it is
/// base64.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: keyctl-ns pkey_encrypt %asymmetric:server data enc=pkcs1 > encrypted"
)]
pub struct EncryptArgs {
    /// Key, file and options.
    #[command(flatten)]
    pub input: InputArgs,
}

/// Decrypt data with a key
///
/// The result goes to a pipe or file byte for byte. A terminal shows it only with --reveal. With
/// --json it is base64.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: keyctl-ns pkey_decrypt %asymmetric:server encrypted enc=pkcs1 > data"
)]
pub struct DecryptArgs {
    /// Key, file and options.
    #[command(flatten)]
    pub input: InputArgs,
    /// How the result is shown.
    #[command(flatten)]
    pub reveal: RevealArgs,
}

/// Sign a hash with a key
///
/// The signature goes to standard output byte for byte, to a terminal in hexadecimal. With --json it
/// is base64.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: keyctl-ns pkey_sign %asymmetric:server hash enc=pkcs1 hash=sha256 > signature")]
pub struct SignArgs {
    /// Key, file and options.
    #[command(flatten)]
    pub input: InputArgs,
}

/// Verify the signature of a hash with a key
#[derive(Debug, Args)]
#[command(after_help = "\
Example: keyctl-ns pkey_verify %asymmetric:server hash signature enc=pkcs1 hash=sha256")]
pub struct VerifyArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// File with the hash, file with the signature, then how the key is used: enc=pkcs1, hash=sha256 …
    /// (a 0 in front, as keyctl needs it, is ignored)
    #[arg(value_name = "FILE|NAME=VALUE", required = true)]
    pub words: Vec<OsString>,
}

/// What all operations with one file take.
#[derive(Debug, Clone, Args)]
pub struct InputArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// File with the data, or - for standard input, then how the key is used: enc=pkcs1,
    /// hash=sha256 … (a 0 in front, as keyctl needs it, is ignored)
    #[arg(value_name = "FILE|NAME=VALUE", required = true)]
    pub words: Vec<OsString>,
}

/// An operation, with all that was said about it.
struct Operation<'a, const FILES: usize> {
    what: String,
    serial: KeySerial,
    files: [&'a Path; FILES],
    info: CString,
}

impl<'a, const FILES: usize> Operation<'a, FILES> {
    /// `[0] FILE… [NAME=VALUE]…`: keyctl(1) has a password before the files, which can only be 0.
    fn new(verb: &str, spec: &KeySpec, words: &'a [OsString]) -> Result<Self, CommandError> {
        let what = format!("cannot {verb} key {spec}");
        let wrong = |cause: String| CommandError::usage(&what).cause(cause);
        let words = match words.split_first() {
            Some((first, rest)) if first == "0" => rest,
            _ => words,
        };
        let files = words
            .first_chunk::<FILES>()
            .ok_or_else(|| wrong("a file is missing".to_owned()))?
            .each_ref()
            .map(Path::new);
        let info = info(words.get(FILES..).unwrap_or_default()).map_err(wrong)?;
        Ok(Self {
            serial: key::resolve_own(spec, "operations with keys of containers are theirs alone")?,
            what,
            files,
            info,
        })
    }

    fn failed(&self, error: &io::Error) -> CommandError {
        let new = key::failed_on(self.serial, self.what.clone(), KeyOp::Search, error);
        match error.raw_os_error().and_then(Errno::new) {
            Some(Errno::EOPNOTSUPP) => new.cause("keys of this type, or this key, cannot do it"),
            Some(Errno::EINVAL) => {
                new.cause("the data is too long or too short, or an option is not known")
            }
            Some(Errno::EKEYREJECTED) => {
                new.cause("the signature is not that of this key and hash")
            }
            // ENOPKG
            Some(errno) if errno.raw() == 65 => {
                new.cause("the kernel has no such algorithm: look at enc= and hash=")
            }
            // EBADMSG
            Some(errno) if errno.raw() == 74 => new.cause("it was not encrypted for this key"),
            _ => new,
        }
    }
}

/// Options joined by blanks, as the kernel reads them.
fn info(options: &[OsString]) -> Result<CString, String> {
    let mut info = Vec::new();
    for option in options {
        let bytes = option.as_bytes();
        let shown = keyns::text::Escaped::new(bytes).cut(40).to_string();
        if !bytes.contains(&b'=') {
            return Err(format!("“{shown}” is no option: they are NAME=VALUE"));
        }
        if bytes.contains(&b' ') {
            return Err(format!("option “{shown}” has a blank"));
        }
        if !info.is_empty() {
            info.push(b' ');
        }
        info.extend_from_slice(bytes);
    }
    if info.len() > MAX_INFO {
        return Err(format!("the options have more than {MAX_INFO} bytes"));
    }
    CString::new(info).map_err(|_| "an option has a NUL byte".to_owned())
}

fn content(context: &Context, path: &Path) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    if path == OsStr::new("-") {
        payload::standard_input(&context.ui)
    } else {
        payload::from_file(path)
    }
}

#[derive(Serialize)]
struct Uses {
    encrypt: bool,
    decrypt: bool,
    sign: bool,
    verify: bool,
    key_bits: u32,
    /// All in bytes.
    max_data: u16,
    max_signature: u16,
    max_encrypted: u16,
    max_decrypted: u16,
}

/// Shows what a key can do.
///
/// # Errors
/// What `KEYCTL_PKEY_QUERY` says.
pub fn query(context: &Context, args: &QueryArgs) -> Result<(), CommandError> {
    let operation = Operation::<0>::new("query", &args.key, &args.words)?;
    let can = key_crypto::pkey_query(operation.serial, &operation.info)
        .map_err(|error| operation.failed(&error))?;
    let uses = Uses {
        encrypt: can.can_encrypt,
        decrypt: can.can_decrypt,
        sign: can.can_sign,
        verify: can.can_verify,
        key_bits: can.key_bits,
        max_data: can.max_data,
        max_signature: can.max_signature,
        max_encrypted: can.max_encrypted,
        max_decrypted: can.max_decrypted,
    };
    context.ui.print(&uses, |out, uses| {
        let words: Vec<&str> = [
            (uses.encrypt, "encrypt"),
            (uses.decrypt, "decrypt"),
            (uses.sign, "sign"),
            (uses.verify, "verify"),
        ]
        .into_iter()
        .filter(|(can, _)| *can)
        .map(|(_, word)| word)
        .collect();
        let bytes = |n: u16| format!("{n} bytes");
        fields(
            out,
            &[
                ("can", words.join(", ")),
                ("size", format!("{} bits", uses.key_bits)),
                ("longest data", bytes(uses.max_data)),
                ("longest signature", bytes(uses.max_signature)),
                ("longest encrypted", bytes(uses.max_encrypted)),
                ("longest decrypted", bytes(uses.max_decrypted)),
            ],
        )
    })
}

#[derive(Serialize)]
struct Output {
    bytes: usize,
    result: Payload,
}

impl Output {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.len(),
            result: Payload::new(bytes),
        }
    }
}

/// Encrypts or signs: the result is no secret, but nothing for a terminal either.
fn transform(
    context: &Context,
    verb: &str,
    args: &InputArgs,
    call: fn(KeySerial, &CStr, &[u8]) -> io::Result<Vec<u8>>,
) -> Result<(), CommandError> {
    let operation = Operation::<1>::new(verb, &args.key, &args.words)?;
    let [path] = operation.files;
    let data = content(context, path)?;
    let result =
        call(operation.serial, &operation.info, &data).map_err(|error| operation.failed(&error))?;
    let output = Output::new(result);
    let shown = RevealArgs {
        hex: context.ui.is_terminal(),
        ..RevealArgs::default()
    };
    shown.print(&context.ui, output.result.bytes(), &output)
}

/// Encrypts.
///
/// # Errors
/// What `KEYCTL_PKEY_ENCRYPT` says.
pub fn encrypt(context: &Context, args: &EncryptArgs) -> Result<(), CommandError> {
    transform(
        context,
        "encrypt with",
        &args.input,
        key_crypto::pkey_encrypt,
    )
}

/// Signs.
///
/// # Errors
/// What `KEYCTL_PKEY_SIGN` says.
pub fn sign(context: &Context, args: &SignArgs) -> Result<(), CommandError> {
    transform(context, "sign with", &args.input, key_crypto::pkey_sign)
}

/// Decrypts.
///
/// # Errors
/// What `KEYCTL_PKEY_DECRYPT` says; a usage error when a terminal would show the result unasked.
pub fn decrypt(context: &Context, args: &DecryptArgs) -> Result<(), CommandError> {
    args.reveal.permit(&context.ui, "the decrypted data")?;
    let input = &args.input;
    let operation = Operation::<1>::new("decrypt with", &input.key, &input.words)?;
    let [path] = operation.files;
    let data = content(context, path)?;
    let result = key_crypto::pkey_decrypt(operation.serial, &operation.info, &data)
        .map_err(|error| operation.failed(&error))?;
    let output = Output::new(result.as_slice().to_vec());
    args.reveal
        .print(&context.ui, output.result.bytes(), &output)
}

#[derive(Serialize)]
struct Verified {
    verified: bool,
}

/// Verifies.
///
/// # Errors
/// What `KEYCTL_PKEY_VERIFY` says, also of a signature that is not right.
pub fn verify(context: &Context, args: &VerifyArgs) -> Result<(), CommandError> {
    let operation = Operation::<2>::new("verify with", &args.key, &args.words)?;
    let [hash, signature] = operation.files;
    let hash = content(context, hash)?;
    let signature = content(context, signature)?;
    key_crypto::pkey_verify(operation.serial, &operation.info, &hash, &signature)
        .map_err(|error| operation.failed(&error))?;
    context.ui.print(&Verified { verified: true }, |out, _| {
        writeln!(out, "the signature is that of key {}", args.key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn options_are_joined_by_blanks() {
        assert_eq!(info(&[]).unwrap().as_c_str(), c"");
        let both = info(&words(&["enc=pkcs1", "hash=sha256"])).unwrap();
        assert_eq!(both.as_c_str(), c"enc=pkcs1 hash=sha256");
        for wrong in [&["enc"][..], &["enc=a b"], &[""], &["enc=\0"]] {
            assert!(info(&words(wrong)).is_err(), "{wrong:?}");
        }
        let longest = format!("a={}", "x".repeat(MAX_INFO - 2));
        assert!(info(&words(&[&longest])).is_ok());
        assert!(info(&words(&[&longest, "b="])).is_err());
    }

    #[test]
    fn the_password_of_keyctl_may_be_left_out() {
        let spec = KeySpec::Serial(KeySerial::new(1));
        for (line, file) in [(&["0", "data", "enc=raw"][..], "data"), (&["data"], "data")] {
            let line = words(line);
            let operation = Operation::<1>::new("try", &spec, &line).unwrap();
            assert_eq!(operation.files, [Path::new(file)]);
        }
        assert!(Operation::<1>::new("try", &spec, &words(&["0"])).is_err());
        assert!(Operation::<2>::new("try", &spec, &words(&["0", "a"])).is_err());
    }

    proptest! {
        #[test]
        fn no_options_make_it_panic(options in proptest::collection::vec("[a-z= ]{0,1500}", 0..6)) {
            let options: Vec<OsString> = options.into_iter().map(OsString::from).collect();
            let _ = info(&options);
        }
    }
}
