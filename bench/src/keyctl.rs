//! `keyctl`: ours against the original, in instructions and in time.
//!
//! Both run in the same session keyring, in turns, on the same keyrings. Instructions are those of the
//! program itself, counted by callgrind; time is that from before the program is started until it has
//! ended, the kernel's part included.

use std::ffi::{CString, OsString};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyns_sys::{KeySerial, key};
use keyns_tests::{bin_dir, stock};

use crate::Failure;
use crate::parts::Plan;
use crate::sample::Sample;
use crate::table::Row;

/// Keys of a keyring, how often each command is run on it at most, and the goal.
const RINGS: [(usize, u64, f64); 3] = [(10, 400, 1.0), (1_000, 100, 0.6), (10_000, 30, 0.6)];

/// # Errors
/// When a program or a key cannot be had, or a command fails.
pub(crate) fn measure(plan: &Plan) -> Result<Vec<Row>, Failure> {
    let package = stock::unpacked()?;
    let theirs = Program {
        path: package.join("bin/keyctl"),
        environment: Some(stock::environment(&package)?),
    };
    let ours = Program {
        path: bin_dir().join("keyctl"),
        environment: None,
    };
    let callgrind = Callgrind::find()?;
    key::join_session_keyring(None)?;
    let mut rows = Vec::new();
    for (keys, runs, goal) in RINGS {
        let ring = Ring::new(keys)?;
        let runs = runs.min(plan.pairs);
        for (name, words) in ring.commands() {
            let what = format!("keyctl {name}, {keys} keys");
            let (a, b) = (
                callgrind.count(&theirs, &words)?,
                callgrind.count(&ours, &words)?,
            );
            rows.push(Row::fewer(&what, "instructions", b, a, goal));
            let (mut slow, mut fast) = (Vec::new(), Vec::new());
            // The first of each fills caches.
            theirs.time(&words)?;
            ours.time(&words)?;
            for _ in 0..runs {
                slow.push(theirs.time(&words)?);
                fast.push(ours.time(&words)?);
            }
            let (slow, fast) = (Sample::new(slow)?, Sample::new(fast)?);
            rows.push(Row::reference(format!("{what}, the original"), &slow));
            rows.push(Row::ratio(what, &fast, &slow, Some(goal)));
        }
    }
    Ok(rows)
}

/// A keyring of so many keys; they go when it is dropped.
struct Ring {
    serial: KeySerial,
}

impl Ring {
    fn new(keys: usize) -> Result<Self, Failure> {
        let name = CString::new(format!("keyns-bench:{keys}"))?;
        let serial = key::add_key(c"keyring", &name, b"", KeySerial::SESSION)?;
        let ring = Self { serial };
        for n in 0..keys {
            let description = CString::new(format!("keyns-bench:key-{n}"))?;
            key::add_key(c"user", &description, b"payload", serial)
                .map_err(|error| format!("cannot make key {n} of {keys}: {error}"))?;
        }
        Ok(ring)
    }

    fn commands(&self) -> [(&'static str, Vec<OsString>); 4] {
        let ring = self.serial.to_string();
        let words = |words: &[&str]| words.iter().map(OsString::from).collect();
        [
            ("show", words(&["show", &ring])),
            ("list", words(&["list", &ring])),
            ("describe", words(&["describe", &ring])),
            (
                "add",
                words(&["add", "user", "keyns-bench:added", "payload", &ring]),
            ),
        ]
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for result in [
            key::clear(self.serial),
            key::unlink(self.serial, KeySerial::SESSION),
        ] {
            if let Err(error) = result {
                eprintln!("cannot remove keyring {}: {error}", self.serial);
            }
        }
    }
}

struct Program {
    path: PathBuf,
    environment: Option<(&'static str, OsString)>,
}

impl Program {
    fn prepare(&self, command: &mut Command) {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .envs(self.environment.clone());
    }

    /// Runs a command once, successfully.
    fn time(&self, words: &[OsString]) -> Result<Duration, Failure> {
        let mut command = Command::new(&self.path);
        self.prepare(command.args(words));
        let before = Instant::now();
        let status = command.status()?;
        let time = before.elapsed();
        if status.success() {
            Ok(time)
        } else {
            Err(format!("{} {words:?}: {status}", self.path.display()).into())
        }
    }
}

/// The program that counts.
struct Callgrind;

impl Callgrind {
    const PROGRAM: &str = "valgrind";

    /// Installs it where it is missing.
    fn find() -> Result<Self, Failure> {
        let is_there = || {
            let version = Command::new(Self::PROGRAM).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        };
        if !is_there() {
            Command::new("apt-get")
                .args(["install", "-y", "-qq", "--no-install-recommends"])
                .arg(Self::PROGRAM)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()?;
        }
        if is_there() {
            Ok(Self)
        } else {
            Err("valgrind, which counts instructions, cannot be installed".into())
        }
    }

    /// Instructions of one run.
    fn count(&self, program: &Program, words: &[OsString]) -> Result<u64, Failure> {
        let mut command = Command::new(Self::PROGRAM);
        command
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(&program.path)
            .args(words);
        program.prepare(&mut command);
        let output = command.stderr(Stdio::piped()).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let counted = text
            .lines()
            .find_map(|line| line.split_once("Collected : "))
            .and_then(|(_, count)| count.trim().parse().ok());
        match counted {
            Some(count) if output.status.success() => Ok(count),
            _ => Err(format!("{}: {text}", program.path.display()).into()),
        }
    }
}
