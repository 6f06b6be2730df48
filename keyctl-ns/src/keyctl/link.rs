//! What keyrings hold: `link`, `unlink`, `move`, `clear`, `restrict_keyring`.

use keyns_sys::key::{self, MOVE_EXCL};

use super::command::Call;
use super::key_id;
use super::purge;
use super::stop::{Stop, failed};

/// `link <key> <keyring>`
pub(crate) fn link(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, ring] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let ring = key_id::key(ring)?;
    key::link(serial, ring).map_err(failed("keyctl_link"))?;
    Ok(0)
}

/// `unlink <key> [<keyring>]`: without keyring, from every one below the session keyring.
pub(crate) fn unlink(call: &mut Call<'_>) -> Result<i32, Stop> {
    match call.words {
        [word, ring] => {
            let serial = key_id::key(word)?;
            let ring = key_id::key(ring)?;
            key::unlink(serial, ring).map_err(failed("keyctl_unlink"))?;
            Ok(0)
        }
        [word] => purge::unlink_everywhere(key_id::key(word)?, call),
        _ => Err(Stop::Usage),
    }
}

/// `move [-f] <key> <from_keyring> <to_keyring>`: without `-f`, nothing may be displaced.
pub(crate) fn move_key(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, from, to] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let from = key_id::key(from)?;
    let to = key_id::key(to)?;
    let flags = if call.flag { 0 } else { MOVE_EXCL };
    key::move_key(serial, from, to, flags).map_err(failed("keyctl_move"))?;
    Ok(0)
}

/// `clear <keyring>`
pub(crate) fn clear(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word] = call.words else {
        return Err(Stop::Usage);
    };
    key::clear(key_id::key(word)?).map_err(failed("keyctl_clear"))?;
    Ok(0)
}

/// `restrict_keyring <keyring> [<type> [<restriction>]]`
pub(crate) fn restrict_keyring(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, rest @ ..] = call.words else {
        return Err(Stop::Usage);
    };
    let ring = key_id::key(word)?;
    let (type_, restriction) = (rest.first().copied(), rest.get(1).copied());
    key::restrict_keyring(ring, type_, restriction).map_err(failed("keyctl_restrict_keyring"))?;
    Ok(0)
}
