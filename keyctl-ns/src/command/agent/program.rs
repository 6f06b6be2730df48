//! One run of an agent's program: a request in, a verdict out.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use keyns::errno::Errno;
use keyns_interfaces::upcalls::{Rejection, UpcallInfo};
use keyns_sys::key::MAX_PAYLOAD;
use keyns_sys::process;
use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// What the program decided.
#[derive(Debug)]
pub enum Verdict {
    /// The requester gets a key with this payload.
    Complete(Zeroizing<Vec<u8>>),
    /// The requester gets an error.
    Reject(Rejection),
    /// Somebody else is to be asked.
    NotMine,
}

/// A verdict, and what the operator should know about how it came about.
#[derive(Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// Something that went wrong with the program.
    pub complaint: Option<String>,
}

/// How long the daemon leaves a request with one agent before it asks the next.
const TURN: Duration = Duration::from_secs(8);
/// The daemon must still get the answer through before the request's deadline.
const MARGIN: Duration = Duration::from_millis(200);

impl Outcome {
    fn plain(verdict: Verdict) -> Self {
        Self {
            verdict,
            complaint: None,
        }
    }

    fn rejected(errno: Errno, seconds: u32) -> Self {
        Self::plain(Verdict::Reject(Rejection {
            errno: errno.raw(),
            timeout: seconds,
        }))
    }

    fn because(self, complaint: impl Into<String>) -> Self {
        Self {
            complaint: Some(complaint.into()),
            ..self
        }
    }
}

/// Looks for the program as running it would (execvp(3)), so that an agent that could never answer is
/// not registered.
///
/// # Errors
/// `ENOENT` when there is none, `EACCES` when it may not be executed.
pub fn find(program: &OsStr) -> io::Result<()> {
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![program.into()]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
        std::env::split_paths(&path)
            .map(|directory| directory.join(program))
            .collect()
    };
    let mut failure = io::ErrorKind::NotFound.into();
    for candidate in candidates {
        match access(&candidate, Access::EXEC_OK) {
            Ok(()) if candidate.is_file() => return Ok(()),
            Ok(()) | Err(rustix::io::Errno::ACCESS) => {
                failure = io::ErrorKind::PermissionDenied.into()
            }
            Err(_) => {}
        }
    }
    Err(failure)
}

/// Runs the program for a request. Whatever it does, there is a verdict in time.
pub async fn judge(command: &[OsString], request: &UpcallInfo) -> Outcome {
    let Some((program, arguments)) = command.split_first() else {
        return Outcome::plain(Verdict::NotMine).because("there is no program to run");
    };
    let mut child = match spawn(program, arguments, request) {
        Ok(child) => child,
        Err(error) => {
            return Outcome::plain(Verdict::NotMine)
                .because(format!("the program cannot be started: {error}"));
        }
    };
    // Armed until the child is reaped: after that its number may belong to somebody else.
    let mut group = Group(
        child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw),
    );
    let deadline = request.deadline_ms.map_or(TURN, Duration::from_millis);
    let patience = deadline.min(TURN).saturating_sub(MARGIN);
    let talk = async {
        let output = exchange(&mut child, request.callout.bytes()).await?;
        if output.len() > MAX_PAYLOAD {
            return Ok((output, None));
        }
        child.wait().await.map(|status| (output, Some(status)))
    };
    let ended = timeout(patience, talk).await;
    match ended {
        Ok(Ok((output, Some(status)))) => {
            group.0 = None;
            verdict(output, status)
        }
        Ok(Ok((_, None))) => Outcome::rejected(Errno::EMSGSIZE, 1).because(format!(
            "the program wrote more than {MAX_PAYLOAD} bytes and was killed"
        )),
        Ok(Err(error)) => Outcome::rejected(Errno::EIO, 1)
            .because(format!("the program's output cannot be read: {error}")),
        Err(_) => Outcome::rejected(Errno::ETIMEDOUT, 1).because(format!(
            "the program took longer than {} ms and was killed",
            patience.as_millis()
        )),
    }
}

fn verdict(output: Zeroizing<Vec<u8>>, status: ExitStatus) -> Outcome {
    match status.code() {
        Some(0) => Outcome::plain(Verdict::Complete(output)),
        Some(1) => Outcome::rejected(Errno::ENOKEY, 5),
        Some(2) => Outcome::plain(Verdict::NotMine),
        // EX_TEMPFAIL and EX_NOPERM of sysexits.h.
        Some(75) => Outcome::rejected(Errno::EAGAIN, 1),
        Some(77) => Outcome::rejected(Errno::EACCES, 5),
        Some(code) => {
            Outcome::rejected(Errno::ENOKEY, 1).because(format!("the program exited with {code}"))
        }
        None => Outcome::rejected(Errno::ENOKEY, 1).because("the program was ended by a signal"),
    }
}

fn spawn(program: &OsStr, arguments: &[OsString], request: &UpcallInfo) -> io::Result<Child> {
    let by = &request.requester;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .env("KEYNS_ID", request.id.to_string())
        .env("KEYNS_OPERATION", &request.operation)
        .env("KEYNS_KEY", request.key.to_string())
        .env("KEYNS_TYPE", &request.type_)
        .env(
            "KEYNS_DESCRIPTION",
            OsStr::from_bytes(request.description.bytes()),
        )
        .env(
            "KEYNS_CONTAINER",
            by.container.as_deref().unwrap_or_default(),
        )
        .env("KEYNS_PID", by.pid.to_string())
        .env("KEYNS_UID", by.uid.to_string())
        .env("KEYNS_GID", by.gid.to_string())
        .env("KEYNS_CONTAINER_UID", by.container_uid.to_string())
        .env("KEYNS_CONTAINER_GID", by.container_gid.to_string())
        .env("KEYNS_VERIFIED", if by.verified { "1" } else { "0" });
    if let Some(deadline) = request.deadline_ms {
        command.env("KEYNS_DEADLINE_MS", deadline.to_string());
    }
    // An agent that is killed cannot kill its programs any more. All of it is one thread.
    process::end_with_this_thread(command.as_std_mut());
    command.spawn()
}

/// Writes the callout text and reads the payload, at the same time: a program may answer before it
/// has read anything. One byte more than a payload can have is read, to tell that it was too long.
async fn exchange(child: &mut Child, callout: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // Not reading it is the program's right.
            let _ = stdin.write_all(callout).await;
        }
    };
    let read = async {
        // Never grows, so no copy of a part of the secret is left behind in freed memory.
        let mut output = Zeroizing::new(Vec::with_capacity(MAX_PAYLOAD + 1));
        if let Some(stdout) = stdout {
            stdout
                .take(MAX_PAYLOAD as u64 + 1)
                .read_to_end(&mut output)
                .await?;
        }
        Ok(output)
    };
    // A program that closes its output is done with the text too.
    tokio::pin!(write, read);
    tokio::select! {
        output = &mut read => output,
        () = &mut write => read.await,
    }
}

/// Kills everything the program started, unless it ended by itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Fails if all of them are gone.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyns_interfaces::upcalls::Requester;

    fn request(deadline_ms: u64) -> UpcallInfo {
        UpcallInfo {
            id: 7,
            state: "offered".into(),
            operation: "create".into(),
            key: 42,
            type_: "user".into(),
            description: b"a\xffb".to_vec().into(),
            callout: "the callout".into(),
            requester: Requester {
                container: Some("web".into()),
                tid: 1,
                pid: 1,
                uid: 100_000,
                gid: 100_000,
                container_uid: 0,
                container_gid: 0,
                command: "x".into(),
                executable: keyns_interfaces::ByteText(b"/bin/program".to_vec()),
                capabilities: 0,
                verified: true,
            },
            keyrings: [0; 3],
            rule: None,
            handler: None,
            time_ms: 0,
            age_ms: 0,
            deadline_ms: Some(deadline_ms),
            outcome: None,
        }
    }

    fn judged(script: &str, deadline_ms: u64) -> Outcome {
        let command = ["/bin/sh", "-c", script].map(OsString::from);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(judge(&command, &request(deadline_ms)))
    }

    fn rejection(outcome: &Outcome) -> i32 {
        match &outcome.verdict {
            Verdict::Reject(rejection) => rejection.errno,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn standard_output_is_the_payload() {
        let outcome = judged(
            "printf '%s|%s|' \"$KEYNS_CONTAINER\" \"$KEYNS_CONTAINER_UID\"; cat",
            5000,
        );
        let Verdict::Complete(payload) = outcome.verdict else {
            panic!("{outcome:?}")
        };
        assert_eq!(payload.as_slice(), b"web|0|the callout");
    }

    #[test]
    fn the_description_arrives_byte_for_byte() {
        let Verdict::Complete(payload) = judged("printf %s \"$KEYNS_DESCRIPTION\"", 5000).verdict
        else {
            panic!()
        };
        assert_eq!(payload.as_slice(), b"a\xffb");
    }

    #[test]
    fn exit_codes_are_answers() {
        assert_eq!(rejection(&judged("exit 1", 5000)), 126);
        assert!(matches!(judged("exit 2", 5000).verdict, Verdict::NotMine));
        assert_eq!(rejection(&judged("exit 75", 5000)), 11);
        assert_eq!(rejection(&judged("exit 77", 5000)), 13);
        let odd = judged("exit 42", 5000);
        assert_eq!(rejection(&odd), 126);
        assert!(odd.complaint.unwrap().contains("42"));
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_its_children() {
        let begin = std::time::Instant::now();
        let outcome = judged("sleep 60 & sleep 60; wait", 700);
        assert_eq!(rejection(&outcome), 110);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_program_ends_with_its_agent_also_if_that_can_do_nothing() {
        let begun = tempfile::NamedTempFile::new().unwrap();
        let script = format!("echo $$ > {}; exec sleep 60", begun.path().display());
        let agent = std::thread::spawn(move || {
            let command = ["/bin/sh", "-c", &script].map(OsString::from);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let request = request(60_000);
            let mut judging = Box::pin(judge(&command, &request));
            let waited =
                runtime.block_on(async { timeout(Duration::from_secs(1), &mut judging).await });
            assert!(waited.is_err());
            // Nothing is dropped, as when it is killed.
            std::mem::forget(judging);
            std::mem::forget(runtime);
        });
        agent.join().unwrap();
        let pid = std::fs::read_to_string(begun.path()).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let ended = || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !ended() {
            assert!(std::time::Instant::now() < deadline, "the program lives");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_program_that_writes_without_end_is_cut_off() {
        assert_eq!(rejection(&judged("cat /dev/zero", 20_000)), 90);
    }

    #[test]
    fn a_program_that_is_not_there_passes_the_request_on() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let outcome = runtime.block_on(judge(&["/nonexistent".into()], &request(1000)));
        assert!(matches!(outcome.verdict, Verdict::NotMine));
        assert!(outcome.complaint.is_some());
    }
}
