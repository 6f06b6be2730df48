//! `request-key(8)`: finds the program that makes a key which does not exist, and becomes it.
//!
//! The kernel starts it as root for a request of the host, directly or through `keyns-upcall`, and
//! the requester sleeps uninterruptibly until it has ended. What it does is what the C program of
//! the package `keyutils` does, so that configuration written for that one keeps working: the same
//! files, matching, macros, options, messages and exit status. The rules themselves are in
//! [`keyns::request_key_conf`].
//!
//! # Where it differs, and why
//! | here | the C program |
//! |---|---|
//! | files of `request-key.d` are read by name | in no order |
//! | errors of a command name its file and line | an empty name, and a number that means nothing |
//! | a `*` between two texts matches as documented | the end of a text is compared with the beginning of the pattern |
//! | a last line without a line break is whole | loses its last character |
//! | a NUL in a line is an error | is taken for the end of the line |
//! | a path without `/` is an error | crashes |
//! | a failed `\|program` is followed by a new look-up, with the operation `negate` | runs the same program again |
//! | a program's last words without line break are forwarded | are lost |
//! | a payload that cannot be an argument is not shown | its first bad byte is logged |
//! | ids from 2³¹ on, which the kernel passes as negative numbers, are ids | are taken for options |
//! | files have at most 16 MiB, and no pipe is waited for | reads for ever |
//! | messages in the system's log carry no time stamp: the log has its own | carry one |

mod handler;
mod key;
mod options;
mod report;
mod syslog;

use std::io::Write as _;

use keyns::errno_text::text_of;
use keyns::request_key_conf::{Places, SearchError};
use keyns_sys::arena::Arena;
use keyns_sys::helper_process::{Arguments, fill_standard_descriptors};

use crate::options::{Invocation, Options};
use crate::report::Report;

#[global_allocator]
static MEMORY: Arena = Arena::new();

/// Serves one request and returns the exit status; does not return where it becomes another program.
#[must_use]
pub fn run(arguments: Arguments) -> i32 {
    if arguments.count() == 2 && arguments.get(1) == Some(c"--version") {
        let version = env!("CARGO_PKG_VERSION");
        let written = writeln!(
            std::io::stdout(),
            "keyns-request-key {version}, for request-key of keyutils-1.6.3"
        );
        return i32::from(written.is_err());
    }
    // Before anything is opened: the kernel starts its helpers without them.
    fill_standard_descriptors();
    keyns_sys::execute::ignore_broken_pipes();
    let options = Options::read(arguments);
    let report = Report::new(options.verbose, !options.unlogged);
    match serve(&options, &report) {
        Ok(status) => status,
        Err(failure) => {
            report.error(&failure.0);
            1
        }
    }
}

/// The message of a request that failed: bytes, as it may quote descriptions.
struct Failure(Vec<u8>);

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self(message.into_bytes())
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<SearchError> for Failure {
    fn from(error: SearchError) -> Self {
        error.to_string().into()
    }
}

/// Of the calls that serve the request itself, such as making a pipe.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        format!("Cannot serve the request: {}", text_of(&error)).into()
    }
}

/// Nothing that comes here contains a NUL: the kernel's texts end with it, and lines with one are
/// refused.
impl From<std::ffi::NulError> for Failure {
    fn from(_: std::ffi::NulError) -> Self {
        "Cannot serve the request: a text contains a NUL".into()
    }
}

fn serve(options: &Options, report: &Report) -> Result<i32, Failure> {
    let invocation = Invocation::of(&options.operands)?;
    let key = key::Key::of(&invocation, options, report)?;
    let places = if options.local {
        Places::here()
    } else {
        Places::system()
    };
    handler::Request {
        invocation: &invocation,
        key: &key,
        places: &places,
        report,
        execute: !options.debugging,
    }
    .serve()
}
