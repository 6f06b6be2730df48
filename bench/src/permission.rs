//! What it costs a key without a list of rights that there could be one: the same calls on the kernel of
//! `kernel/` and on the same kernel without its patches, booted in turns.
//!
//! Both must have been built before; nobody waits for that here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use keyns_sys::{KeySerial, key};
use keyns_tests::lab;

use crate::Failure;
use crate::sample::Sample;
use crate::table::Row;

/// As good as nothing: what the same kernel differs by from one boot to the next.
const GOAL: f64 = 1.05;
/// How often each of the two is booted.
const BOOTS: usize = 8;
/// In each boot, so many times are taken of so many calls: few enough to be done between two turns of
/// others, of which the fastest are what counts.
const TIMES: usize = 400;
const CALLS: u32 = 200;
/// Longer than a boot takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

const OPERATIONS: [&str; 2] = ["KEYCTL_SEARCH", "KEYCTL_READ"];

/// The two kernels, without patches and with them.
#[derive(Debug)]
pub(crate) struct Kernels([PathBuf; 2]);

impl Kernels {
    /// `None` unless both have been built.
    ///
    /// # Errors
    /// `cargo xtask` cannot be executed.
    pub(crate) fn find() -> Result<Option<Self>, Failure> {
        let unpatched = built(&["--unpatched"])?;
        let patched = built(&[])?;
        Ok(unpatched.zip(patched).map(|(a, b)| Self([a, b])))
    }

    /// How to get them.
    pub(crate) const HINT: &str = "permission: not measured, because its kernels are not built; \
        first run: cargo xtask kernel build && cargo xtask kernel build --unpatched";
}

fn built(options: &[&str]) -> Result<Option<PathBuf>, Failure> {
    let output = Command::new("cargo")
        .args(["xtask", "kernel", "where"])
        .args(options)
        .current_dir(lab::repository())
        .output()?;
    let path = String::from_utf8(output.stdout)?;
    Ok(output
        .status
        .success()
        .then(|| PathBuf::from(path.trim_end())))
}

/// The process in the lab: a line with nanoseconds for each time that is taken, of one operation after
/// the other.
///
/// # Errors
/// Any call that fails.
pub(crate) fn run() -> Result<(), Failure> {
    key::join_session_keyring(None)?;
    let ring = key::add_key(c"keyring", c"keyns-bench", b"", KeySerial::SESSION)?;
    let serial = key::add_key(c"user", c"keyns-bench", b"payload", ring)?;
    let mut buffer = [0; 16];
    for operation in OPERATIONS {
        for _ in 0..TIMES {
            let begun = Instant::now();
            for _ in 0..CALLS {
                if operation == "KEYCTL_SEARCH" {
                    // Through both keyrings, each of which is asked for the right.
                    key::search(KeySerial::SESSION, c"user", c"keyns-bench", KeySerial::NONE)?;
                } else {
                    key::read_into(serial, &mut buffer)?;
                }
            }
            println!("{}", (begun.elapsed() / CALLS).as_nanos());
        }
    }
    Ok(())
}

/// # Errors
/// A kernel that cannot be booted, a call that fails.
pub(crate) fn measure(kernels: &Kernels) -> Result<Vec<Row>, Failure> {
    let mut times = [const { [const { Vec::new() }; OPERATIONS.len()] }; 2];
    for _ in 0..BOOTS {
        for (kernel, times) in kernels.0.iter().zip(&mut times) {
            let taken = boot(kernel)?;
            for (times, taken) in times.iter_mut().zip(taken.chunks(TIMES)) {
                times.push(Sample::new(taken.to_vec())?.undisturbed());
            }
        }
    }
    let [without, with] = times;
    let mut rows = Vec::new();
    for ((operation, without), with) in OPERATIONS.into_iter().zip(without).zip(with) {
        let (without, with) = (Sample::new(without)?, Sample::new(with)?);
        rows.push(Row::reference(
            format!("{operation}, kernel without patches"),
            &without,
        ));
        rows.push(Row::ratio(
            format!("{operation}, key without a list"),
            &with,
            &without,
            Some(GOAL),
        ));
    }
    Ok(rows)
}

fn boot(kernel: &Path) -> Result<Vec<Duration>, Failure> {
    let program = std::env::current_exe()?;
    let ran = lab::run_patched(kernel, &[&program.to_string_lossy(), "key-calls"], PATIENCE);
    let taken: Vec<Duration> = ran
        .out
        .lines()
        .filter_map(|line| Some(Duration::from_nanos(line.parse().ok()?)))
        .collect();
    if ran.code != 0 || taken.len() != TIMES * OPERATIONS.len() {
        return Err(format!("{}: {}{}", kernel.display(), ran.out, ran.err).into());
    }
    Ok(taken)
}
