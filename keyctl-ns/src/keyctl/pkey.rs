//! Public-key operations: `pkey_query`, `pkey_encrypt`, `pkey_decrypt`, `pkey_sign`, `pkey_verify`.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;

use keyns_sys::KeySerial;
use keyns_sys::key_crypto::{self, PkeyInfo, PkeyOperation};
use keyns_sys::secret::SecretBytes;

use super::command::Call;
use super::key_id;
use super::output::push_unsigned;
use super::stop::{Stop, errno, failed};

/// Room for all options and the NUL behind them.
const INFO: usize = 4096;

/// Joins the options with blanks, as the kernel reads them.
fn info_of(options: &[&CStr]) -> Result<CString, Stop> {
    let mut info = Vec::new();
    for option in options {
        let option = option.to_bytes();
        if !option.contains(&b'=') {
            return Err(Stop::said("Option not in key=val form", 2));
        }
        if option.len() + 1 > INFO - 1 - info.len() {
            return Err(Stop::said("Too many info options", 2));
        }
        if !info.is_empty() {
            info.push(b' ');
        }
        info.extend_from_slice(option);
    }
    CString::new(info).map_err(|_| Stop::Usage)
}

/// What all five have: options are read first, then the key, then what stands for a password.
fn beginning(
    word: &CStr,
    password: &CStr,
    options: &[&CStr],
) -> Result<(KeySerial, CString), Stop> {
    let info = info_of(options)?;
    let serial = key_id::key(word)?;
    if password != c"0" {
        return Err(Stop::said("Password passing is not yet supported", 2));
    }
    Ok((serial, info))
}

/// A whole file. One that does not know its size, such as those of /proc, counts as empty.
fn content(name: &CStr) -> Result<SecretBytes, Stop> {
    let path = OsStr::from_bytes(name.to_bytes());
    let fault = |error| Stop::Failed(name.to_bytes().to_vec(), errno(&error));
    let mut file = File::open(path).map_err(fault)?;
    let size = file.metadata().map_err(fault)?.len();
    let size = usize::try_from(size).map_err(|_| Stop::Failed(name.to_bytes().to_vec(), 12))?;
    let mut data = SecretBytes::zeroed(size);
    match file.read_exact(data.as_mut_slice()) {
        Ok(()) => Ok(data),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(Stop::said([name.to_bytes(), b": Short read"].concat(), 1))
        }
        Err(error) => Err(fault(error)),
    }
}

fn query_key(serial: KeySerial, info: &CStr) -> Result<PkeyInfo, Stop> {
    key_crypto::pkey_query(serial, info).map_err(failed("keyctl_pkey_query"))
}

/// `pkey_query <key> <pass> [k=v]*`
pub(crate) fn query(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, password, options @ ..] = call.words else {
        return Err(Stop::Usage);
    };
    let (serial, info) = beginning(word, password, options)?;
    let can = query_key(serial, &info)?;
    let to = call.out.buffer();
    for (name, number) in [
        ("key_size=", can.key_bits),
        ("max_data_size=", can.max_data.into()),
        ("max_sig_size=", can.max_signature.into()),
        ("max_enc_size=", can.max_encrypted.into()),
        ("max_dec_size=", can.max_decrypted.into()),
    ] {
        to.extend_from_slice(name.as_bytes());
        push_unsigned(to, number.into(), 0);
        to.push(b'\n');
    }
    for (name, is_able) in [
        ("encrypt=", can.can_encrypt),
        ("decrypt=", can.can_decrypt),
        ("sign=", can.can_sign),
        ("verify=", can.can_verify),
    ] {
        to.extend_from_slice(name.as_bytes());
        to.extend_from_slice(if is_able { b"y\n" } else { b"n\n" });
    }
    Ok(0)
}

fn transform(
    call: &mut Call<'_>,
    operation: PkeyOperation,
    label: &str,
    size: impl FnOnce(&PkeyInfo) -> u16,
) -> Result<i32, Stop> {
    let [word, password, file, options @ ..] = call.words else {
        return Err(Stop::Usage);
    };
    let (serial, info) = beginning(word, password, options)?;
    let input = content(file)?;
    let size = size(&query_key(serial, &info)?);
    let mut output = SecretBytes::zeroed(size.into());
    let length =
        key_crypto::pkey_transform(operation, serial, &info, input.as_slice(), &mut output)
            .map_err(failed(label))?;
    if length == 0 {
        // Nothing is an error, though one without a number.
        return Err(Stop::Failed(b"stdout".to_vec(), 0));
    }
    call.out.buffer().reserve(length);
    call.out.push(output.truncated(length).as_slice());
    Ok(0)
}

/// `pkey_encrypt <key> <pass> <datafile> [k=v]*`
pub(crate) fn encrypt(call: &mut Call<'_>) -> Result<i32, Stop> {
    let label = "keyctl_pkey_encrypt";
    transform(call, PkeyOperation::Encrypt, label, |can| can.max_encrypted)
}

/// `pkey_decrypt <key> <pass> <datafile> [k=v]*`
pub(crate) fn decrypt(call: &mut Call<'_>) -> Result<i32, Stop> {
    let label = "keyctl_pkey_decrypt";
    transform(call, PkeyOperation::Decrypt, label, |can| can.max_decrypted)
}

/// `pkey_sign <key> <pass> <datafile> [k=v]*`
pub(crate) fn sign(call: &mut Call<'_>) -> Result<i32, Stop> {
    let label = "keyctl_pkey_sign";
    transform(call, PkeyOperation::Sign, label, |can| can.max_signature)
}

/// `pkey_verify <key> <pass> <datafile> <sigfile> [k=v]*`
pub(crate) fn verify(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, password, file, signature, options @ ..] = call.words else {
        return Err(Stop::Usage);
    };
    let (serial, info) = beginning(word, password, options)?;
    let data = content(file)?;
    let signature = content(signature)?;
    key_crypto::pkey_verify(serial, &info, data.as_slice(), signature.as_slice())
        .map_err(failed("keyctl_pkey_verify"))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_are_joined_until_they_do_not_fit() {
        assert_eq!(info_of(&[]).unwrap().as_c_str(), c"");
        let both = info_of(&[c"enc=pkcs1", c"hash=sha256"]).unwrap();
        assert_eq!(both.as_c_str(), c"enc=pkcs1 hash=sha256");
        let bad = Err(Stop::said("Option not in key=val form", 2));
        assert_eq!(info_of(&[c"a=b", c"x"]), bad);
        let long = |length: usize| CString::new(format!("{:=<length$}", "a")).unwrap();
        let many = Err(Stop::said("Too many info options", 2));
        assert!(info_of(&[&long(4094)]).is_ok());
        assert_eq!(info_of(&[&long(4095)]), many);
        assert!(info_of(&[&long(2000), &long(2094)]).is_ok());
        assert_eq!(info_of(&[&long(2000), &long(2095)]), many);
    }

    proptest! {
        #[test]
        fn arbitrary_options_never_panic(
            options in proptest::collection::vec("[a-z=]{0,1500}", 0..6)
        ) {
            let owned: Vec<_> = options.into_iter().map(|o| CString::new(o).unwrap()).collect();
            let _ = info_of(&owned.iter().map(|o| o.as_c_str()).collect::<Vec<_>>());
        }
    }
}
