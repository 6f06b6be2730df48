//! Making keys and giving them content: `add`, `padd`, `newring`, `update`, `pupdate`, and what a
//! handler of requests calls: `instantiate`, `pinstantiate`, `negate`, `reject`.
//!
//! Each evaluates its arguments in the order of the original, as that decides which of several
//! mistakes is reported.

use std::ffi::CStr;

use keyns_sys::KeySerial;
use keyns_sys::key;
use keyns_sys::secret::SecretBytes;

use super::attribute::timeout_of;
use super::command::Call;
use super::key_id;
use super::number::{self, Base};
use super::output::push_signed;
use super::payload;
use super::stop::{Stop, failed};

/// Prints the serial of a key that was made or found.
pub(super) fn print_serial(call: &mut Call<'_>, serial: KeySerial) -> i32 {
    push_signed(call.out.buffer(), serial.raw(), 0);
    call.out.push(b"\n");
    0
}

fn add_key(
    call: &mut Call<'_>,
    type_: &CStr,
    description: &CStr,
    payload: &SecretBytes,
    ring: &CStr,
) -> Result<i32, Stop> {
    let ring = key_id::key(ring)?;
    let serial =
        key::add_key(type_, description, payload.as_slice(), ring).map_err(failed("add_key"))?;
    Ok(print_serial(call, serial))
}

/// `add [-x] <type> <desc> <data> <keyring>`
pub(crate) fn add(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [type_, description, data, ring] = call.words else {
        return Err(Stop::Usage);
    };
    let payload = payload::of(data.to_bytes(), call.flag)?;
    add_key(call, type_, description, &payload, ring)
}

/// `padd [-x] <type> <desc> <keyring>`
pub(crate) fn padd(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [type_, description, ring] = call.words else {
        return Err(Stop::Usage);
    };
    let payload = payload::of_secret(payload::from_stdin()?, call.flag)?;
    add_key(call, type_, description, &payload, ring)
}

/// `newring <name> <keyring>`
pub(crate) fn newring(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [name, ring] = call.words else {
        return Err(Stop::Usage);
    };
    add_key(call, c"keyring", name, &SecretBytes::default(), ring)
}

/// `update [-x] <key> <data>`
pub(crate) fn update(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, data] = call.words else {
        return Err(Stop::Usage);
    };
    let payload = payload::of(data.to_bytes(), call.flag)?;
    let serial = key_id::key(word)?;
    key::update(serial, payload.as_slice()).map_err(failed("keyctl_update"))?;
    Ok(0)
}

/// `pupdate [-x] <key>`
pub(crate) fn pupdate(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let payload = payload::of_secret(payload::from_stdin()?, call.flag)?;
    key::update(serial, payload.as_slice()).map_err(failed("keyctl_update"))?;
    Ok(0)
}

/// `instantiate [-x] <key> <data> <keyring>`
pub(crate) fn instantiate(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, data, ring] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let ring = key_id::key(ring)?;
    let payload = payload::of(data.to_bytes(), call.flag)?;
    key::instantiate(serial, payload.as_slice(), ring).map_err(failed("keyctl_instantiate"))?;
    Ok(0)
}

/// `pinstantiate [-x] <key> <keyring>`
pub(crate) fn pinstantiate(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, ring] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let ring = key_id::key(ring)?;
    let payload = payload::of_secret(payload::from_stdin()?, call.flag)?;
    key::instantiate(serial, payload.as_slice(), ring).map_err(failed("keyctl_instantiate"))?;
    Ok(0)
}

/// `negate <key> <timeout> <keyring>`
pub(crate) fn negate(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, timeout, ring] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let timeout = timeout_of(timeout)?;
    let ring = key_id::key(ring)?;
    key::negate(serial, timeout, ring).map_err(failed("keyctl_negate"))?;
    Ok(0)
}

/// Errors that have a name.
const REJECTIONS: [(&[u8], u32); 3] = [(b"rejected", 129), (b"revoked", 128), (b"expired", 127)];

/// `reject <key> <timeout> <error> <keyring>`
pub(crate) fn reject(call: &mut Call<'_>) -> Result<i32, Stop> {
    const EOPNOTSUPP: i32 = 95;
    let [word, timeout, error, ring] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let timeout = timeout_of(timeout)?;
    let text = error.to_bytes();
    let errno = REJECTIONS
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, errno)| *errno)
        .or_else(|| number::whole(text, Base::Ten))
        .ok_or_else(|| Stop::unparsable("Unparsable error", text))?;
    let ring = key_id::key(ring)?;
    key::reject(serial, timeout, errno.cast_signed(), ring)
        .or_else(|error| match error.raw_os_error() {
            // A kernel before 2.6.39.
            Some(EOPNOTSUPP) => key::negate(serial, timeout, ring),
            _ => Err(error),
        })
        // So it is labelled.
        .map_err(failed("keyctl_negate"))?;
    Ok(0)
}
