//! What the tests share: where the programs are, names that nobody else uses.

pub mod bus;
pub mod instance;
pub mod lab;
pub mod leftovers;
pub mod manager;
pub mod stock;
pub mod terminal;

use keyns::engine::EngineChoice;
use keyns::engine::process::RunSpec;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Directory of the built programs: `KEYNS_BIN_DIR`, or the one `make` builds into.
///
/// # Panics
/// When it does not exist.
#[must_use]
pub fn bin_dir() -> PathBuf {
    let directory = std::env::var_os("KEYNS_BIN_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/keyns-bin")),
        PathBuf::from,
    );
    assert!(
        directory.is_dir(),
        "{} does not exist; build the programs first: make programs",
        directory.display()
    );
    directory
}

/// KiB of memory that a process has resident (`VmRSS` in proc_pid_status(5)).
///
/// # Panics
/// When it has ended.
#[must_use]
pub fn resident(pid: impl std::fmt::Display) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.unwrap().parse().unwrap()
}

/// The reply to a varlink call, as it is on the wire; of a stream the first one.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn varlink(socket: &Path, method: &str, parameters: Value, more: bool) -> Value {
    let mut connection = UnixStream::connect(socket).unwrap();
    let patience = Some(Duration::from_secs(30));
    connection.set_read_timeout(patience).unwrap();
    let call = serde_json::json!({"method": method, "parameters": parameters, "more": more});
    connection
        .write_all(format!("{call}\0").as_bytes())
        .unwrap();
    let mut frame = Vec::new();
    let mut replies = BufReader::new(connection);
    replies.read_until(0, &mut frame).unwrap();
    assert_eq!(frame.pop(), Some(0), "{method}: no reply");
    serde_json::from_slice(&frame).unwrap()
}

/// `keyctl-ns`, to be run by another user. It is executed as an open file, for the directories above a
/// checkout may be closed to others, as home directories and those of `mktemp -d` are.
///
/// # Panics
/// When it cannot be opened.
#[must_use]
pub fn keyctl_as(uid: u32) -> Command {
    static PROGRAM: OnceLock<File> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| File::open(bin_dir().join("keyctl-ns")).unwrap());
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0("keyctl-ns").uid(uid).gid(uid);
    command
}

/// The engine that is to be tested: what `KEYNS_ENGINE` says, else whichever fits this kernel.
///
/// # Panics
/// When it says something else than the name of an engine.
#[must_use]
pub fn engine() -> EngineChoice {
    match std::env::var("KEYNS_ENGINE") {
        Ok(word) => word.parse().unwrap(),
        Err(_) => EngineChoice::Auto,
    }
}

/// A process of a container's root, without a terminal, that finds the programs of `--root usr`.
#[must_use]
pub fn run_spec(process: u64, command: &[&str]) -> RunSpec {
    RunSpec {
        process,
        command: command
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect(),
        environment: vec![b"PATH=/usr/bin:/usr/sbin:/bin".to_vec()],
        uid: 0,
        gid: 0,
        terminal: false,
        program_passed: false,
    }
}

/// A name that no other test and no other run uses.
#[must_use]
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{}-{count}", std::process::id())
}

/// A service uid for one test: registries of parallel tests must not share a user keyring's quota.
#[must_use]
pub fn service_uid() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    service_uids_of(std::process::id()).start + count % 256
}

/// The uids that [`service_uid`] gives in the process `pid`.
fn service_uids_of(pid: u32) -> std::ops::Range<u32> {
    let start = 0x9000_0000 + pid % 0x10_0000 * 256;
    start..start + 256
}
