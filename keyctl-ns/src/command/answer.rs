//! `answer`

use std::path::PathBuf;

use clap::Args;
use keyns::errno::Errno;
use keyns_interfaces::Payload;
use keyns_interfaces::upcalls::{Answer, Rejection, Response};

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::payload;
use crate::view;

/// Answer a waiting key request by hand
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("response").required(true),
    override_usage = "keyctl-ns answer <ID> <RESPONSE>",
    after_help = "\
Examples:
  printf %s \"$TOKEN\" | keyctl-ns answer 7 --payload-stdin
  keyctl-ns answer 7 --reject 5 EACCES")]
pub struct AnswerArgs {
    /// Number of the request (see upcalls)
    pub id: u64,
    /// Give the requester its key, with the payload in FILE
    #[arg(long, value_name = "FILE", group = "response")]
    pub payload_file: Option<PathBuf>,
    /// Give the requester its key, with the payload on standard input
    #[arg(long, group = "response")]
    pub payload_stdin: bool,
    /// Give it a copy of the container's key of the same type and description
    #[arg(long, group = "response")]
    pub from_keyring: bool,
    /// Say that there is no such key (ENOKEY); the kernel repeats it for TIME, 1 to 60 s
    #[arg(long, value_name = "TIME", group = "response", value_parser = args::rejection_time)]
    pub negate: Option<u32>,
    /// Reject it with an error by name or number; the kernel repeats it for TIME, 1 to 60 s
    #[arg(long, num_args = 2, value_names = ["TIME", "ERRNO"], group = "response")]
    pub reject: Option<Vec<String>>,
}

/// Answers the request.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &AnswerArgs) -> Result<(), CommandError> {
    let payload =
        |bytes: zeroize::Zeroizing<Vec<u8>>| Response::Payload(Payload::new(bytes.to_vec()));
    let response = if let Some(path) = &args.payload_file {
        payload(payload::from_file(path)?)
    } else if args.payload_stdin {
        payload(payload::standard_input(&context.ui)?)
    } else if args.from_keyring {
        Response::FromKeyring
    } else if let Some(timeout) = args.negate {
        Response::Reject(Rejection {
            errno: Errno::ENOKEY.raw(),
            timeout,
        })
    } else {
        Response::Reject(rejection(args.reject.as_deref().unwrap_or_default())?)
    };
    let done = context.daemon()?.call(&Answer {
        id: args.id,
        response,
    })?;
    context.ui.print(&done, |out, done| {
        let took = view::milliseconds(done.milliseconds);
        match done.outcome {
            0 => writeln!(
                out,
                "request {} is answered after {took}: the requester has its key",
                args.id
            ),
            errno => writeln!(
                out,
                "request {} is rejected after {took} with {}",
                args.id,
                view::outcome(errno)
            ),
        }
    })
}

fn rejection(words: &[String]) -> Result<Rejection, CommandError> {
    let wrong =
        |cause: String| CommandError::usage("cannot use the values of --reject").cause(cause);
    let [time, errno] = words else {
        return Err(wrong(
            "it takes a time and an error, such as 5 EACCES".to_owned(),
        ));
    };
    Ok(Rejection {
        timeout: args::rejection_time(time).map_err(wrong)?,
        errno: args::errno(errno).map_err(wrong)?.raw(),
    })
}
