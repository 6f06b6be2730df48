//! One line: four patterns and a command.

use std::fmt;

use super::{Event, Request};

/// The longest line, its line break included, in bytes; comments are no exception.
pub const MAX_LINE: usize = 4095;

/// The columns that are compared, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `create` or `negate`.
    Operation,
    /// The type of the key.
    Type,
    /// Its description.
    Description,
    /// The callout information.
    Callout,
}

impl Field {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [
        Self::Operation,
        Self::Type,
        Self::Description,
        Self::Callout,
    ];

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operation => "operation",
            Self::Type => "type",
            Self::Description => "description",
            Self::Callout => "callout",
        }
    }
}

/// How many bytes the wildcard of each column covers; the smallest, compared column by column, is
/// the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skips(pub [usize; 4]);

/// `0,0,4,4`.
impl fmt::Display for Skips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [operation, type_, description, callout] = self.0;
        write!(f, "{operation},{type_},{description},{callout}")
    }
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// It has more than [`MAX_LINE`] bytes.
    #[error("Line too long")]
    TooLong,
    /// It ends before its command.
    #[error("Syntax error")]
    Incomplete,
    /// It contains a NUL.
    #[error("Syntax error")]
    Nul,
}

impl BadLine {
    /// The same as a clause for people.
    #[must_use]
    pub const fn clause(self) -> &'static str {
        match self {
            Self::TooLong => "the line is longer than 4095 bytes",
            Self::Incomplete => "the line ends before the program it should name",
            Self::Nul => "the line contains a NUL byte",
        }
    }
}

/// What a line means for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It is empty or a comment.
    Ignored,
    /// It is for other requests.
    Dropped {
        /// The first column that does not match.
        field: Field,
        /// What that column says.
        pattern: &'a [u8],
    },
    /// It is for this one.
    Matches {
        /// How much its wildcards cover.
        skips: Skips,
        /// Program and arguments.
        command: &'a [u8],
    },
}

/// What C calls white space.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Without the white space it begins with.
pub(super) fn trimmed(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| !is_space(*b));
    start.and_then(|n| text.get(n..)).unwrap_or_default()
}

/// The first word of `text`, and what follows it with the white space between; `None` as the second
/// where the text ends with the word.
pub(super) fn word(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|b| is_space(*b)) {
        Some(end) => {
            let (word, rest) = text.split_at(end);
            (word, Some(rest))
        }
        None => (text, None),
    }
}

/// Compares a line, with or without its line break, with a request.
///
/// The columns are compared as they are read: a line that does not match is never malformed because
/// of what comes later.
///
/// # Errors
/// [`BadLine`]; [`BadLine::TooLong`] also for comments.
pub fn examine<'a>(
    line: &'a [u8],
    request: &Request<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome<'a>, BadLine> {
    let Some(mut rest) = significant(line)? else {
        return Ok(Outcome::Ignored);
    };
    let mut skips = Skips::default();
    for (field, skip) in Field::ALL.into_iter().zip(&mut skips.0) {
        let (pattern, after) = word(rest);
        let after = after.ok_or(BadLine::Incomplete)?;
        if pattern.is_empty() {
            return Err(BadLine::Incomplete);
        }
        let text = request.field(field);
        let covered = covers(pattern, text);
        observe(Event::Compared {
            pattern,
            text,
            covered,
        });
        match covered {
            Some(covered) => *skip = covered,
            None => return Ok(Outcome::Dropped { field, pattern }),
        }
        rest = trimmed(after);
    }
    if rest.is_empty() {
        return Err(BadLine::Incomplete);
    }
    Ok(Outcome::Matches {
        skips,
        command: rest,
    })
}

/// The line without its line break; `None` for one that says nothing.
fn significant(line: &[u8]) -> Result<Option<&[u8]>, BadLine> {
    if line.len() > MAX_LINE {
        return Err(BadLine::TooLong);
    }
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    match text.first() {
        None | Some(b'#') => Ok(None),
        Some(byte) if is_space(*byte) => Ok(None),
        // C would take it for the end of the line, or of what is before the line.
        Some(_) if text.contains(&0) => Err(BadLine::Nul),
        Some(_) => Ok(Some(text)),
    }
}

/// How many bytes the wildcard of `pattern` covers in `text`; `None` if they do not match.
///
/// The first `*` matches any bytes, also none; everything else, further ones included, matches
/// itself. A pattern without `*` covers nothing.
#[must_use]
pub fn covers(pattern: &[u8], text: &[u8]) -> Option<usize> {
    let Some(star) = pattern.iter().position(|b| *b == b'*') else {
        return (pattern == text).then_some(0);
    };
    let (before, after) = (pattern.get(..star)?, pattern.get(star + 1..)?);
    text.strip_prefix(before)?
        .strip_suffix(after)
        .map(<[u8]>::len)
}

/// A complete line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// The four patterns, in the order of [`Field::ALL`].
    pub patterns: [&'a [u8]; 4],
    /// Program and arguments.
    pub command: &'a [u8],
}

impl<'a> Rule<'a> {
    /// Reads a line to its end, whatever request it is for; `None` for an empty one or a comment.
    ///
    /// # Errors
    /// [`BadLine`].
    pub fn parse(line: &'a [u8]) -> Result<Option<Self>, BadLine> {
        let Some(mut rest) = significant(line)? else {
            return Ok(None);
        };
        let mut patterns: [&[u8]; 4] = [&[]; 4];
        for pattern in &mut patterns {
            let (first, after) = word(rest);
            *pattern = first;
            rest = trimmed(after.ok_or(BadLine::Incomplete)?);
        }
        if rest.is_empty() {
            return Err(BadLine::Incomplete);
        }
        Ok(Some(Self {
            patterns,
            command: rest,
        }))
    }

    /// The line, with its line break: what [`parse`](Self::parse) reads.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = self.patterns.join(&b'\t');
        line.push(b'\t');
        line.extend_from_slice(self.command);
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_asterisk_is_the_only_wildcard() {
        for (pattern, text, covered) in [
            ("user", "user", Some(0)),
            ("user", "User", None),
            ("*", "", Some(0)),
            ("*", "abc", Some(3)),
            ("debug:*", "debug:", Some(0)),
            ("debug:*", "debug", None),
            ("a*c", "abbc", Some(2)),
            ("ab*ba", "aba", None),
            ("u*e*r", "user", None),
            ("u*e*r", "uxe*r", Some(1)),
            ("**", "x*", Some(1)),
            ("[a]?", "a", None),
            ("", "", Some(0)),
        ] {
            assert_eq!(
                covers(pattern.as_bytes(), text.as_bytes()),
                covered,
                "{pattern} {text}"
            );
        }
    }

    fn outcome(line: &str) -> Result<Outcome<'_>, BadLine> {
        let request = Request {
            operation: b"create",
            type_: b"user",
            description: b"debug:1234",
            callout: b"info",
        };
        examine(line.as_bytes(), &request, &mut |_| ())
    }

    #[test]
    fn what_follows_the_columns_is_the_command_with_its_trailing_blanks() {
        let Ok(Outcome::Matches { skips, command }) =
            outcome("create\tuser  debug:* *\x0b/a  b\t c  \r\n")
        else {
            panic!("no match")
        };
        assert_eq!(skips.to_string(), "0,0,4,4");
        assert_eq!(command, b"/a  b\t c  \r");
    }

    #[test]
    fn a_last_line_without_a_line_break_is_whole() {
        let Ok(Outcome::Matches { command, .. }) = outcome("create user * * /a %S") else {
            panic!("no match")
        };
        assert_eq!(command, b"/a %S");
    }

    #[test]
    fn comments_begin_at_the_first_character() {
        for line in [
            "",
            "\n",
            "#",
            "# create user * * /a\n",
            " create\n",
            "\tx",
            "\r\n",
        ] {
            assert_eq!(outcome(line), Ok(Outcome::Ignored), "{line:?}");
        }
        assert!(matches!(
            outcome("create user * * /a # b"),
            Ok(Outcome::Matches {
                command: b"/a # b",
                ..
            })
        ));
    }

    #[test]
    fn a_word_at_the_end_of_the_line_is_not_even_compared() {
        for line in [
            "other",
            "create other",
            "create user other\n",
            "create user * x",
        ] {
            assert_eq!(outcome(line), Err(BadLine::Incomplete), "{line:?}");
        }
        // With a blank behind it, it is compared first.
        for line in [
            "other ",
            "create other ",
            "create user * x \n",
            "create user * x\r\n",
        ] {
            assert!(
                matches!(outcome(line), Ok(Outcome::Dropped { .. })),
                "{line:?}"
            );
        }
        for line in ["create ", "create user * * ", "create user * *  \r\n"] {
            assert_eq!(outcome(line), Err(BadLine::Incomplete), "{line:?}");
        }
    }

    #[test]
    fn a_line_has_4095_bytes_at_most_with_its_line_break() {
        let line = |length: usize, end: &str| {
            let text = format!("create user * * /a {}", "b".repeat(length));
            format!("{}{end}", &text[..length])
        };
        for (length, end, fits) in [
            (4094, "\n", true),
            (4095, "\n", false),
            (4095, "", true),
            (4096, "", false),
        ] {
            assert_eq!(
                outcome(&line(length, end)) != Err(BadLine::TooLong),
                fits,
                "{length}"
            );
            let comment = format!("#{}{end}", "b".repeat(length - 1));
            assert_eq!(outcome(&comment).is_ok(), fits, "comment of {length}");
        }
    }

    #[test]
    fn a_line_with_a_nul_is_refused_and_a_comment_is_not() {
        assert_eq!(outcome("create user * * /a\0b\n"), Err(BadLine::Nul));
        assert_eq!(outcome("\0create user * * /a\n"), Err(BadLine::Nul));
        assert_eq!(outcome("# \0\n"), Ok(Outcome::Ignored));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_itself(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let line: Vec<u8> = line.into_iter().filter(|b| *b != b'\n').collect();
            if let Ok(Some(rule)) = Rule::parse(&line) {
                let printed = rule.to_line();
                prop_assert_eq!(Rule::parse(&printed), Ok(Some(rule)));
            }
        }

        #[test]
        fn rules_made_of_words_come_back(
            patterns in proptest::array::uniform4("[!-\"$-~][!-~]{0,9}"),
            command in "[/|][!-~]{0,9}( [!-~]{1,9}){0,5} {0,2}",
        ) {
            let [a, b, c, d] = &patterns;
            let rule = Rule {
                patterns: [a, b, c, d].map(|p| p.as_bytes()),
                command: command.as_bytes(),
            };
            let printed = rule.to_line();
            prop_assert_eq!(Rule::parse(&printed), Ok(Some(rule)));
        }

        #[test]
        fn a_complete_rule_is_never_malformed_for_any_request(
            line in "[a-z*]{1,3} [a-z*]{1,3} [a-z*]{1,3} [a-z*]{1,3} [a-z/|%]{1,5}",
            texts in proptest::array::uniform4("[a-z*]{0,4}"),
        ) {
            let [operation, type_, description, callout] = &texts;
            let request = Request {
                operation: operation.as_bytes(),
                type_: type_.as_bytes(),
                description: description.as_bytes(),
                callout: callout.as_bytes(),
            };
            let rule = Rule::parse(line.as_bytes()).unwrap().unwrap();
            let all = Field::ALL.iter().zip(rule.patterns)
                .map(|(field, pattern)| covers(pattern, request.field(*field)));
            let expected: Option<Vec<usize>> = all.collect();
            match examine(line.as_bytes(), &request, &mut |_| ()).unwrap() {
                Outcome::Matches { skips, command } => {
                    prop_assert_eq!(Some(skips.0.to_vec()), expected);
                    prop_assert_eq!(command, rule.command);
                }
                Outcome::Dropped { .. } => prop_assert_eq!(expected, None),
                Outcome::Ignored => prop_assert!(false),
            }
        }

        #[test]
        fn a_wildcard_covers_what_its_pattern_leaves(
            before in "[ab]{0,3}", middle in "[ab*]{0,4}", after in "[ab*]{0,3}",
        ) {
            let text = format!("{before}{middle}{after}");
            let pattern = format!("{before}*{after}");
            prop_assert_eq!(covers(pattern.as_bytes(), text.as_bytes()), Some(middle.len()));
        }
    }
}
