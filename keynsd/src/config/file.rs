//! One file of settings: read with suspicion, and each mistake told with its line.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

/// Largest file that is read, in bytes.
const MOST: u64 = 1 << 20;

/// What is wrong with a file of settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {why}", .file.display(), .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1 on, where there is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub why: String,
}

impl Mistake {
    fn whole(file: &Path, why: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            why: why.into(),
        }
    }
}

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    file: PathBuf,
    line: usize,
}

impl Origin {
    pub(super) fn mistake(&self, why: impl Into<String>) -> Mistake {
        Mistake {
            file: self.file.clone(),
            line: Some(self.line),
            why: why.into(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A value, and where it was set.
pub(super) type Placed<T> = (T, Origin);

/// What a file may say. A key that is absent says nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    engine: Option<Spanned<String>>,
    service_uid: Option<Spanned<i64>>,
    log: Option<Spanned<String>>,
    #[serde(default)]
    connections: Connections,
    #[serde(default)]
    requests: Requests,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Connections {
    per_user: Option<Spanned<i64>>,
    total: Option<Spanned<i64>>,
    admin: Option<Spanned<i64>>,
    idle_seconds: Option<Spanned<i64>>,
    write_seconds: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Requests {
    pending: Option<Spanned<i64>>,
    per_second: Option<Spanned<i64>>,
}

/// The values of all files, the last of each.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) engine: Option<Placed<String>>,
    pub(super) service_uid: Option<Placed<i64>>,
    pub(super) log: Option<Placed<String>>,
    pub(super) per_user: Option<Placed<i64>>,
    pub(super) total: Option<Placed<i64>>,
    pub(super) admin: Option<Placed<i64>>,
    pub(super) idle_seconds: Option<Placed<i64>>,
    pub(super) write_seconds: Option<Placed<i64>>,
    pub(super) pending: Option<Placed<i64>>,
    pub(super) per_second: Option<Placed<i64>>,
}

impl Values {
    /// Takes over what a text says, before all that was said so far.
    pub(super) fn read(&mut self, file: &Path, text: &str) -> Result<(), Mistake> {
        let written: Written = toml::from_str(text).map_err(|error| Mistake {
            file: file.to_owned(),
            line: error.span().map(|span| line_of(text, span.start)),
            why: error.message().lines().collect::<Vec<_>>().join("; "),
        })?;
        macro_rules! take {
            ($($name:ident = $value:expr),* $(,)?) => {$(
                if let Some(value) = $value {
                    let origin = Origin {
                        file: file.to_owned(),
                        line: line_of(text, value.span().start),
                    };
                    self.$name = Some((value.into_inner(), origin));
                }
            )*};
        }
        let (connections, requests) = (written.connections, written.requests);
        take!(
            engine = written.engine,
            service_uid = written.service_uid,
            log = written.log,
            per_user = connections.per_user,
            total = connections.total,
            admin = connections.admin,
            idle_seconds = connections.idle_seconds,
            write_seconds = connections.write_seconds,
            pending = requests.pending,
            per_second = requests.per_second,
        );
        Ok(())
    }
}

/// The line of a byte, from 1 on.
fn line_of(text: &str, byte: usize) -> usize {
    let before = text.as_bytes().iter().take(byte);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// The text of a file; `None` where there is none. A link to `/dev/null` is an empty file.
pub(super) fn text(path: &Path) -> Result<Option<String>, Mistake> {
    let failed = |error: io::Error| Mistake::whole(path, format!("it cannot be read: {error}"));
    // Not waiting for the other end of a pipe.
    let options = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(options)
        .open(path);
    let file: File = match opened {
        // A link that leads nowhere is a mistake and not the wish to have no settings.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            return Ok(None);
        }
        other => other.map_err(failed)?,
    };
    let kind = file.metadata().map_err(failed)?;
    if kind.file_type().is_char_device() && is_null(&kind) {
        return Ok(Some(String::new()));
    }
    if !kind.is_file() {
        return Err(Mistake::whole(path, "it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MOST {
        return Err(Mistake::whole(
            path,
            format!("it has more than {MOST} bytes"),
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let before = error
                .as_bytes()
                .iter()
                .take(error.utf8_error().valid_up_to());
            Err(Mistake {
                file: path.to_owned(),
                line: Some(before.filter(|byte| **byte == b'\n').count() + 1),
                why: "it is not UTF-8".into(),
            })
        }
    }
}

fn is_null(kind: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    kind.rdev() == rustix::fs::makedev(1, 3)
}
