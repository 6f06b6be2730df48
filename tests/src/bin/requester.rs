//! A process that asks for one key when it is told to: `requester TYPE DESCRIPTION CALLOUT [thread]`.
//!
//! It prints `ready PIDNS USERNS`, waits for a line, asks, and prints `payload TEXT` or
//! `errno NUMBER`. With `thread` another thread than the leader asks.

use std::ffi::CString;
use std::fs;
use std::io;

use keyns_sys::{KeySerial, key};

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (wish, by_thread) = match words.as_slice() {
        [type_name, description, callout] => ([type_name, description, callout], false),
        [type_name, description, callout, _] => ([type_name, description, callout], true),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    println!("ready {} {}", inode("pid")?, inode("user")?);
    let mut word = String::new();
    if io::stdin().read_line(&mut word)? == 0 {
        return Ok(());
    }
    let [type_name, description, callout] = wish.map(|w| CString::new(w.as_str()));
    let (type_name, description, callout) = (type_name?, description?, callout?);
    let ask = move || {
        // A session of its own: what others asked for before must not be found.
        key::join_session_keyring(None)?;
        let found = key::request_key(&type_name, &description, Some(&callout), KeySerial::SESSION)?;
        key::read(found)
    };
    let answer = if by_thread {
        std::thread::spawn(ask)
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    } else {
        ask()
    };
    match answer {
        Ok(payload) => println!("payload {}", String::from_utf8_lossy(&payload)),
        Err(e) => println!("errno {}", e.raw_os_error().unwrap_or(0)),
    }
    leave_no_user_keyrings()
}

/// A uid that only a test has must not keep the keyrings the kernel made for it. Each look-up makes
/// both again, so that their serials are read first.
fn leave_no_user_keyrings() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        let both = [KeySerial::USER_SESSION, KeySerial::USER].map(|k| key::get_keyring_id(k, true));
        for serial in both {
            key::invalidate(serial?)?;
        }
    }
    Ok(())
}

fn inode(kind: &str) -> io::Result<String> {
    let link = fs::read_link(format!("/proc/self/ns/{kind}"))?;
    Ok(link
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_digit)
        .collect())
}
