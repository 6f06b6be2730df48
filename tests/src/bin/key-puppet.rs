//! A process that makes key system calls as it is told, one line each, and prints what the kernel
//! answered: `ok VALUE` or `err ERRNO`. Tests make it a denizen, a lender or a stranger.

use std::ffi::CString;
use std::io::{self, BufRead as _, Write as _};

use keyns::engine::keyring::SessionPlan;
use keyns_sys::{KeySerial, cred, key};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{setgroups, setresgid, setresuid};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match obey(&words) {
            Ok(value) => writeln!(out, "ok {value}")?,
            Err(error) => writeln!(out, "err {}", error.raw_os_error().unwrap_or(0))?,
        }
        out.flush()?;
    }
    Ok(())
}

fn obey(words: &[&str]) -> io::Result<String> {
    let done = |()| String::new();
    let shown = |serial: KeySerial| serial.to_string();
    match *words {
        ["pid"] => Ok(std::process::id().to_string()),
        // As the program that starts processes in containers does it.
        ["take-up", plan] => {
            let plan: SessionPlan = serde_json::from_str(plan)?;
            plan.take_up()
                .map(done)
                .map_err(|f| io::Error::from_raw_os_error(f.errno))
        }
        ["join"] => key::join_session_keyring(None).map(shown),
        ["join", name] => key::join_session_keyring(Some(&text(name)?)).map(shown),
        ["userns"] => Ok(done(unshare(CloneFlags::CLONE_NEWUSER)?)),
        ["netns"] => Ok(done(unshare(CloneFlags::CLONE_NEWNET)?)),
        ["become", uid] => {
            let id = number(uid)? as u32;
            setgroups(&[])?;
            setresgid(id.into(), id.into(), id.into())?;
            setresuid(id.into(), id.into(), id.into())?;
            Ok(String::new())
        }
        ["fsuid", uid] => cred::set_fsuid(number(uid)? as u32).map(done),
        ["add", type_, description, payload, keyring] => {
            let payload = if payload == "-" { "" } else { payload };
            key::add_key(
                &text(type_)?,
                &text(description)?,
                payload.as_bytes(),
                serial(keyring)?,
            )
            .map(shown)
        }
        ["request", type_, description] => {
            key::request_key(&text(type_)?, &text(description)?, None, KeySerial::NONE).map(shown)
        }
        ["request", type_, description, keyring] => {
            key::request_key(&text(type_)?, &text(description)?, None, serial(keyring)?).map(shown)
        }
        ["search", keyring, type_, description] => key::search(
            serial(keyring)?,
            &text(type_)?,
            &text(description)?,
            KeySerial::NONE,
        )
        .map(shown),
        ["id", keyring] => key::get_keyring_id(serial(keyring)?, false).map(shown),
        ["read", k] => Ok(String::from_utf8_lossy(&key::read(serial(k)?)?).into_owned()),
        ["list", k] => {
            let serials = key::read_keyring(serial(k)?)?;
            Ok(serials.into_iter().map(shown).collect::<Vec<_>>().join(","))
        }
        ["describe", k] => Ok(String::from_utf8_lossy(&key::describe(serial(k)?)?).into_owned()),
        ["update", k, payload] => key::update(serial(k)?, payload.as_bytes()).map(done),
        ["link", k, keyring] => key::link(serial(k)?, serial(keyring)?).map(done),
        ["unlink", k, keyring] => key::unlink(serial(k)?, serial(keyring)?).map(done),
        ["move", k, from, to] => key::move_key(serial(k)?, serial(from)?, serial(to)?, 0).map(done),
        ["clear", k] => key::clear(serial(k)?).map(done),
        ["setperm", k, mask] => key::set_perm(serial(k)?, number(mask)? as u32).map(done),
        ["chown", k, uid] => key::chown(serial(k)?, Some(number(uid)? as u32), None).map(done),
        ["timeout", k, seconds] => key::set_timeout(serial(k)?, number(seconds)? as u32).map(done),
        ["restrict", k] => key::restrict_keyring(serial(k)?, None, None).map(done),
        ["revoke", k] => key::revoke(serial(k)?).map(done),
        ["invalidate", k] => key::invalidate(serial(k)?).map(done),
        ["keys"] => Ok(String::from_utf8_lossy(&std::fs::read("/proc/keys")?).replace('\n', "|")),
        _ => Err(io::Error::other("unknown word")),
    }
}

fn text(word: &str) -> io::Result<CString> {
    CString::new(word).map_err(io::Error::other)
}

fn number(word: &str) -> io::Result<i64> {
    match word.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => word.parse(),
    }
    .map_err(io::Error::other)
}

fn serial(word: &str) -> io::Result<KeySerial> {
    Ok(KeySerial::new(match word {
        "@t" => -1,
        "@p" => -2,
        "@s" => -3,
        "@u" => -4,
        _ => i32::try_from(number(word)?).map_err(io::Error::other)?,
    }))
}
