//! Replacing this process by another program, with nothing reset on the way.
//!
//! The standard library's `exec` gives `SIGPIPE` its default action and empties the mask of blocked
//! signals first. A program that only prepares the process for the next one hands on what it was
//! given. And C libraries differ in what they do with a script that names no interpreter; here it
//! is always given to `/bin/sh`, as execvp(3) of the GNU library does.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::ptr;

/// Where programs are looked for without `PATH` (`confstr(_CS_PATH)`).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";
/// `NAME_MAX`: no file has a longer name.
const LONGEST_NAME: usize = 255;

/// Executes exactly the file `program` (execv(3)).
///
/// `words` are its arguments, its name first. Returns only when that failed.
#[must_use]
pub fn file(program: &CStr, words: &[&CStr]) -> io::Error {
    let words: Vec<_> = words
        .iter()
        .map(|word| word.as_ptr())
        .chain([ptr::null()])
        .collect();
    // Safety: the array ends in a null pointer; the strings in it end in NUL and outlive the call.
    unsafe { libc::execv(program.as_ptr(), words.as_ptr()) };
    io::Error::last_os_error()
}

/// Executes `program`, looked for along `PATH` unless its name has a slash (execvp(3)).
///
/// Returns only when that failed, as [`file`] does; with `EACCES` when a file was found that may not
/// be executed and no other could be.
#[must_use]
pub fn along_path(program: &CStr, words: &[&CStr]) -> io::Error {
    let name = program.to_bytes();
    if name.is_empty() {
        return io::Error::from_raw_os_error(libc::ENOENT);
    }
    if name.contains(&b'/') {
        return or_as_script(program, words);
    }
    if name.len() > LONGEST_NAME {
        return io::Error::from_raw_os_error(libc::ENAMETOOLONG);
    }
    let path = variable("PATH");
    let path = path.as_ref().map_or(DEFAULT_PATH, |path| path.to_bytes());
    let mut forbidden = false;
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for directory in path.split(|byte| *byte == b':') {
        // An empty entry is the current directory.
        let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        let Ok(candidate) = CString::new([directory, slash, name].concat()) else {
            continue;
        };
        last = or_as_script(&candidate, words);
        match last.raw_os_error() {
            Some(libc::EACCES) => forbidden = true,
            Some(libc::ENOENT | libc::ESTALE | libc::ENOTDIR | libc::ENODEV | libc::ETIMEDOUT) => {}
            _ => return last,
        }
    }
    if forbidden {
        io::Error::from_raw_os_error(libc::EACCES)
    } else {
        last
    }
}

fn or_as_script(program: &CStr, words: &[&CStr]) -> io::Error {
    let error = file(program, words);
    if error.raw_os_error() != Some(libc::ENOEXEC) {
        return error;
    }
    let mut shell = vec![c"/bin/sh", program];
    shell.extend(words.iter().skip(1));
    file(c"/bin/sh", &shell)
}

/// The value of a variable of the environment.
#[must_use]
pub fn variable(name: &str) -> Option<CString> {
    use std::os::unix::ffi::OsStringExt as _;
    CString::new(std::env::var_os(name)?.into_vec()).ok()
}

/// Makes writing to a closed pipe an error, as the standard library's start-up does, here and in
/// programs that are executed with [`file`] or started as a [handler](crate::handler).
pub fn ignore_broken_pipes() {
    // Safety: ignoring a signal runs no code of this process.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Sets a variable of the environment for the program that is executed next.
///
/// The proof stands for what `setenv(3)` demands: no other thread reads the environment meanwhile.
pub fn set_variable(_: &crate::process::SingleThreaded, name: &str, value: &str) {
    // Safety: the process has one thread.
    unsafe { std::env::set_var(name, value) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the test process itself: every case here fails before anything is replaced.
    #[track_caller]
    fn fails(program: &CStr, errno: i32) {
        let error = along_path(program, &[program]);
        assert_eq!(error.raw_os_error(), Some(errno), "{program:?}");
    }

    #[test]
    fn a_failure_is_told_as_by_the_c_library() {
        fails(c"", libc::ENOENT);
        fails(c"keyns-no-such-program", libc::ENOENT);
        fails(c"/keyns-no-such/program", libc::ENOENT);
        fails(c"/etc/passwd", libc::EACCES);
        fails(c"/", libc::EACCES);
        let long = CString::new(vec![b'x'; LONGEST_NAME + 1]).unwrap();
        fails(&long, libc::ENAMETOOLONG);
    }
}
