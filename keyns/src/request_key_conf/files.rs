//! The files, and the order in which they are read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Choice, Event, Malformed, Request, Search};
use crate::errno_text::text_of;

/// The largest file, in bytes. The C program has no limit; a file that never ends would have it
/// read for ever, while the requester cannot be killed.
pub const MAX_FILE: u64 = 16 * 1024 * 1024;

const EFBIG: i32 = 27;

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The directory whose files are read first.
    pub directory: PathBuf,
    /// The file that is read last.
    pub file: PathBuf,
}

impl Places {
    /// Those of the system.
    #[must_use]
    pub fn system() -> Self {
        Self::below(Path::new("/etc"))
    }

    /// Those of another directory than `/etc`.
    #[must_use]
    pub fn below(directory: &Path) -> Self {
        Self {
            directory: directory.join("request-key.d"),
            file: directory.join("request-key.conf"),
        }
    }

    /// Those of the current directory, as `request-key -l` names them.
    #[must_use]
    pub fn here() -> Self {
        Self {
            directory: "request-key.d".into(),
            file: "request-key.conf".into(),
        }
    }

    /// The files of the directory that are read, by name.
    ///
    /// The C program takes them as the directory lists them, which is no order at all; sorted, of
    /// two lines that fit equally well the same one wins on every machine.
    ///
    /// # Errors
    /// That of reading the directory; one that does not exist has no files.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A symbolic link is none.
            if is_rules_file(entry.file_name().as_bytes()) && entry.file_type()?.is_file() {
                names.push(entry.file_name());
            }
        }
        names.sort_unstable();
        Ok(names.into_iter().map(|n| self.directory.join(n)).collect())
    }
}

/// Whether a file of the directory is read, by its name: not hidden, and ending in `.conf`.
#[must_use]
pub fn is_rules_file(name: &[u8]) -> bool {
    name.ends_with(b".conf") && !name.starts_with(b".")
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A file or directory cannot be opened.
    #[error("Cannot open {}: {}", String::from_utf8_lossy(.name), text_of(.error))]
    Open {
        /// Its name in messages.
        name: Vec<u8>,
        /// The cause.
        error: io::Error,
    },
    /// It cannot be read.
    #[error("{}: error {}", String::from_utf8_lossy(.name), text_of(.error))]
    Read {
        /// Its name in messages.
        name: Vec<u8>,
        /// The cause.
        error: io::Error,
    },
    /// A line is malformed.
    #[error("{}:{}: {}", String::from_utf8_lossy(&.0.file), .0.line, .0.defect)]
    Malformed(Malformed),
}

/// Reads all files and finds the line that fits a request best.
///
/// # Errors
/// [`SearchError`]: a file that is there and cannot be read might hold a better line. Missing files
/// are no error.
pub fn search(
    places: &Places,
    request: Request<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Option<Choice>, SearchError> {
    let mut search = Search::new(request);
    let directory = places.directory.as_os_str().as_bytes();
    observe(Event::Directory(directory));
    let files = places.files().map_err(|error| SearchError::Open {
        name: directory.to_vec(),
        error,
    })?;
    for path in files {
        let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        look(&mut search, &path, name, observe)?;
    }
    let name = places.file.as_os_str().as_bytes();
    look(&mut search, &places.file, name, observe)?;
    Ok(search.finish())
}

fn look(
    search: &mut Search<'_>,
    path: &Path,
    name: &[u8],
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<(), SearchError> {
    observe(Event::File(name));
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| SearchError::Open {
            name: name.to_vec(),
            error,
        })?,
    };
    let content = read(file).map_err(|error| SearchError::Read {
        name: name.to_vec(),
        error,
    })?;
    search
        .file(name, &content, observe)
        .map_err(SearchError::Malformed)
}

/// The content of a file, if there is one.
pub(super) fn load(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.and_then(read).map(Some),
    }
}

/// Never waits: neither for somebody at the other end of a pipe, nor for a terminal.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn read(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(4096);
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::from_raw_os_error(EFBIG));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const REQUEST: Request<'static> = Request {
        operation: b"create",
        type_: b"user",
        description: b"x",
        callout: b"",
    };

    fn found(root: &Path) -> Result<Option<Choice>, String> {
        search(&Places::below(root), REQUEST, &mut |_| ()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_files_of_the_directory_come_by_name_and_before_the_other() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::below(root.path());
        fs::create_dir(&places.directory).unwrap();
        fs::write(&places.file, "create user * * /last\n").unwrap();
        let rule = |name: &str, text: &str| fs::write(places.directory.join(name), text).unwrap();
        for name in ["b.conf", "c.conf", "a.conf"] {
            rule(name, &format!("create user * * /{name}\n"));
        }
        for name in [
            ".hidden.conf",
            ".conf",
            "a.conf~",
            "a.CONF",
            "conf",
            "0.cfg",
        ] {
            rule(name, "create user x * /wrong\n");
        }
        fs::create_dir(places.directory.join("0.conf")).unwrap();
        symlink(&places.file, places.directory.join("1.conf")).unwrap();
        let mut read = Vec::new();
        let choice = search(&places, REQUEST, &mut |event| {
            if let Event::File(name) = event {
                read.push(String::from_utf8_lossy(name).into_owned());
            }
        });
        let last = places.file.to_string_lossy().into_owned();
        assert_eq!(read, ["a.conf", "b.conf", "c.conf", &last]);
        let choice = choice.unwrap().unwrap();
        assert_eq!(
            (choice.file, choice.command),
            (b"a.conf".to_vec(), b"/a.conf".to_vec())
        );
    }

    #[test]
    fn missing_files_are_empty_and_others_fail_the_request() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(found(root.path()), Ok(None));
        let places = Places::below(root.path());
        fs::write(&places.directory, "").unwrap();
        let told = format!(
            "Cannot open {}: Not a directory",
            places.directory.display()
        );
        assert_eq!(found(root.path()), Err(told));
        fs::remove_file(&places.directory).unwrap();
        fs::create_dir(&places.file).unwrap();
        let told = format!("{}: error Is a directory", places.file.display());
        assert_eq!(found(root.path()), Err(told));
        fs::remove_dir(&places.file).unwrap();
        symlink(&places.file, &places.file).unwrap();
        let told = format!(
            "Cannot open {}: Too many levels of symbolic links",
            places.file.display()
        );
        assert_eq!(found(root.path()), Err(told));
    }

    #[test]
    fn a_malformed_line_is_told_with_file_and_number() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::below(root.path());
        fs::create_dir(&places.directory).unwrap();
        fs::write(places.directory.join("a.conf"), "#\n\ncreate user\n").unwrap();
        fs::write(&places.file, "create user * * /a\n").unwrap();
        assert_eq!(found(root.path()), Err("a.conf:3: Syntax error".into()));
    }

    #[test]
    fn neither_an_endless_file_nor_a_pipe_holds_it_up() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::below(root.path());
        symlink("/dev/zero", &places.file).unwrap();
        let told = format!("{}: error File too large", places.file.display());
        assert_eq!(found(root.path()), Err(told));
        fs::remove_file(&places.file).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &places.file, fifo, mode, 0).unwrap();
        assert_eq!(found(root.path()), Ok(None));
    }
}
