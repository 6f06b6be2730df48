//! `keyns-probe`: makes key system calls and shows them as strace(1) would, with what the kernel
//! answered.
//!
//! `keyctl-ns demo` starts it inside containers and outside of them, so that what a process can
//! reach is told by the kernel to that very process. It knows nothing of keyns: no daemon, no file,
//! only system calls. It is one static file, because it is entered by descriptor into containers
//! whose root directory is empty.

mod calls;
mod flood;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use calls::Answer;

const USAGE: &str = "\
usage: keyns-probe ACTION
  request TYPE DESCRIPTION [CALLOUT]  request_key(2), then read the key
  await TYPE DESCRIPTION PAYLOAD SECONDS
                                      the same until the key has this payload
  read SERIAL                         read a key by its number
  invalidate SERIAL                   invalidate a key by its number
  ring                                what the session keyring and its keyrings hold
  capabilities                        what the kernel's key management can do
  flood TYPE PREFIX COUNT             that many requests at once: PREFIX0, PREFIX1 …
  hold                                do nothing until killed
before an ACTION:
  who                                 say first which process this is
  fresh                               in a new, empty session keyring
  as UID                              as another user
exit status: 0 the kernel did it, 1 it refused, 2 not understood";

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    match words.and_then(|words| act(&words)) {
        Some(Answer::Done) => ExitCode::SUCCESS,
        Some(Answer::Refused) => ExitCode::FAILURE,
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Does what the words say; `None` if they say nothing it knows.
fn act(words: &[&str]) -> Option<Answer> {
    Some(match *words {
        ["who", ref rest @ ..] => {
            calls::who();
            return act(rest);
        }
        ["fresh", ref rest @ ..] => match calls::new_session() {
            Answer::Done => return act(rest),
            Answer::Refused => Answer::Refused,
        },
        ["as", uid, ref rest @ ..] => become_user(uid.parse().ok()?, rest),
        ["request", type_, description] => calls::request(type_, description, None)?,
        ["request", type_, description, callout] => {
            calls::request(type_, description, Some(callout))?
        }
        ["await", type_, description, payload, seconds] => {
            let patience = Duration::from_secs(seconds.parse().ok()?);
            calls::wait_for(type_, description, payload, patience)?
        }
        ["read", serial] => calls::read(serial.parse().ok()?),
        ["invalidate", serial] => calls::invalidate(serial.parse().ok()?),
        ["ring"] => calls::ring(),
        ["capabilities"] => calls::capabilities(),
        ["flood", type_, prefix, count] => flood::flood(type_, prefix, count.parse().ok()?)?,
        ["hold"] => loop {
            std::thread::park();
        },
        _ => return None,
    })
}

/// Starts anew as another user, without supplementary groups.
fn become_user(uid: u32, rest: &[&str]) -> Answer {
    // The parent clears the groups and sets the ids before it executes.
    let error = Command::new("/proc/self/exe")
        .args(rest)
        .uid(uid)
        .gid(uid)
        .exec();
    println!("execve as uid {uid} = -1 {error}");
    Answer::Refused
}
