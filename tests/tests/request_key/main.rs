//! `keyns-request-key` beside the C program that it replaces: the same configuration, the same
//! command line, the same answers. Where they differ, the test says so and in which way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "everything here is a test, also what is not within a test function"
)]

mod deviations;
mod handlers;
mod kernel;
mod matching;
mod messages;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use deviations::comparable;
use keyns_tests::bin_dir;
use keyns_tests::stock;

/// Which of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Ours,
    Stock,
}

/// Where the packages of the C program are.
fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| stock::unpacked().unwrap())
}

/// What `LD_LIBRARY_PATH` must be for its programs.
fn libraries() -> PathBuf {
    stock::library(packages()).unwrap().parent().unwrap().into()
}

impl Program {
    const BOTH: [Self; 2] = [Self::Ours, Self::Stock];

    fn path(self) -> PathBuf {
        match self {
            Self::Ours => bin_dir().join("keyns-request-key"),
            Self::Stock => packages().join("sbin/request-key"),
        }
    }

    fn command(self) -> Command {
        let mut command = Command::new(self.path());
        // Both call themselves what they are called.
        command.arg0("request-key").env_clear();
        command.envs([("HOME", "/"), ("PATH", "/sbin:/bin:/usr/sbin:/usr/bin")]);
        if self == Self::Stock {
            command.envs([stock::environment(packages()).unwrap()]);
        }
        command
    }
}

/// What a program has done, as bytes for people.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A directory with configuration, where both programs run with `-l`.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One that has a `request-key.conf` and nothing else.
    fn with(rules: impl AsRef<[u8]>) -> Self {
        let scratch = Self::new();
        scratch.file("request-key.conf", rules);
        scratch
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A program for a rule to execute.
    fn script(&self, name: &str, text: &str) -> String {
        let path = self.file(name, format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn run(&self, program: Program, words: &[&str]) -> Outcome {
        let mut command = program.command();
        let output = command.current_dir(self.path()).args(words).output();
        let output = output.unwrap();
        Outcome {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts that both do the same, known deviations aside, and returns what ours does.
    #[track_caller]
    fn same(&self, words: &[&str]) -> Outcome {
        let [ours, theirs] = Program::BOTH.map(|program| self.run(program, words));
        let (compared, with) = (comparable(&ours), comparable(&theirs));
        if compared != with {
            let short = |text: String| -> String { text.chars().take(2000).collect() };
            let rules = fs::read_to_string(self.path().join("request-key.conf"));
            panic!(
                "{}\nwith {}\nours: {}\ntheirs: {}",
                short(format!("{words:?}")),
                short(format!("{rules:?}")),
                short(format!("{compared:#?}")),
                short(format!("{with:#?}"))
            );
        }
        ours
    }

    /// The same, with the options of a dry run that tells everything.
    #[track_caller]
    fn dry(&self, request: &[&str]) -> Outcome {
        self.same(&[&["-d", "-l", "-n", "-v"], request].concat())
    }
}

/// A request by the kernel, with its callout information.
const REQUEST: [&str; 8] = ["create", "123", "0", "0", "7", "8", "9", "info"];
