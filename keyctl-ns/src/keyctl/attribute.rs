//! Changing what a key is, not what it holds: `chown`, `chgrp`, `setperm`, `timeout`, `revoke`,
//! `invalidate`, and `security`, which only asks.

use std::ffi::CStr;

use keyns_sys::key;

use super::command::Call;
use super::key_id;
use super::number::{self, Base};
use super::stop::{Stop, failed};

/// A number with nothing behind it.
fn number_of(word: &CStr, base: Base, what: &str) -> Result<u32, Stop> {
    number::whole(word.to_bytes(), base).ok_or_else(|| Stop::unparsable(what, word.to_bytes()))
}

/// A number of seconds.
pub(super) fn timeout_of(word: &CStr) -> Result<u32, Stop> {
    number_of(word, Base::Ten, "Unparsable timeout")
}

/// `chown <key> <uid>`
pub(crate) fn chown(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, uid] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let uid = number_of(uid, Base::Any, "Unparsable uid")?;
    key::chown(serial, Some(uid), None).map_err(failed("keyctl_chown"))?;
    Ok(0)
}

/// `chgrp <key> <gid>`
pub(crate) fn chgrp(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, gid] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let gid = number_of(gid, Base::Any, "Unparsable gid")?;
    key::chown(serial, None, Some(gid)).map_err(failed("keyctl_chown"))?;
    Ok(0)
}

/// `setperm <key> <mask>`
pub(crate) fn setperm(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, mask] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let mask = number_of(mask, Base::Any, "Unparsable permissions")?;
    key::set_perm(serial, mask).map_err(failed("keyctl_setperm"))?;
    Ok(0)
}

/// `timeout <key> <timeout>`
pub(crate) fn timeout(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word, timeout] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let timeout = timeout_of(timeout)?;
    key::set_timeout(serial, timeout).map_err(failed("keyctl_set_timeout"))?;
    Ok(0)
}

/// `revoke <key>`
pub(crate) fn revoke(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word] = call.words else {
        return Err(Stop::Usage);
    };
    key::revoke(key_id::key(word)?).map_err(failed("keyctl_revoke"))?;
    Ok(0)
}

/// `invalidate <key>`
pub(crate) fn invalidate(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word] = call.words else {
        return Err(Stop::Usage);
    };
    key::invalidate(key_id::key(word)?).map_err(failed("keyctl_invalidate"))?;
    Ok(0)
}

/// `security <key>`
pub(crate) fn security(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word] = call.words else {
        return Err(Stop::Usage);
    };
    let label = key::get_security(key_id::key(word)?).map_err(failed("keyctl_getsecurity"))?;
    call.out.push(&label);
    call.out.push(b"\n");
    Ok(0)
}
