//! Single key system calls, each shown with its answer.

use std::ffi::CString;
use std::fmt::Display;
use std::io;
use std::time::{Duration, Instant};

use keyns::errno::Errno;
use keyns::text::Escaped;
use keyns_sys::{KeySerial, key};

/// What the kernel said in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It did what was asked.
    Done,
    /// It did not.
    Refused,
}

/// How often a key is looked for while waiting for a payload.
const EVERY: Duration = Duration::from_millis(10);

/// An error as strace(1) shows it.
pub(crate) fn refusal(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let name = Errno::of(error).map_or_else(|| "?".to_owned(), |errno| errno.to_string());
    format!("{name} ({text})")
}

fn show(call: &str, result: &io::Result<impl Display>) -> Answer {
    match result {
        Ok(value) => {
            println!("{call} = {value}");
            Answer::Done
        }
        Err(error) => {
            println!("{call} = -1 {}", refusal(error));
            Answer::Refused
        }
    }
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", Escaped::new(bytes))
}

/// Which process this is, by its own view.
pub(crate) fn who() {
    println!("getpid() = {}", std::process::id());
}

/// Joins a new, empty session keyring.
pub(crate) fn new_session() -> Answer {
    show(
        "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)",
        &key::join_session_keyring(None),
    )
}

/// Requests a key and reads it. `None` if the words cannot name a key.
pub(crate) fn request(type_: &str, description: &str, callout: Option<&str>) -> Option<Answer> {
    let (name, text) = (CString::new(type_).ok()?, CString::new(description).ok()?);
    let info = callout.map(CString::new).transpose().ok()?;
    let found = key::request_key(&name, &text, info.as_deref(), KeySerial::NONE);
    let call = format!(
        "request_key({}, {}, {}, 0)",
        quoted(type_.as_bytes()),
        quoted(description.as_bytes()),
        callout.map_or_else(|| "NULL".to_owned(), |text| quoted(text.as_bytes())),
    );
    let answer = show(&call, &found);
    if let Ok(serial) = found {
        // A type without a read method, such as logon, can be used but not read.
        read(serial.raw());
    }
    Some(answer)
}

/// Reads a key by its number.
pub(crate) fn read(serial: i32) -> Answer {
    let payload = key::read(KeySerial::new(serial));
    let shown = payload.map(|bytes| format!("{} {}", bytes.len(), quoted(&bytes)));
    show(&format!("keyctl(KEYCTL_READ, {serial})"), &shown)
}

/// Invalidates a key by its number.
pub(crate) fn invalidate(serial: i32) -> Answer {
    let done = key::invalidate(KeySerial::new(serial)).map(|()| 0);
    show(&format!("keyctl(KEYCTL_INVALIDATE, {serial})"), &done)
}

/// Looks for a key until it has `payload`, and says how long that took.
pub(crate) fn wait_for(
    type_: &str,
    description: &str,
    payload: &str,
    patience: Duration,
) -> Option<Answer> {
    let (name, text) = (CString::new(type_).ok()?, CString::new(description).ok()?);
    let begin = Instant::now();
    let has_it = || {
        key::request_key(&name, &text, None, KeySerial::NONE)
            .and_then(key::read)
            .is_ok_and(|bytes| bytes == payload.as_bytes())
    };
    while !has_it() && begin.elapsed() < patience {
        std::thread::sleep(EVERY);
    }
    println!("looked for {} ms", begin.elapsed().as_millis());
    request(type_, description, None)
}

/// Lists the session keyring and the keyrings in it.
pub(crate) fn ring() -> Answer {
    let members = list(KeySerial::SESSION, "KEY_SPEC_SESSION_KEYRING");
    let Ok(members) = members else {
        return Answer::Refused;
    };
    for member in members {
        // What may not be listed is shown as the kernel refuses it.
        let _ = list(member, &member.to_string());
    }
    Answer::Done
}

fn list(keyring: KeySerial, shown: &str) -> io::Result<Vec<KeySerial>> {
    let members = key::read_keyring(keyring);
    let text = members.as_ref().map(|serials| {
        let words: Vec<String> = serials.iter().map(ToString::to_string).collect();
        format!("{{{}}}", words.join(", "))
    });
    let text =
        text.map_err(|error| io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0)));
    show(&format!("keyctl(KEYCTL_READ, {shown})"), &text);
    members
}

/// Shows the kernel's capability bytes in hexadecimal.
pub(crate) fn capabilities() -> Answer {
    let bytes = key::capabilities().map(|bytes| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    });
    show("keyctl(KEYCTL_CAPABILITIES)", &bytes)
}
