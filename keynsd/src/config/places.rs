//! Where settings are looked for.
//!
//! As programs of systemd do it: of `keyns.conf` the first that is found counts, in `/etc`, `/run`,
//! `/usr/local/lib` and `/usr/lib`. After it come the files of all directories `keyns.conf.d`, ordered
//! by their names; of those with the same name the first in that order of places. A link to
//! `/dev/null` hides what comes after it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{Mistake, Values, text};

/// Directories that have settings of the machine.
const PLACES: [&str; 4] = ["etc", "run", "usr/local/lib", "usr/lib"];
const NAME: &str = "keyns/keyns.conf";

/// Which files are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sources {
    /// None: the settings are the defaults.
    #[default]
    None,
    /// Those of the machine whose root directory this is.
    Machine(PathBuf),
    /// This one, which must exist, and those in the directory of the same name with `.d`.
    File(PathBuf),
}

impl Sources {
    /// Reads all of them, in their order.
    pub(super) fn read(&self) -> Result<Values, Mistake> {
        let mut values = Values::default();
        let mains: Vec<PathBuf> = match self {
            Self::None => return Ok(values),
            Self::File(file) => vec![file.clone()],
            Self::Machine(root) => PLACES.iter().map(|p| root.join(p).join(NAME)).collect(),
        };
        let mut found = false;
        for main in &mains {
            if let Some(text) = text(main)? {
                values.read(main, &text)?;
                found = true;
                break;
            }
        }
        if let Self::File(file) = self
            && !found
        {
            return Err(Mistake {
                file: file.clone(),
                line: None,
                why: "there is no such file".into(),
            });
        }
        for path in parts(&mains)? {
            // It may be gone again.
            if let Some(text) = text(&path)? {
                values.read(&path, &text)?;
            }
        }
        Ok(values)
    }
}

/// The parts in the directories beside these files, in the order in which they count.
fn parts(mains: &[PathBuf]) -> Result<Vec<PathBuf>, Mistake> {
    let mut parts: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for main in mains {
        let mut directory = main.clone().into_os_string();
        directory.push(".d");
        for name in names(Path::new(&directory))? {
            let path = Path::new(&directory).join(&name);
            parts.entry(name).or_insert(path);
        }
    }
    Ok(parts.into_values().collect())
}

fn names(directory: &Path) -> Result<Vec<OsString>, Mistake> {
    let failed = |error: io::Error| Mistake {
        file: directory.to_owned(),
        line: None,
        why: format!("it cannot be read: {error}"),
    };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let text = name.to_string_lossy();
        // Editors and package managers leave files beside them whose names do not end so.
        if text.ends_with(".conf") && !text.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}
