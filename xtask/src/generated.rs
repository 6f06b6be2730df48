//! All files that are made, in memory.

use std::io;
use std::path::{Path, PathBuf};

use clap_complete::aot::{Shell, generate};

use crate::{programs, root, template};

/// A file as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Its path in the repository.
    pub path: PathBuf,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// Every file that is made, always in the same order and with the same content.
///
/// # Errors
/// What reading the templates says.
pub fn files() -> io::Result<Vec<Generated>> {
    let mut files = pages()?;
    // keyctl-ns is asked itself, see completions/keyctl-ns.*; the others have no values to be asked for.
    for (program, mut command) in [
        ("keyns-tui", programs::keyns_tui()),
        ("keynsd", programs::keynsd()),
    ] {
        for (shell, name) in [
            (Shell::Bash, format!("{program}.bash")),
            (Shell::Zsh, format!("_{program}")),
            (Shell::Fish, format!("{program}.fish")),
        ] {
            let mut content = Vec::new();
            generate(shell, &mut command, program, &mut content);
            files.push(Generated {
                path: Path::new("completions").join(name),
                content,
            });
        }
    }
    Ok(files)
}

/// The manual pages.
///
/// # Errors
/// As [`files`].
pub fn pages() -> io::Result<Vec<Generated>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("man/src"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    names
        .iter()
        .map(|name| {
            let template = std::fs::read_to_string(root().join("man/src").join(name))?;
            Ok(Generated {
                path: Path::new("man").join(name),
                content: template::fill(name, &template)?.into_bytes(),
            })
        })
        .collect()
}
