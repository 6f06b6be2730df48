//! The personality `keyctl`: what the program is when it is called by that name.
//!
//! Scripts, distribution hooks and fingers know the `keyctl` of keyutils 1.6.3. This module answers
//! with the same bytes, in the same order, on the same streams, with the same exit codes; where it
//! does not, `man/keyctl-differences.md` says so and why. Commands that only `keyctl-ns` has do not
//! exist here: what is unknown to the original stays unknown.
//!
//! It is also a **light path**. Most of these commands are one system call, so that starting and
//! ending is what they cost: no argument parser, no runtime, no allocation to speak of, one call
//! per key where the original asks for the size first, and standard output in one piece. It uses
//! nothing but `keyns-sys` and the standard library, and is built a second time by itself, as the
//! program `keyctl` (see `tools/programs.sh`).
//!
//! [`COMMANDS`] is the one table behind look-up, number of arguments, and usage text. Parsers
//! ([`number`], [`key_id`], [`named_key`], [`description`], [`notification`]) and walkers
//! ([`walk`]) know nothing of how it is printed, and serve others too.
//!
//! Descriptions, types and payloads are bytes and go out as they came in, control characters
//! included: that is what the original does, and what programs that read it expect.

pub mod description;
pub mod errno_text;
pub mod key_id;
pub mod named_key;
pub mod notification;
pub mod number;
pub mod options;
pub mod output;
pub mod walk;

mod attribute;
mod command;
mod dh;
mod find;
mod limits;
mod link;
mod list;
mod make;
mod payload;
mod pkey;
mod purge;
mod read;
pub(crate) mod ring;
mod session;
mod show;
mod stop;
mod supports;
mod watch;
mod watch_session;

use std::ffi::CStr;

use keyns_sys::helper_process::Arguments;
use keyns_sys::standard_stream::Stream;

pub use command::{COMMANDS, Command};
use output::Output;
use stop::Stop;

/// The name under which the program behaves as described here.
pub const NAME: &[u8] = b"keyctl";

/// What follows the commands in the usage text.
const LEGEND: &[u8] = b"
Key/keyring ID:
  <nnn>   numeric keyring ID
  @t      thread keyring
  @p      process keyring
  @s      session keyring
  @u      user keyring
  @us     user default session keyring
  @g      group keyring
  @a      assumed request_key authorisation key

<type> can be \"user\" for a user-defined keyring
If you do this, prefix the description with \"<subtype>:\"
";

/// Whether the program was called as `keyctl`: by the last component of its name.
#[must_use]
pub fn is_called(arguments: Arguments) -> bool {
    arguments
        .get(0)
        .is_some_and(|name| name.to_bytes().rsplit(|b| *b == b'/').next() == Some(NAME))
}

/// Runs one command line and returns the exit status.
#[must_use]
pub fn run(arguments: Arguments) -> i32 {
    let words: Vec<&'static CStr> = (1..arguments.count())
        .filter_map(|at| arguments.get(at))
        .collect();
    let mut out = Output::new();
    let status = match command::dispatch(&words, &mut out) {
        Ok(status) => status,
        Err(stop) => tell(&stop, &mut out),
    };
    out.finish(status)
}

/// Prints why a command ended early, and returns the exit status.
fn tell(stop: &Stop, out: &mut Output) -> i32 {
    let mut text = Vec::new();
    let status = match stop {
        Stop::Usage => {
            usage(COMMANDS, b"", &mut text);
            2
        }
        Stop::TestUsage => {
            usage(limits::TESTS, b"--test ", &mut text);
            2
        }
        Stop::Said(line, status) => {
            text.extend_from_slice(line);
            text.push(b'\n');
            *status
        }
        Stop::Failed(label, errno) => {
            // As perror(3) does it: where there is no name, there is no colon.
            if !label.is_empty() {
                text.extend_from_slice(label);
                text.extend_from_slice(b": ");
            }
            errno_text::push(*errno, &mut text);
            text.push(b'\n');
            1
        }
    };
    out.error(&text);
    status
}

fn usage(commands: &[Command], prefix: &[u8], text: &mut Vec<u8>) {
    text.extend_from_slice(b"Format:\n");
    for command in commands {
        for synopsis in command.synopses {
            text.extend_from_slice(b"  keyctl ");
            text.extend_from_slice(prefix);
            text.extend_from_slice(command.name.as_bytes());
            text.push(b' ');
            text.extend_from_slice(synopsis.as_bytes());
            text.push(b'\n');
        }
    }
    text.extend_from_slice(LEGEND);
}

/// Writes to standard error at once; that nobody can read it is no reason to fail.
fn say(text: &[u8]) {
    let _ = Stream::Error.write_all(text);
}
