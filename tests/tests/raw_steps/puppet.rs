//! The puppet: built from C, told line by line what to ask the kernel.

use std::io::{BufRead, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The session keyring, as the kernel names it.
pub(crate) const SESSION: &str = "-3";

const PATIENCE: Duration = Duration::from_secs(30);

/// Compiles it, static, so that it runs in a container without files.
pub(crate) fn build(directory: &Path) -> PathBuf {
    let program = directory.join("puppet");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/raw_steps/puppet.c");
    let built = Command::new("cc")
        .args([
            "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o",
        ])
        .arg(&program)
        .arg(source)
        .status()
        .unwrap();
    assert!(built.success(), "cc cannot build {source}");
    program
}

/// A line to it, and how it hears and answers.
pub(crate) struct Puppet {
    to: UnixStream,
    from: BufReader<UnixStream>,
    child: Option<Child>,
}

/// What the kernel answered: the value, or the error's name.
pub(crate) type Answer = Result<String, String>;

impl Puppet {
    /// On the host, with a new and empty session keyring.
    pub(crate) fn on_host(program: &Path) -> Self {
        let (mut puppet, end) = Self::pair();
        let child = Command::new(program)
            .stdin(Stdio::from(end.try_clone().unwrap()))
            .stdout(Stdio::from(end))
            .spawn()
            .unwrap();
        puppet.child = Some(child);
        puppet.ask("join").unwrap();
        puppet
    }

    /// For a process that somebody else starts with the returned descriptor as its input and output.
    pub(crate) fn pair() -> (Self, OwnedFd) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let from = BufReader::new(ours.try_clone().unwrap());
        (
            Self {
                to: ours,
                from,
                child: None,
            },
            theirs.into(),
        )
    }

    /// Tells it something without waiting for the answer.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
    }

    /// The answer to what it was told; `None` if the process has ended.
    pub(crate) fn hear(&mut self) -> Option<Answer> {
        let mut line = String::new();
        if self.from.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let (word, value) = line
            .trim_end_matches('\n')
            .split_once(' ')
            .unwrap_or((&line, ""));
        Some(match word.trim() {
            "ok" => Ok(value.to_owned()),
            "err" => Err(name(value)),
            other => panic!("the puppet says {other}"),
        })
    }

    /// Both.
    pub(crate) fn ask(&mut self, line: &str) -> Answer {
        self.tell(line);
        self.hear().expect("the puppet has ended")
    }

    /// Requests a key and reads it: the payload or the error's name, and the serial.
    pub(crate) fn get(&mut self, type_: &str, description: &str, callout: &str) -> (String, i32) {
        self.tell(&format!("request {type_} {description} {callout}"));
        self.got().expect("the puppet has ended")
    }

    /// What came of a request that it was told to make.
    pub(crate) fn got(&mut self) -> Option<(String, i32)> {
        Some(match self.hear()? {
            Ok(serial) => {
                let payload = self.read(&serial);
                (payload, serial.parse().unwrap())
            }
            Err(name) => (name, 0),
        })
    }

    /// Reads a key by its number: the payload or the error's name.
    pub(crate) fn read(&mut self, serial: &str) -> String {
        self.ask(&format!("read {serial}"))
            .unwrap_or_else(|name| name)
    }

    /// The serials in a keyring.
    pub(crate) fn list(&mut self, ring: &str) -> Vec<i32> {
        let members = self.ask(&format!("list {ring}")).unwrap();
        members
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect()
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Error numbers of errno(3) that the steps speak of.
fn name(number: &str) -> String {
    match number {
        "2" => "ENOENT",
        "11" => "EAGAIN",
        "13" => "EACCES",
        "95" => "EOPNOTSUPP",
        "110" => "ETIMEDOUT",
        "111" => "ECONNREFUSED",
        "116" => "ESTALE",
        "126" => "ENOKEY",
        "128" => "EKEYREVOKED",
        other => other,
    }
    .to_owned()
}
