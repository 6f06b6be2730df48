//! Runs programs and keeps what they say.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Fault;

/// Whether a program succeeded, and all it said.
pub(super) fn said(command: &mut Command) -> Result<(bool, String), Fault> {
    let name = Path::new(command.get_program()).display().to_string();
    // Nobody is there to answer what it may ask.
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot execute {name}: {error}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text))
}

/// Succeeds where a compilation does, and says nothing of warnings.
pub(super) fn compiled(make: &mut Command) -> Result<(), Vec<String>> {
    match said(make) {
        // What it links, make says however silent it shall be.
        Ok((true, text)) if !text.contains("warning: ") => Ok(()),
        Ok((_, text)) => Err(vec![text.trim().to_owned()]),
        Err(fault) => Err(vec![fault]),
    }
}

/// Succeeds where a program does and says nothing.
pub(super) fn said_nothing(command: &mut Command) -> Result<(), Vec<String>> {
    match said(command) {
        Ok((true, text)) if text.trim().is_empty() => Ok(()),
        Ok((_, text)) => Err(vec![text.trim().to_owned()]),
        Err(fault) => Err(vec![fault]),
    }
}
