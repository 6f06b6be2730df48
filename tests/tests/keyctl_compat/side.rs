//! One of the two programs, in a session that is prepared for it.
//!
//! Session keyrings belong to threads: each story gets a thread of its own, joins a new one and
//! starts the program from there. What the thread keeps in its own keyring is what the program does
//! not possess but may see.

use std::ffi::{CStr, CString, OsString};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use keyns_sys::{KeySerial, key};

use tempfile::TempDir;

use crate::script::{Line, Story, fill_in};
use crate::wall::{Names, Outcome, Tag};

/// How often a session is made anew because a serial has fewer or more digits than the others.
const ATTEMPTS: usize = 200;

pub(crate) struct Side {
    program: PathBuf,
    environment: Option<(&'static str, OsString)>,
    /// With some files in it; the working directory.
    directory: TempDir,
}

impl Side {
    pub(crate) fn new(program: PathBuf, environment: Option<(&'static str, OsString)>) -> Self {
        assert!(program.exists(), "{} is not there", program.display());
        let directory = tempfile::tempdir().unwrap();
        let write = |name, content: &str, mode| {
            let file = directory.path().join(name);
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("file", "data", 0o644);
        write("empty", "", 0o644);
        write("script", "echo no interpreter $1\n", 0o755);
        Self {
            program,
            environment,
            directory,
        }
    }

    /// Runs every line of a story in one session.
    pub(crate) fn run(&self, story: &Story, tag: &Tag) -> Vec<Outcome> {
        std::thread::scope(|scope| scope.spawn(|| self.run_here(story, tag)).join().unwrap())
    }

    fn run_here(&self, story: &Story, tag: &Tag) -> Vec<Outcome> {
        let mut names = prepare(tag);
        let mut outcomes = Vec::new();
        for line in &story.lines {
            if let [word, milliseconds] = &line.words[..]
                && word == b"sleep"
            {
                let milliseconds = str::from_utf8(milliseconds).unwrap().parse().unwrap();
                std::thread::sleep(Duration::from_millis(milliseconds));
                outcomes.push(Outcome {
                    stdout: String::new(),
                    stderr: String::new(),
                    status: "slept".to_owned(),
                });
                continue;
            }
            let output = self.call(line, tag, &names);
            names.learn(&output.stdout, &output.stderr);
            let status = output.status;
            outcomes.push(Outcome {
                stdout: names.replace(&output.stdout),
                stderr: names.replace(&output.stderr),
                status: status.code().map_or_else(
                    || format!("signal {:?}", status.signal()),
                    |c| c.to_string(),
                ),
            });
        }
        // Not left to the kernel's own time: what is not possessed any more can be found by name.
        for serial in names.prepared() {
            // Some keys permit nothing, others are gone.
            let _ = key::invalidate(KeySerial::new(serial));
        }
        outcomes
    }

    fn call(&self, line: &Line, tag: &Tag, names: &Names) -> std::process::Output {
        let words = line
            .words
            .iter()
            .map(|word| fill_in(&tag.apply(word), |name| names.serial(name)));
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .current_dir(self.directory.path())
            .env_remove("POSIXLY_CORRECT")
            .env("SHELL", "/bin/false")
            .env("K", &self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some((name, value)) = &self.environment {
            command.env(name, value);
        }
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        match input.write_all(&line.input) {
            Ok(()) => {}
            // It has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => panic!("{error}"),
        }
        drop(input);
        child.wait_with_output().unwrap()
    }
}

/// A serial that no key has any more. Collecting a key takes the kernel a moment, so one serves all.
fn gone() -> i32 {
    static GONE: OnceLock<i32> = OnceLock::new();
    *GONE.get_or_init(|| {
        let gone = even(|| key::add_key(c"user", c"gone", b"x", KeySerial::THREAD).unwrap());
        key::invalidate(gone).unwrap();
        // Until then, what is missing is the link and not the key.
        while key::unlink(gone, KeySerial::SESSION).unwrap_err().kind() == ErrorKind::NotFound {
            std::thread::sleep(Duration::from_millis(1));
        }
        gone.raw()
    })
}

/// Makes a key of which the serial has nine digits, so that all columns are as wide.
fn even(make: impl Fn() -> KeySerial) -> KeySerial {
    for _ in 0..ATTEMPTS {
        let serial = make();
        if (100_000_000..1_000_000_000).contains(&serial.raw()) {
            return serial;
        }
        // Of a session keyring that is not possessed any more, this fails, and it goes by itself.
        let _ = key::invalidate(serial);
    }
    panic!("serials have no nine digits any more");
}

/// Joins a new session and fills it.
fn prepare(tag: &Tag) -> Names {
    let mut names = Names::new(tag);
    let session = even(|| key::join_session_keyring(None).unwrap());
    names.add("session", session.raw());
    let mut add = |name: &str, type_: &CStr, description: &CStr, payload: &[u8], ring| {
        let description = CString::new(tag.apply(description.to_bytes())).unwrap();
        // Made elsewhere: what replaces another key may change the order of a keyring.
        let serial =
            even(|| key::add_key(type_, &description, payload, KeySerial::THREAD).unwrap());
        if ring != KeySerial::THREAD {
            key::link(serial, ring).unwrap();
            key::unlink(serial, KeySerial::THREAD).unwrap();
        }
        names.add(name, serial.raw());
        serial
    };
    let all: Vec<u8> = (0..=255).collect();
    add("user", c"user", c"compat:user", b"hello", session);
    let ring = add("ring", c"keyring", c"compat:ring", b"", session);
    let inner = add("inner", c"keyring", c"compat inner", b"", ring);
    add("empty", c"keyring", c"compat:empty", b"", session);
    add("leaf", c"user", c"compat:leaf", &all, inner);
    let twice = add("twice", c"user", c"compat:twice", b"12", inner);
    key::link(twice, ring).unwrap();
    add("apple", c"user", c"compat:apple", b"a", session);
    add("semicolon", c"user", c"semi;pear", b"ab", ring);
    add("capital", c"user", c"COMPAT:Apple pie", b"abc", ring);
    add("odd", c"user", c"\xff\x1b[1m\n two", b"line\n", session);
    add("logon", c"logon", c"compat:logon", b"secret", session);
    let blind = add("blind", c"user", c"compat:blind", b"x", ring);
    key::set_perm(blind, 0).unwrap();
    let closed = add("closed", c"keyring", c"compat:closed", b"", inner);
    add("enclosed", c"user", c"compat:enclosed", b"x", closed);
    key::set_perm(closed, 0x0101_0000).unwrap();
    let revoked = add("revoked", c"user", c"compat:revoked", b"x", inner);
    key::revoke(revoked).unwrap();
    let owned = add("owned", c"user", c"compat:owned", b"x", ring);
    key::set_perm(owned, 0x0902_0402).unwrap_or_else(|e| panic!("{e}"));
    let foreign_ring = add(
        "foreign_ring",
        c"keyring",
        c"compat:foreign ring",
        b"",
        KeySerial::THREAD,
    );
    add(
        "foreign",
        c"user",
        c"compat:foreign",
        b"not yours",
        KeySerial::THREAD,
    );
    add(
        "in_foreign",
        c"user",
        c"compat:in foreign",
        b"not yours",
        foreign_ring,
    );
    add(
        "colon",
        c"user",
        c"compat:co:lon",
        b"not yours",
        KeySerial::THREAD,
    );
    names.add("gone", gone());
    names
}
