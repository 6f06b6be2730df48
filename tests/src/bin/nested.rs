//! A program in the place of the original `request-key` that asks for another key in the requester's
//! name: `nested DIRECTORY DESCRIPTION create TARGET …`, once there is a file `go` in the directory.
//!
//! It writes to `report` what came of that while the request it serves was open, and of the same
//! after it had rejected it: a payload, or the errno.
//!
//! Should its own request lead to it again, it ends at once: each level would hold one of the
//! kernel's workers for helpers, and once they are used up nothing but a reboot frees them.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use keyns_sys::{KeySerial, key};

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [directory, description, _, target, ..] = words.as_slice() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = Path::new(directory);
    let target = KeySerial::new(target.parse().map_err(io::Error::other)?);
    fs::File::create_new(directory.join("started"))?;
    let mut left = 1000;
    while !directory.join("go").exists() {
        left -= 1;
        if left == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    key::assume_authority(target)?;
    let open = ask(description);
    key::reject(target, 2, libc::EKEYREJECTED, KeySerial::NONE)?;
    let over = ask(&format!("{description} again"));
    fs::write(directory.join("report"), format!("{open}\n{over}\n"))
}

fn ask(description: &str) -> String {
    let ask = || {
        let (description, callout) = (CString::new(description)?, c"nested");
        let found = key::request_key(c"user", &description, Some(callout), KeySerial::NONE)?;
        key::read(found)
    };
    match ask() {
        Ok(payload) => String::from_utf8_lossy(&payload).into_owned(),
        Err(e) => e.raw_os_error().unwrap_or(0).to_string(),
    }
}
