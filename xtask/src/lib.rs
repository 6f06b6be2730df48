//! Manual pages and completions, made from the command lines.
//!
//! A page is written by hand in `man/src/`, in roff, up to lines of the form `.\"@ WHAT PROGRAM`. In
//! their place comes what the program's definition of its own command line says: [`template`] does
//! that, [`manual`] renders. So the texts that `--help` shows and those of the manual are the same
//! ones, and prose about ideas is written where it can be written well. What is made is checked in,
//! so that neither packaging nor reading needs a toolchain; [`check`] holds it to what is in force.
//!
//! Besides, [`kernel`] builds the kernel whose patches are in `kernel/`.

pub mod bus;
pub mod check;
pub mod dashboard;
pub mod generated;
pub mod kernel;
pub mod manual;
pub mod markdown;
pub mod pictures;
pub mod programs;
pub mod roff;
pub mod svg;
pub mod template;

use std::path::{Path, PathBuf};

/// The directory of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}
