//! Where the programs are that the demo needs.

use std::path::{Path, PathBuf};

use crate::error::CommandError;

/// The programs of keyns, of the same build as this one or of an installation.
#[derive(Debug, Clone)]
pub struct Programs {
    /// This program.
    pub keyctl_ns: PathBuf,
    /// The daemon.
    pub keynsd: PathBuf,
    /// Directory of `keyns-stage`, `keyns-monitor` and `keyns-shelter`.
    pub helpers: PathBuf,
    /// The program behind `/sbin/request-key`.
    pub upcall: PathBuf,
    /// The program that runs inside containers.
    pub probe: PathBuf,
}

impl Programs {
    /// Looks beside this program, and where `make install` puts the others.
    ///
    /// # Errors
    /// The first program that is in none of these places.
    pub fn find() -> Result<Self, CommandError> {
        let keyctl_ns = std::env::current_exe()
            .map_err(|error| CommandError::io("cannot find this program's own file", &error))?;
        let beside = keyctl_ns.parent().unwrap_or(Path::new("/")).to_owned();
        let places = [
            beside.clone(),
            beside.join("../sbin"),
            beside.join("../libexec/keyns"),
        ];
        let find = |name: &str| {
            let found = places
                .iter()
                .map(|place| place.join(name))
                .find(|path| path.is_file());
            found.ok_or_else(|| {
                CommandError::failure(format!("cannot find the program {name}"))
                    .cause(format!(
                        "it is neither beside {} nor installed",
                        keyctl_ns.display()
                    ))
                    .hint("make demo builds everything the demo needs")
            })
        };
        let stage = find("keyns-stage")?;
        for helper in ["keyns-monitor", "keyns-shelter"] {
            find(helper)?;
        }
        Ok(Self {
            keynsd: find("keynsd")?,
            helpers: stage.parent().unwrap_or(Path::new("/")).to_owned(),
            upcall: find("keyns-upcall")?,
            probe: find("keyns-probe")?,
            keyctl_ns,
        })
    }
}
