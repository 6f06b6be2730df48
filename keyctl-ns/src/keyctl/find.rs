//! Finding keys: `request`, `request2`, `prequest2`, `search`, `id`, `get_persistent`.

use std::ffi::{CStr, CString};

use keyns_sys::KeySerial;
use keyns_sys::key;

use super::command::Call;
use super::key_id;
use super::make::print_serial;
use super::number::{self, Base};
use super::payload;
use super::stop::{Stop, failed};

fn request_key(
    call: &mut Call<'_>,
    type_: &CStr,
    description: &CStr,
    callout: Option<&CStr>,
    destination: KeySerial,
) -> Result<i32, Stop> {
    let serial = key::request_key(type_, description, callout, destination)
        .map_err(failed("request_key"))?;
    Ok(print_serial(call, serial))
}

/// `request <type> <desc> [<dest_keyring>]`: without callout information nobody is asked.
pub(crate) fn request(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [type_, description, rest @ ..] = call.words else {
        return Err(Stop::Usage);
    };
    let destination = key_id::destination(rest.first())?;
    request_key(call, type_, description, None, destination)
}

/// `request2 <type> <desc> <info> [<dest_keyring>]`
pub(crate) fn request2(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [type_, description, callout, rest @ ..] = call.words else {
        return Err(Stop::Usage);
    };
    let destination = key_id::destination(rest.first())?;
    request_key(call, type_, description, Some(callout), destination)
}

/// `prequest2 <type> <desc> [<dest_keyring>]`
pub(crate) fn prequest2(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [type_, description, rest @ ..] = call.words else {
        return Err(Stop::Usage);
    };
    let input = payload::from_stdin()?;
    // A text of C: it ends where its first NUL is.
    let text = input.as_slice().split(|byte| *byte == 0).next();
    let callout = CString::new(text.unwrap_or_default()).map_err(|_| Stop::Usage)?;
    let destination = key_id::destination(rest.first())?;
    request_key(call, type_, description, Some(&callout), destination)
}

/// `search <keyring> <type> <desc> [<dest_keyring>]`
pub(crate) fn search(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [ring, type_, description, rest @ ..] = call.words else {
        return Err(Stop::Usage);
    };
    let ring = key_id::key(ring)?;
    let destination = key_id::destination(rest.first())?;
    let serial =
        key::search(ring, type_, description, destination).map_err(failed("keyctl_search"))?;
    Ok(print_serial(call, serial))
}

/// `id <key>`
pub(crate) fn id(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word] = call.words else {
        return Err(Stop::Usage);
    };
    let serial =
        key::get_keyring_id(key_id::key(word)?, false).map_err(failed("keyctl_get_keyring_ID"))?;
    Ok(print_serial(call, serial))
}

/// `get_persistent <keyring> [<uid>]`
pub(crate) fn get_persistent(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [ring, rest @ ..] = call.words else {
        return Err(Stop::Usage);
    };
    let ring = key_id::key(ring)?;
    let uid = match rest.first().map(|word| word.to_bytes()) {
        None => u32::MAX,
        Some(text) => number::whole(text, Base::Any)
            .ok_or_else(|| Stop::unparsable("Unparsable uid", text))?,
    };
    let serial = key::get_persistent(Some(uid), ring).map_err(failed("keyctl_get_persistent"))?;
    Ok(print_serial(call, serial))
}
