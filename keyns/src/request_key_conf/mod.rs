//! `request-key.conf`: which program makes a key that does not exist.
//!
//! Every line is a pattern for the four things a request consists of, and a command. All files are
//! read, and the line whose wildcards cover least wins. This is what `request-key.conf(5)` says and
//! what the C program does, oddities that configuration may rely on included: a line that is
//! incomplete is an error only for requests that match it as far as it goes, an indented line is a
//! comment, and a `#` within a line is an ordinary character.
//!
//! [`Search`] is the whole of it, on bytes. The program that serves requests and the dry run of
//! `keyctl-ns doctor` use it alike; what it looks at on the way it tells as [`Event`]s.
//!
//! Three things the C program gets wrong are put right. Behind a `*` with text on both sides of it
//! the text that follows is compared, and not the beginning of the pattern once more. A last line
//! without a line break keeps its last character. A line with a NUL, which C takes for its end, is
//! refused.

mod command;
mod explain;
mod files;
mod line;

pub use command::{Argument, BadMacro, Command, MAX_ARGUMENTS, Macro};
pub use explain::{Candidate, Explanation, Finding, Verdict, explain, inspect};
pub use files::{MAX_FILE, Places, SearchError, is_rules_file, search};
pub use line::{BadLine, Field, MAX_LINE, Outcome, Rule, Skips, covers, examine};

/// What is asked for, in the order in which it is compared. No text contains a NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// `create`, or `negate` once a program has failed.
    pub operation: &'a [u8],
    /// The type of the key.
    pub type_: &'a [u8],
    /// Its description.
    pub description: &'a [u8],
    /// What the requester says about it.
    pub callout: &'a [u8],
}

impl<'a> Request<'a> {
    /// The text that a column is compared with.
    #[must_use]
    pub const fn field(&self, field: Field) -> &'a [u8] {
        match field {
            Field::Operation => self.operation,
            Field::Type => self.type_,
            Field::Description => self.description,
            Field::Callout => self.callout,
        }
    }
}

/// A line that has won.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The name of the file, as messages show it.
    pub file: Vec<u8>,
    /// The number of the line, from 1.
    pub line: usize,
    /// How much its wildcards cover.
    pub skips: Skips,
    /// Program and arguments, as they are written.
    pub command: Vec<u8>,
}

/// What happens during a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A directory is read.
    Directory(&'a [u8]),
    /// A file is read.
    File(&'a [u8]),
    /// A column was compared; `covered` is how much its wildcard covers if it matches.
    Compared {
        /// The pattern of the line.
        pattern: &'a [u8],
        /// The text of the request.
        text: &'a [u8],
        /// The bytes that its `*` covers; `None`: no match.
        covered: Option<usize>,
    },
    /// A line does not match.
    Dropped {
        /// Its file.
        file: &'a [u8],
        /// Its number.
        line: usize,
        /// The first column that does not match.
        field: Field,
        /// What that column says.
        pattern: &'a [u8],
    },
    /// A line matches.
    Matches {
        /// Its file.
        file: &'a [u8],
        /// Its number.
        line: usize,
        /// How much its wildcards cover.
        skips: Skips,
        /// Program and arguments.
        command: &'a [u8],
    },
    /// The line that matched just now is the best so far.
    Preferred {
        /// Its file.
        file: &'a [u8],
        /// Its number.
        line: usize,
        /// How much its wildcards cover.
        skips: Skips,
    },
}

/// A line that makes the request fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its file.
    pub file: Vec<u8>,
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub defect: BadLine,
}

/// The search for the best line, file by file.
#[derive(Debug)]
pub struct Search<'a> {
    request: Request<'a>,
    best: Option<Choice>,
}

impl<'a> Search<'a> {
    /// Begins with no line.
    #[must_use]
    pub const fn new(request: Request<'a>) -> Self {
        Self {
            request,
            best: None,
        }
    }

    /// Looks at all lines of a file.
    ///
    /// # Errors
    /// The first line that is malformed and may be meant for this request: the request fails, as it
    /// is not known what that line should have said.
    pub fn file(
        &mut self,
        name: &[u8],
        content: &[u8],
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Malformed> {
        for (index, text) in content.split_inclusive(|b| *b == b'\n').enumerate() {
            let line = index + 1;
            let outcome =
                line::examine(text, &self.request, observe).map_err(|defect| Malformed {
                    file: name.to_vec(),
                    line,
                    defect,
                })?;
            match outcome {
                Outcome::Ignored => {}
                Outcome::Dropped { field, pattern } => observe(Event::Dropped {
                    file: name,
                    line,
                    field,
                    pattern,
                }),
                Outcome::Matches { skips, command } => {
                    self.matches(name, line, skips, command, observe);
                }
            }
        }
        Ok(())
    }

    fn matches(
        &mut self,
        file: &[u8],
        line: usize,
        skips: Skips,
        command: &[u8],
        observe: &mut dyn FnMut(Event<'_>),
    ) {
        observe(Event::Matches {
            file,
            line,
            skips,
            command,
        });
        // Of equals, the first.
        if self.best.as_ref().is_some_and(|best| best.skips <= skips) {
            return;
        }
        observe(Event::Preferred { file, line, skips });
        self.best = Some(Choice {
            file: file.to_vec(),
            line,
            skips,
            command: command.to_vec(),
        });
    }

    /// The best line.
    #[must_use]
    pub fn finish(self) -> Option<Choice> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: Request<'static> = Request {
        operation: b"create",
        type_: b"user",
        description: b"debug:1234",
        callout: b"info",
    };

    fn chosen(files: &[(&str, &str)]) -> Result<Option<(String, usize)>, Malformed> {
        let mut search = Search::new(REQUEST);
        for (name, content) in files {
            search.file(name.as_bytes(), content.as_bytes(), &mut |_| ())?;
        }
        Ok(search
            .finish()
            .map(|choice| (String::from_utf8(choice.file).unwrap(), choice.line)))
    }

    #[test]
    fn the_line_whose_wildcards_cover_least_wins_compared_column_by_column() {
        let found = |content| chosen(&[("f", content)]).unwrap().unwrap().1;
        // One byte less in an earlier column beats any number in a later one.
        assert_eq!(
            found("create user debug:1* * /a\ncreate * debug:1234 info /b\n"),
            1
        );
        assert_eq!(found("* user x* info /a\n* user * * /b\n"), 2);
        assert_eq!(
            found("create user * info /a\ncreate user debug:* * /b\n"),
            2
        );
    }

    #[test]
    fn of_equal_lines_the_first_read_wins_over_all_files() {
        let files = [
            ("a", "#\ncreate user * * /a\n"),
            ("b", "create user * * /b"),
        ];
        assert_eq!(chosen(&files), Ok(Some(("a".into(), 2))));
        let files = [files[0], ("b", "create user debug* * /b")];
        assert_eq!(chosen(&files), Ok(Some(("b".into(), 1))));
        assert_eq!(chosen(&[("a", "create user x * /a\n")]), Ok(None));
    }

    #[test]
    fn an_incomplete_line_fails_only_requests_that_match_it_as_far_as_it_goes() {
        let bad = |line, defect| {
            Err(Malformed {
                file: b"f".to_vec(),
                line,
                defect,
            })
        };
        let read = |content| chosen(&[("f", content)]);
        assert_eq!(read("create user\n"), bad(1, BadLine::Incomplete));
        assert_eq!(
            read("create user * * /a\ncreate user *\n"),
            bad(2, BadLine::Incomplete)
        );
        assert_eq!(read("negate user\n"), Ok(None));
        assert_eq!(read("word\n"), bad(1, BadLine::Incomplete));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic_and_a_choice_is_a_line_of_the_file(
            content in proptest::collection::vec(
                prop_oneof![
                    Just(b"create".to_vec()), Just(b"user".to_vec()), Just(b"*".to_vec()),
                    Just(b" ".to_vec()), Just(b"\n".to_vec()), Just(b"\0".to_vec()),
                    Just(b"debug:*".to_vec()), Just(b"/bin/x".to_vec()),
                    proptest::collection::vec(any::<u8>(), 0..8),
                ], 0..60),
        ) {
            let content = content.concat();
            let mut search = Search::new(REQUEST);
            let mut preferred = 0;
            let mut observe = |event: Event<'_>| {
                if let Event::Preferred { line, .. } = event { preferred = line; }
            };
            let outcome = search.file(b"f", &content, &mut observe);
            if let (Ok(()), Some(choice)) = (&outcome, search.finish()) {
                prop_assert_eq!(choice.line, preferred);
                let line = content.split(|b| *b == b'\n').nth(choice.line - 1).unwrap();
                prop_assert!(line.ends_with(&choice.command));
                prop_assert!(!choice.command.is_empty());
            }
        }
    }
}
