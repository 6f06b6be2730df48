//! Computations inside the kernel with the content of keys: Diffie-Hellman and public-key
//! operations (`KEYCTL_DH_COMPUTE`, `KEYCTL_PKEY_*`).
//!
//! The kernel answers `EOPNOTSUPP` where it was built without them, see [`capabilities`].
//!
//! [`capabilities`]: crate::key::capabilities

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::{offset_of, size_of};
use std::ptr;

use crate::call::check;
use crate::secret::SecretBytes;
use crate::serial::KeySerial;

const DH_COMPUTE: i32 = 23;
const PKEY_QUERY: i32 = 24;
const PKEY_ENCRYPT: i32 = 25;
const PKEY_DECRYPT: i32 = 26;
const PKEY_SIGN: i32 = 27;
const PKEY_VERIFY: i32 = 28;

/// The longest output of a key derivation (`KEYCTL_KDF_MAX_OUTPUT_LEN`).
pub const MAX_KDF_OUTPUT: usize = 1024;
/// The longest other information of a key derivation (`KEYCTL_KDF_MAX_OI_LEN`).
pub const MAX_KDF_OTHER_INFO: usize = 64;

/// `struct keyctl_dh_params`.
#[repr(C)]
struct RawDh {
    private: i32,
    prime: i32,
    base: i32,
}

/// `struct keyctl_kdf_params`.
#[repr(C)]
struct RawKdf {
    hash: *const libc::c_char,
    other_info: *const u8,
    other_info_len: u32,
    spare: [u32; 8],
}

/// `struct keyctl_pkey_query`.
#[repr(C)]
#[derive(Default)]
struct RawQuery {
    supported_ops: u32,
    key_size: u32,
    max_data_size: u16,
    max_sig_size: u16,
    max_enc_size: u16,
    max_dec_size: u16,
    spare: [u32; 10],
}

/// `struct keyctl_pkey_params`; `out_len` is `in2_len` for a verification.
#[repr(C)]
struct RawParams {
    key: i32,
    in_len: u32,
    out_len: u32,
    spare: [u32; 7],
}

const _: () = {
    assert!(size_of::<RawDh>() == 12);
    assert!(offset_of!(RawDh, private) == 0);
    assert!(offset_of!(RawDh, prime) == 4);
    assert!(offset_of!(RawDh, base) == 8);
    let pointer = size_of::<usize>();
    assert!(offset_of!(RawKdf, hash) == 0);
    assert!(offset_of!(RawKdf, other_info) == pointer);
    assert!(offset_of!(RawKdf, other_info_len) == 2 * pointer);
    assert!(offset_of!(RawKdf, spare) == 2 * pointer + 4);
    // 52 bytes and padding to the alignment of a pointer.
    assert!(size_of::<RawKdf>() == (2 * pointer + 36).next_multiple_of(pointer));
    assert!(size_of::<RawQuery>() == 56);
    assert!(offset_of!(RawQuery, key_size) == 4);
    assert!(offset_of!(RawQuery, max_data_size) == 8);
    assert!(offset_of!(RawQuery, max_sig_size) == 10);
    assert!(offset_of!(RawQuery, max_enc_size) == 12);
    assert!(offset_of!(RawQuery, max_dec_size) == 14);
    assert!(offset_of!(RawQuery, spare) == 16);
    assert!(size_of::<RawParams>() == 40);
    assert!(offset_of!(RawParams, in_len) == 4);
    assert!(offset_of!(RawParams, out_len) == 8);
    assert!(offset_of!(RawParams, spare) == 12);
};

/// The three keys of a Diffie-Hellman computation; each needs READ.
#[derive(Debug, Clone, Copy)]
pub struct DhKeys {
    /// The exponent.
    pub private: KeySerial,
    /// The modulus.
    pub prime: KeySerial,
    /// The base: the generator, or the other side's public value.
    pub base: KeySerial,
}

/// How the result is turned into key material (SP800-56A, counter mode).
#[derive(Debug, Clone, Copy)]
pub struct Kdf<'a> {
    /// Name of a hash, such as `sha256`.
    pub hash: &'a CStr,
    /// Other information, at most [`MAX_KDF_OTHER_INFO`] bytes.
    pub other_info: &'a [u8],
}

/// `base ^ private mod prime`, as long as the prime.
///
/// # Errors
/// `EOPNOTSUPP`, `EACCES`, `EINVAL` (prime shorter than the kernel accepts), `ENOKEY`, `ENOMEM`.
pub fn dh_compute(keys: DhKeys) -> io::Result<SecretBytes> {
    // Without a buffer the kernel answers with the length.
    let length = dh(keys, None, &mut SecretBytes::default())?;
    let mut result = SecretBytes::zeroed(length);
    let length = dh(keys, None, &mut result)?;
    Ok(result.truncated(length))
}

/// The same, with `length` bytes (1 to [`MAX_KDF_OUTPUT`]) derived from it.
///
/// # Errors
/// As [`dh_compute`]; `EMSGSIZE` for a length or other information beyond the limits, `ENOENT` for
/// an unknown hash.
pub fn dh_compute_kdf(keys: DhKeys, kdf: Kdf<'_>, length: usize) -> io::Result<SecretBytes> {
    // Asked before the kernel is, because the buffer would be allocated first.
    if length > MAX_KDF_OUTPUT || kdf.other_info.len() > MAX_KDF_OTHER_INFO {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let mut result = SecretBytes::zeroed(length);
    let length = dh(keys, Some(kdf), &mut result)?;
    Ok(result.truncated(length))
}

/// Derives as many bytes as `result` holds, with all limits left to the kernel.
///
/// # Errors
/// As [`dh_compute_kdf`].
pub fn dh_derive(keys: DhKeys, kdf: Kdf<'_>, result: &mut SecretBytes) -> io::Result<usize> {
    dh(keys, Some(kdf), result)
}

fn dh(keys: DhKeys, kdf: Option<Kdf<'_>>, result: &mut SecretBytes) -> io::Result<usize> {
    let params = RawDh {
        private: keys.private.raw(),
        prime: keys.prime.raw(),
        base: keys.base.raw(),
    };
    let kdf = kdf.map(|kdf| RawKdf {
        hash: kdf.hash.as_ptr(),
        other_info: if kdf.other_info.is_empty() {
            ptr::null()
        } else {
            kdf.other_info.as_ptr()
        },
        // Beyond 64 the kernel refuses, and no caller comes near 4 GiB.
        other_info_len: u32::try_from(kdf.other_info.len()).unwrap_or(u32::MAX),
        spare: [0; 8],
    });
    let buffer = result.as_mut_slice();
    let length = buffer.len();
    let buffer = if length == 0 {
        ptr::null_mut()
    } else {
        buffer.as_mut_ptr()
    };
    // Safety: `params`, `kdf` and what `kdf` points to live until the call returns; `buffer` is
    // null or has `length` bytes.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            DH_COMPUTE,
            ptr::from_ref(&params),
            buffer,
            length,
            kdf.as_ref().map_or(ptr::null(), ptr::from_ref),
        )
    })
    .map(|n| n as usize)
}

/// What a key can do in public-key operations, all sizes in bytes but `key_bits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PkeyInfo {
    /// Whether it can encrypt.
    pub can_encrypt: bool,
    /// Whether it can decrypt.
    pub can_decrypt: bool,
    /// Whether it can sign.
    pub can_sign: bool,
    /// Whether it can verify.
    pub can_verify: bool,
    /// Size of the key in bits.
    pub key_bits: u32,
    /// The longest data to sign.
    pub max_data: u16,
    /// The longest signature.
    pub max_signature: u16,
    /// The longest encrypted data.
    pub max_encrypted: u16,
    /// The longest decrypted data.
    pub max_decrypted: u16,
}

/// Asks what a key can do with the parameters in `info` (`enc=pkcs1 hash=sha256`); needs SEARCH.
///
/// # Errors
/// `EOPNOTSUPP` (type without these operations), `EACCES`, `EINVAL` (unknown parameter), `ENOPKG`
/// (algorithm missing), `ENOKEY`.
pub fn pkey_query(key: KeySerial, info: &CStr) -> io::Result<PkeyInfo> {
    let mut raw = RawQuery::default();
    // Safety: `info` ends in NUL, `raw` has the asserted layout and is written once.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            PKEY_QUERY,
            key.raw(),
            0,
            info.as_ptr(),
            ptr::from_mut(&mut raw),
        )
    })?;
    let can = |bit: u32| raw.supported_ops & bit != 0;
    Ok(PkeyInfo {
        can_encrypt: can(0x01),
        can_decrypt: can(0x02),
        can_sign: can(0x04),
        can_verify: can(0x08),
        key_bits: raw.key_size,
        max_data: raw.max_data_size,
        max_signature: raw.max_sig_size,
        max_encrypted: raw.max_enc_size,
        max_decrypted: raw.max_dec_size,
    })
}

/// Encrypts `input` (`KEYCTL_PKEY_ENCRYPT`); needs SEARCH.
///
/// # Errors
/// As [`pkey_query`]; `EINVAL` for input that is too long.
pub fn pkey_encrypt(key: KeySerial, info: &CStr, input: &[u8]) -> io::Result<Vec<u8>> {
    let size = pkey_query(key, info)?.max_encrypted;
    let mut output = vec![0; usize::from(size)];
    let length = pkey(PKEY_ENCRYPT, key, info, input, &mut output)?;
    output.truncate(length);
    Ok(output)
}

/// Decrypts `input` (`KEYCTL_PKEY_DECRYPT`); needs SEARCH.
///
/// # Errors
/// As [`pkey_encrypt`]; `EKEYREJECTED`, `EBADMSG` for input that does not decrypt.
pub fn pkey_decrypt(key: KeySerial, info: &CStr, input: &[u8]) -> io::Result<SecretBytes> {
    let mut output = SecretBytes::zeroed(pkey_query(key, info)?.max_decrypted.into());
    let length = pkey(PKEY_DECRYPT, key, info, input, output.as_mut_slice())?;
    Ok(output.truncated(length))
}

/// Signs a digest (`KEYCTL_PKEY_SIGN`); needs SEARCH.
///
/// # Errors
/// As [`pkey_encrypt`].
pub fn pkey_sign(key: KeySerial, info: &CStr, digest: &[u8]) -> io::Result<Vec<u8>> {
    let mut output = vec![0; pkey_query(key, info)?.max_signature.into()];
    let length = pkey(PKEY_SIGN, key, info, digest, &mut output)?;
    output.truncate(length);
    Ok(output)
}

/// Verifies the signature of a digest (`KEYCTL_PKEY_VERIFY`); needs SEARCH.
///
/// # Errors
/// `EKEYREJECTED` for a signature that does not match; else as [`pkey_query`].
pub fn pkey_verify(key: KeySerial, info: &CStr, digest: &[u8], signature: &[u8]) -> io::Result<()> {
    let params = params(key, digest.len(), signature.len())?;
    // Safety: both inputs have the lengths in `params`, `info` ends in NUL.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            PKEY_VERIFY,
            ptr::from_ref(&params),
            info.as_ptr(),
            digest.as_ptr(),
            signature.as_ptr(),
        )
    })
    .map(drop)
}

/// An operation that turns one piece of data into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PkeyOperation {
    /// `KEYCTL_PKEY_ENCRYPT`.
    Encrypt,
    /// `KEYCTL_PKEY_DECRYPT`.
    Decrypt,
    /// `KEYCTL_PKEY_SIGN`.
    Sign,
}

/// Does one operation into a buffer, whose size [`pkey_query`] tells; returns what was written.
///
/// # Errors
/// As [`pkey_encrypt`], [`pkey_decrypt`] and [`pkey_sign`].
pub fn pkey_transform(
    operation: PkeyOperation,
    key: KeySerial,
    info: &CStr,
    input: &[u8],
    output: &mut SecretBytes,
) -> io::Result<usize> {
    let operation = match operation {
        PkeyOperation::Encrypt => PKEY_ENCRYPT,
        PkeyOperation::Decrypt => PKEY_DECRYPT,
        PkeyOperation::Sign => PKEY_SIGN,
    };
    pkey(operation, key, info, input, output.as_mut_slice())
}

fn pkey(
    operation: i32,
    key: KeySerial,
    info: &CStr,
    input: &[u8],
    output: &mut [u8],
) -> io::Result<usize> {
    let params = params(key, input.len(), output.len())?;
    // Safety: input and output have the lengths in `params`, `info` ends in NUL.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            operation,
            ptr::from_ref(&params),
            info.as_ptr(),
            input.as_ptr(),
            output.as_mut_ptr(),
        )
    })
    .map(|n| n as usize)
}

fn params(key: KeySerial, in_len: usize, out_len: usize) -> io::Result<RawParams> {
    let length =
        |n: usize| u32::try_from(n).map_err(|_| io::Error::from_raw_os_error(libc::EMSGSIZE));
    Ok(RawParams {
        key: key.raw(),
        in_len: length(in_len)?,
        out_len: length(out_len)?,
        spare: [0; 7],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    const CERTIFICATE: &[u8] = include_bytes!("../tests/data/rsa2048-certificate.der");
    /// SHA-256 of `keyns`.
    const DIGEST: &[u8] = include_bytes!("../tests/data/digest.sha256");
    const SIGNATURE: &[u8] = include_bytes!("../tests/data/rsa2048-signature");

    fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
        result.unwrap_err().raw_os_error()
    }

    /// The test thread's keyring vanishes with the thread, and the key with it.
    fn certificate() -> KeySerial {
        key::add_key(
            c"asymmetric",
            c"keyns-test-rsa",
            CERTIFICATE,
            KeySerial::THREAD,
        )
        .unwrap()
    }

    #[test]
    fn a_certificate_can_verify_and_encrypt_but_not_sign() {
        let info = pkey_query(certificate(), c"enc=pkcs1 hash=sha256").unwrap();
        assert_eq!(info.key_bits, 2048);
        assert_eq!(info.max_signature, 256);
        assert!(info.can_verify && info.can_encrypt);
        assert!(!info.can_sign && !info.can_decrypt);
    }

    #[test]
    fn a_good_signature_is_accepted_and_a_bad_one_rejected() {
        let key = certificate();
        pkey_verify(key, c"enc=pkcs1 hash=sha256", DIGEST, SIGNATURE).unwrap();
        let mut bad = DIGEST.to_vec();
        bad[0] ^= 1;
        let verdict = pkey_verify(key, c"enc=pkcs1 hash=sha256", &bad, SIGNATURE);
        assert_eq!(errno(verdict), Some(libc::EKEYREJECTED));
    }

    #[test]
    fn encryption_fills_the_modulus_and_never_repeats() {
        let key = certificate();
        let once = pkey_encrypt(key, c"enc=pkcs1", b"secret").unwrap();
        let again = pkey_encrypt(key, c"enc=pkcs1", b"secret").unwrap();
        assert_eq!(once.len(), 256);
        assert_ne!(once, again);
    }

    #[test]
    fn a_public_key_cannot_sign_or_decrypt() {
        let key = certificate();
        assert!(pkey_sign(key, c"enc=pkcs1 hash=sha256", DIGEST).is_err());
        assert!(pkey_decrypt(key, c"enc=pkcs1", SIGNATURE).is_err());
    }

    #[test]
    fn other_types_have_no_public_key_operations() {
        let key = key::add_key(c"user", c"keyns-test-nopkey", b"x", KeySerial::THREAD).unwrap();
        assert_eq!(errno(pkey_query(key, c"")), Some(libc::EOPNOTSUPP));
    }

    #[test]
    fn diffie_hellman_is_computed_exactly_where_the_kernel_says_it_can() {
        // 2 ^ 10 modulo the 1536-bit prime of RFC 3526 is 1024: small numbers make the expected
        // value obvious.
        let prime = include_bytes!("../tests/data/modp1536");
        let add = |name, value: &[u8]| key::add_key(c"user", name, value, KeySerial::THREAD);
        let keys = DhKeys {
            private: add(c"keyns-test-dh-private", &[10]).unwrap(),
            prime: add(c"keyns-test-dh-prime", prime).unwrap(),
            base: add(c"keyns-test-dh-base", &[2]).unwrap(),
        };
        let kdf = Kdf {
            hash: c"sha256",
            other_info: b"keyns",
        };
        let supported = key::capabilities().unwrap()[0] & 0x04 != 0;
        if supported {
            let result = dh_compute(keys).unwrap();
            assert_eq!(result.len(), 192);
            assert_eq!(
                result.as_slice().iter().rev().take(2).collect::<Vec<_>>(),
                [&0, &4]
            );
            assert_eq!(dh_compute_kdf(keys, kdf, 48).unwrap().len(), 48);
        } else {
            assert_eq!(errno(dh_compute(keys)), Some(libc::EOPNOTSUPP));
            assert_eq!(errno(dh_compute_kdf(keys, kdf, 48)), Some(libc::EOPNOTSUPP));
        }
        assert_eq!(errno(dh_compute_kdf(keys, kdf, 1025)), Some(libc::EMSGSIZE));
    }
}
