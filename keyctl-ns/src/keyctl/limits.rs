//! `--test`: whether the kernel keeps its limits on types, descriptions and payloads.

use std::ffi::CString;
use std::io;

use keyns_sys::KeySerial;
use keyns_sys::key;

use super::command::{self, Call, Command};
use super::errno_text;
use super::output::push_unsigned;
use super::stop::{Stop, errno};

/// The tests, in the order of their usage text.
pub(crate) const TESTS: &[Command] = &[
    Command::test("limits", limits),
    Command::test("limits2", payload_limits),
];

/// After so many, there is something wrong with more than a limit.
const TOO_MANY: u32 = 20;
const EINVAL: i32 = 22;
const ENODEV: i32 = 19;
const EDQUOT: i32 = 122;

/// `--test ...`
pub(crate) fn test(call: &mut Call<'_>) -> Result<i32, Stop> {
    let Some((name, words)) = call.words.split_first() else {
        return Err(Stop::TestUsage);
    };
    match command::find(TESTS, name) {
        Some(test) => command::run(test, words, call.out, &Stop::TestUsage),
        None => Err(Stop::said("Unknown test command", 2)),
    }
}

/// Counts what is not as it should be, and says so.
#[derive(Default)]
struct Deviations(u32);

impl Deviations {
    fn add(&mut self, size: usize, what: &str, error: Option<&io::Error>) -> Result<(), Stop> {
        let mut line = Vec::new();
        push_unsigned(&mut line, size as u64, 0);
        line.push(b' ');
        line.extend_from_slice(what.as_bytes());
        if let Some(error) = error {
            line.extend_from_slice(b": ");
            errno_text::push(errno(error), &mut line);
        }
        line.push(b'\n');
        super::say(&line);
        self.0 += 1;
        if self.0 > TOO_MANY {
            return Err(Stop::said("Aborting with too many failures", 1));
        }
        Ok(())
    }

    /// Compares what became of a key with whether it should have been made, and removes it.
    fn judge(&mut self, size: usize, fits: bool, made: io::Result<KeySerial>) -> Result<(), Stop> {
        match made {
            Ok(serial) => {
                if !fits {
                    self.add(size, "desc unexpectedly succeeded", None)?;
                }
                unlink(serial)
            }
            Err(error) if fits => self.add(size, "desc failed", Some(&error)),
            Err(error) if errno(&error) != EINVAL => {
                self.add(size, "desc wrong error", Some(&error))
            }
            Err(_) => Ok(()),
        }
    }

    fn status(&self) -> i32 {
        i32::from(self.0 > 0)
    }
}

fn text(length: usize) -> Result<CString, Stop> {
    CString::new(vec![b'a'; length]).map_err(|_| Stop::Usage)
}

/// Prints at once: the test takes its time.
fn progress(call: &mut Call<'_>, text: &[u8]) {
    call.out.push(text);
    call.out.flush();
}

fn unlink(serial: KeySerial) -> Result<(), Stop> {
    key::unlink(serial, KeySerial::THREAD)
        .map_err(|error| Stop::Failed(b"Unlink failed".to_vec(), errno(&error)))
}

/// `--test limits`: names of types and descriptions of every length.
fn limits(call: &mut Call<'_>) -> Result<i32, Stop> {
    let mut deviations = Deviations::default();
    for size in 0..8192 {
        if size % 32 == 0 {
            if size > 0 {
                progress(call, b"\n");
            }
            push_unsigned_line(call, size, 0);
        }
        let name = text(size)?;
        progress(call, b".");
        let expected = if (1..32).contains(&size) {
            ENODEV
        } else {
            EINVAL
        };
        match key::add_key(&name, c"wibble", b"a", KeySerial::THREAD) {
            Ok(serial) => {
                deviations.add(size, "type unexpectedly succeeded", None)?;
                unlink(serial)?;
            }
            Err(error) if errno(&error) == expected => {}
            Err(error) => deviations.add(size, "type failed", Some(&error))?,
        }
        progress(call, b"_");
        let fits = (1..4096).contains(&size);
        let result = key::add_key(c"user", &name, b"a", KeySerial::THREAD);
        deviations.judge(size, fits, result)?;
    }
    progress(call, b"\n");
    Ok(deviations.status())
}

fn push_unsigned_line(call: &mut Call<'_>, size: usize, width: usize) {
    call.out.push(b"TEST SIZE ");
    push_unsigned(call.out.buffer(), size as u64, width);
    call.out.flush();
}

/// `--test limits2`: payloads of every size.
fn payload_limits(call: &mut Call<'_>) -> Result<i32, Stop> {
    let mut deviations = Deviations::default();
    let payload = vec![b'a'; 1030 * 1024];
    for size in 0..payload.len() {
        if size % 2048 == 0 {
            if size > 0 {
                progress(call, b"\n");
            }
            push_unsigned_line(call, size, 7);
            progress(call, b" ");
        }
        if size % 64 == 0 {
            progress(call, b".");
        }
        let payload = payload.get(..size).unwrap_or_default();
        let fits = (1..=32767).contains(&size);
        match key::add_key(c"user", c"wibble", payload, KeySerial::THREAD) {
            // Keys that were unlinked count until they are collected.
            Err(error) if errno(&error) == EDQUOT => {}
            result => deviations.judge(size, fits, result)?,
        }
    }
    progress(call, b"\n");
    Ok(deviations.status())
}
