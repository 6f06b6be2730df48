//! Diffie-Hellman: `dh_compute`, `dh_compute_kdf`, `dh_compute_kdf_oi`.

use std::ffi::CStr;

use keyns_sys::key_crypto::{self, DhKeys, Kdf, MAX_KDF_OUTPUT};
use keyns_sys::secret::SecretBytes;

use super::command::Call;
use super::key_id;
use super::number::{self, Base};
use super::output::{push_dump, push_unsigned};
use super::payload;
use super::stop::{Stop, failed};

fn keys(private: &CStr, prime: &CStr, base: &CStr) -> Result<DhKeys, Stop> {
    Ok(DhKeys {
        private: key_id::key(private)?,
        prime: key_id::key(prime)?,
        base: key_id::key(base)?,
    })
}

fn print(call: &mut Call<'_>, result: &[u8]) {
    push_unsigned(call.out.buffer(), result.len() as u64, 0);
    call.out.push(b" bytes of data in result:\n");
    push_dump(call.out.buffer(), result);
    if result.is_empty() {
        // The original shows one byte in any case, here one that it has never set.
        call.out.push(b"00\n");
    }
}

/// `dh_compute <private> <prime> <base>`
pub(crate) fn compute(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [private, prime, base] = call.words else {
        return Err(Stop::Usage);
    };
    let result = key_crypto::dh_compute(keys(private, prime, base)?)
        .map_err(failed("keyctl_dh_compute_alloc"))?;
    print(call, result.as_slice());
    Ok(0)
}

/// `dh_compute_kdf <private> <prime> <base> <len> <hash_name>`
pub(crate) fn kdf(call: &mut Call<'_>) -> Result<i32, Stop> {
    derive(call, |_| Ok(SecretBytes::default()))
}

/// `dh_compute_kdf_oi [-x] <private> <prime> <base> <len> <hash_name>`
pub(crate) fn kdf_with_other_info(call: &mut Call<'_>) -> Result<i32, Stop> {
    derive(call, |call| {
        payload::of_secret(payload::from_stdin()?, call.flag)
    })
}

fn derive(
    call: &mut Call<'_>,
    other_info: impl FnOnce(&Call<'_>) -> Result<SecretBytes, Stop>,
) -> Result<i32, Stop> {
    let [private, prime, base, length, hash] = call.words else {
        return Err(Stop::Usage);
    };
    let keys = keys(private, prime, base)?;
    let mut result = room(length)?;
    let other_info = other_info(call)?;
    let kdf = Kdf {
        hash,
        other_info: other_info.as_slice(),
    };
    let length =
        key_crypto::dh_derive(keys, kdf, &mut result).map_err(failed("keyctl_dh_compute_kdf"))?;
    print(call, result.truncated(length).as_slice());
    Ok(0)
}

/// Room for a result. Whatever stands behind the number is ignored.
fn room(word: &CStr) -> Result<SecretBytes, Stop> {
    const ERANGE: i32 = 34;
    const ENOMEM: i32 = 12;
    let parsed = number::parse(word.to_bytes(), Base::Ten);
    if parsed.value == u64::MAX {
        // No error, if somebody wrote just that number.
        let errno = if parsed.overflow { ERANGE } else { 0 };
        let label = b"dh_compute: cannot convert generated length value";
        return Err(Stop::Failed(label.to_vec(), errno));
    }
    let fits = usize::try_from(parsed.value)
        .is_ok_and(|length| Vec::<u8>::new().try_reserve_exact(length).is_ok());
    if !fits {
        let label = b"dh_compute: cannot allocate memory";
        return Err(Stop::Failed(label.to_vec(), ENOMEM));
    }
    // The kernel refuses a length beyond its limit by how much it may be, not by how much it is.
    let length = parsed.value.min(MAX_KDF_OUTPUT as u64 + 1) as usize;
    Ok(SecretBytes::zeroed(length))
}
