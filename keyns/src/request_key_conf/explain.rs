//! Why a line is chosen: the same search, with everything it looked at.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::load;
use super::{BadLine, Choice, Event, Field, Places, Request, Rule, SearchError, Skips, search};

/// What a line means for a request, in an [`Explanation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is for other requests.
    Dropped {
        /// The first column that does not match.
        field: Field,
        /// What that column says.
        pattern: Vec<u8>,
    },
    /// It is for this one.
    Matches {
        /// How much its wildcards cover.
        skips: Skips,
        /// Program and arguments.
        command: Vec<u8>,
    },
}

/// A line that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its file, as messages show it.
    pub file: Vec<u8>,
    /// Its number, from 1.
    pub line: usize,
    /// What it means.
    pub verdict: Verdict,
}

/// All that a search looked at, and how it ended.
#[derive(Debug)]
pub struct Explanation {
    /// The lines that are neither empty nor comments, up to the one that ended the search.
    pub candidates: Vec<Candidate>,
    /// The line that is chosen, none, or why the request fails.
    pub outcome: Result<Option<Choice>, SearchError>,
}

/// Searches as for a real request; nothing is executed.
#[must_use]
pub fn explain(places: &Places, request: Request<'_>) -> Explanation {
    let mut candidates = Vec::new();
    let outcome = search(places, request, &mut |event| {
        let (file, line, verdict) = match event {
            Event::Dropped {
                file,
                line,
                field,
                pattern,
            } => {
                let pattern = pattern.to_vec();
                (file, line, Verdict::Dropped { field, pattern })
            }
            Event::Matches {
                file,
                line,
                skips,
                command,
            } => {
                let command = command.to_vec();
                (file, line, Verdict::Matches { skips, command })
            }
            _ => return,
        };
        candidates.push(Candidate {
            file: file.to_vec(),
            line,
            verdict,
        });
    });
    Explanation {
        candidates,
        outcome,
    }
}

/// Something about the files that an administrator should know, whatever the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Somebody else than root may decide which programs run as root.
    Writable(PathBuf),
    /// A line is malformed: requests that match it as far as it goes fail.
    Malformed {
        /// Its file, as messages show it.
        file: Vec<u8>,
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        defect: BadLine,
    },
}

/// Looks at who may change the files, and at every line whatever request it is for.
///
/// # Errors
/// Those of reading the files, except that one does not exist.
pub fn inspect(places: &Places) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut paths = places.files()?;
    paths.push(places.file.clone());
    note_writable(&places.directory, &mut findings)?;
    for path in paths {
        note_writable(&path, &mut findings)?;
        let Some(content) = load(&path)? else {
            continue;
        };
        let name = if path == places.file {
            path.as_os_str()
        } else {
            path.file_name().unwrap_or_default()
        };
        for (index, line) in content.split_inclusive(|b| *b == b'\n').enumerate() {
            if let Err(defect) = Rule::parse(line) {
                findings.push(Finding::Malformed {
                    file: name.as_bytes().to_vec(),
                    line: index + 1,
                    defect,
                });
            }
        }
    }
    Ok(findings)
}

fn note_writable(path: &Path, findings: &mut Vec<Finding>) -> io::Result<()> {
    match fs::metadata(path) {
        // By group or everybody.
        Ok(found) if found.uid() != 0 || found.mode() & 0o022 != 0 => {
            findings.push(Finding::Writable(path.to_owned()));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn places(rules: &str) -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        let places = Places::below(root.path());
        fs::write(&places.file, rules).unwrap();
        (root, places)
    }

    const REQUEST: Request<'static> = Request {
        operation: b"create",
        type_: b"user",
        description: b"debug:1",
        callout: b"x",
    };

    #[test]
    fn every_line_up_to_the_end_of_the_search_is_judged() {
        let rules =
            "#\ncreate dns_resolver * * /a\n\ncreate user debug:* * /b\ncreate user * * /c\n";
        let (_root, places) = places(rules);
        let explained = explain(&places, REQUEST);
        let lines: Vec<usize> = explained.candidates.iter().map(|c| c.line).collect();
        assert_eq!(lines, [2, 4, 5]);
        assert_eq!(
            explained.candidates[0].verdict,
            Verdict::Dropped {
                field: Field::Type,
                pattern: b"dns_resolver".to_vec()
            }
        );
        assert_eq!(explained.outcome.unwrap().unwrap().line, 4);
    }

    #[test]
    fn a_malformed_line_ends_it_as_for_a_real_request() {
        let (_root, places) = places("create user * * /c\ncreate user\n");
        let explained = explain(&places, REQUEST);
        assert_eq!(explained.candidates.len(), 1);
        let told = explained.outcome.unwrap_err().to_string();
        assert!(told.ends_with("request-key.conf:2: Syntax error"), "{told}");
    }

    #[test]
    fn what_fails_other_requests_is_found_too() {
        let (_root, places) = places("negate user\n# x\ncreate user * * /c\nx\0y\n");
        fs::set_permissions(&places.file, fs::Permissions::from_mode(0o664)).unwrap();
        let file = places.file.as_os_str().as_bytes().to_vec();
        let malformed = |line, defect| Finding::Malformed {
            file: file.clone(),
            line,
            defect,
        };
        assert_eq!(
            inspect(&places).unwrap(),
            [
                Finding::Writable(places.file.clone()),
                malformed(1, BadLine::Incomplete),
                malformed(4, BadLine::Nul),
            ]
        );
    }
}
