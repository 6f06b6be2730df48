//! A session keyring of the test's own, and the real binary run in it.
//!
//! Credentials belong to threads, and each test runs on a thread of its own: the keyring joined here
//! is inherited by the programs this thread starts and by nobody else. It goes with the thread.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use keyns_sys::KeySerial;
use keyns_sys::key as sys;

const PROGRAM: &str = env!("CARGO_BIN_EXE_keyctl-ns");

/// The session of a test.
pub(crate) struct Session {
    keyring: KeySerial,
}

/// What a run of the binary printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Session {
    pub(crate) fn new() -> Self {
        let keyring = sys::join_session_keyring(None).expect("a kernel with keys");
        Self { keyring }
    }

    pub(crate) fn keyring(&self) -> KeySerial {
        self.keyring
    }

    /// The binary with `arguments`, not started yet. No daemon is reached: none has that name.
    pub(crate) fn command(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        alone(Command::new(PROGRAM), arguments)
    }

    /// Runs the binary without input.
    pub(crate) fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        self.run_with(arguments, b"")
    }

    /// Runs the binary with `input` on standard input.
    pub(crate) fn run_with(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &[u8],
    ) -> Output {
        run(self.command(arguments), input)
    }

    /// Runs the binary as another user, who may not write to the directory of the test, and may not even
    /// reach the binary: the directories above a checkout may be closed to others. It is executed as an
    /// open file.
    pub(crate) fn run_as(
        &self,
        uid: u32,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &[u8],
    ) -> Output {
        let program = File::open(PROGRAM).unwrap();
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.arg0("keyctl-ns").uid(uid).gid(uid);
        run(alone(command, arguments), input)
    }

    /// The mask of a key as the binary shows it.
    pub(crate) fn mask(&self, key: &str) -> u64 {
        self.run(["describe", key, "--json"]).json()["mask"]
            .as_u64()
            .unwrap()
    }

    /// Adds a user key and returns its serial.
    pub(crate) fn add(&self, description: &str, payload: &[u8]) -> KeySerial {
        let description = std::ffi::CString::new(description).unwrap();
        sys::add_key(c"user", &description, payload, self.keyring).unwrap()
    }

    /// Adds a keyring to the session keyring and returns its serial.
    pub(crate) fn ring(&self, name: &str) -> KeySerial {
        let name = std::ffi::CString::new(name).unwrap();
        sys::add_key(c"keyring", &name, b"", self.keyring).unwrap()
    }
}

/// With `arguments`, and no daemon in reach.
fn alone(mut command: Command, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    command
        .args(["--instance", "no-such-instance"])
        .args(arguments)
        .env_remove("KEYNS_SOCKET")
        .env("NO_COLOR", "1");
    command
}

/// How many things of `size` bytes are more than the quota of a user who is not root. An administrator
/// may have made it larger than it is by default.
pub(crate) fn more_than_the_quota(size: usize) -> usize {
    let limit = std::fs::read_to_string("/proc/sys/kernel/keys/maxbytes").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    assert!(
        limit < 10_000_000,
        "a quota of {limit} bytes takes too long to use up"
    );
    limit / size + 1
}

/// Runs a command with `input` on standard input.
pub(crate) fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read it ends first.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code().expect("no signal"),
        stdout: output.stdout,
        stderr: output.stderr,
    }
}

impl Output {
    pub(crate) fn stdout(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }

    pub(crate) fn stderr(&self) -> &str {
        str::from_utf8(&self.stderr).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let text = if self.code == 0 {
            self.stdout()
        } else {
            self.stderr()
        };
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The output with a number that differs from run to run replaced by a word.
    pub(crate) fn with(&self, number: KeySerial, word: &str) -> String {
        self.to_string().replace(&number.to_string(), word)
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}[{}]",
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr),
            self.code
        )
    }
}
