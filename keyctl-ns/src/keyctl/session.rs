//! `session`, `new_session`, and `--version`.

use std::ffi::CStr;

use keyns_sys::KeySerial;
use keyns_sys::execute;
use keyns_sys::key;

use super::command::Call;
use super::make::print_serial;
use super::output::push_signed;
use super::stop::{Stop, failed};

/// `--version`: the version of the program that this one can be taken for, as scripts compare it.
/// In place of its build date stands the day of its release in Debian.
pub(crate) fn version(call: &mut Call<'_>) -> Result<i32, Stop> {
    call.out
        .push(b"keyctl from keyutils-1.6.3 (Built 2022-12-18)\n");
    Ok(0)
}

/// Joins a session keyring of this name, or a new one.
pub(super) fn join(name: Option<&CStr>) -> Result<KeySerial, Stop> {
    key::join_session_keyring(name).map_err(failed("keyctl_join_session_keyring"))
}

/// Says on standard error which session keyring was joined.
pub(super) fn announce(serial: KeySerial) {
    let mut line = b"Joined session keyring: ".to_vec();
    push_signed(&mut line, serial.raw(), 0);
    line.push(b'\n');
    super::say(&line);
}

/// `session [- | <name>] [<prog> <arg1> <arg2> ...]`
pub(crate) fn session(call: &mut Call<'_>) -> Result<i32, Stop> {
    let (name, program) = match call.words {
        [] => (None, [].as_slice()),
        [name, program @ ..] => ((*name != c"-").then_some(*name), program),
    };
    announce(join(name)?);
    Err(become_program(program))
}

/// Replaces this process by a program, or by the user's shell; returns why not.
pub(super) fn become_program(program: &[&CStr]) -> Stop {
    let shell;
    let (name, error) = match program.first() {
        Some(name) => (*name, execute::along_path(name, program)),
        None => {
            shell = execute::variable("SHELL").unwrap_or_else(|| c"/bin/sh".into());
            (&*shell, execute::file(&shell, &[&shell]))
        }
    };
    Stop::Failed(name.to_bytes().to_vec(), super::stop::errno(&error))
}

/// `new_session [<name>]`: for the parent process.
pub(crate) fn new_session(call: &mut Call<'_>) -> Result<i32, Stop> {
    let name = call.words.first().copied();
    join(name)?;
    key::session_to_parent().map_err(failed("keyctl_session_to_parent"))?;
    let serial =
        key::get_keyring_id(KeySerial::SESSION, false).map_err(failed("keyctl_get_keyring_ID"))?;
    Ok(print_serial(call, serial))
}
