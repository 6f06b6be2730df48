//! The table of command lines, and how it is written.
//!
//! A line is the arguments of one call; `+` before it means: in the same session as the line above.
//! Words are separated by blanks and may be quoted (`"a\n\xff"`). `{name}` is the serial of what the
//! session holds by that name. `<"text"` is standard input, `<a*1000` a thousand of that letter;
//! without, it is empty. `sleep MILLISECONDS` waits. `#` begins a comment.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// Calls in one session.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) lines: Vec<Line>,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// As it is written.
    pub(crate) text: String,
    pub(crate) words: Vec<Vec<u8>>,
    pub(crate) input: Vec<u8>,
}

impl Story {
    pub(crate) fn line(text: &str) -> Self {
        Self::of(&[text])
    }

    pub(crate) fn of(lines: &[&str]) -> Self {
        Self {
            lines: lines.iter().map(|line| read_line(line)).collect(),
        }
    }
}

/// Reads a table.
pub(crate) fn parse(table: &str) -> Vec<Story> {
    let mut stories: Vec<Story> = Vec::new();
    for text in table.lines().map(str::trim_start) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match text.strip_prefix("+ ") {
            Some(text) => stories.last_mut().unwrap().lines.push(read_line(text)),
            None => stories.push(Story::line(text)),
        }
    }
    stories
}

/// The commands that the usage text of ours names; that it is the original's is tested too.
pub(crate) fn commands() -> Vec<String> {
    keyctl_ns::keyctl::COMMANDS
        .iter()
        .map(|command| command.name.to_owned())
        .filter(|name| !name.starts_with("--"))
        .collect()
}

fn read_line(text: &str) -> Line {
    let mut line = Line {
        text: text.to_owned(),
        words: Vec::new(),
        input: Vec::new(),
    };
    let mut rest = text.as_bytes();
    loop {
        rest = rest.trim_ascii_start();
        let Some(first) = rest.first() else {
            return line;
        };
        if *first == b'<' {
            let (word, tail) = read_word(&rest[1..]);
            line.input = match word.split(|b| *b == b'*').collect::<Vec<_>>()[..] {
                [letter @ [_], count] if rest[1] != b'"' => {
                    let count = str::from_utf8(count).unwrap().parse().unwrap();
                    letter.repeat(count)
                }
                _ => word,
            };
            rest = tail;
        } else {
            let (word, tail) = read_word(rest);
            line.words.push(word);
            rest = tail;
        }
    }
}

fn read_word(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut word = Vec::new();
    let mut quoted = false;
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'"' => quoted = !quoted,
            b' ' if !quoted => break,
            b'\\' if quoted => {
                let (escaped, tail) = rest.split_first().unwrap();
                rest = tail;
                match escaped {
                    b'n' => word.push(b'\n'),
                    b't' => word.push(b'\t'),
                    b'0' => word.push(0),
                    b'x' => {
                        let digits = str::from_utf8(&rest[..2]).unwrap();
                        word.push(u8::from_str_radix(digits, 16).unwrap());
                        rest = &rest[2..];
                    }
                    other => word.push(*other),
                }
            }
            other => word.push(*other),
        }
    }
    assert!(!quoted, "unfinished: {}", String::from_utf8_lossy(text));
    (word, rest)
}

/// A word with the serials in place of the names.
pub(crate) fn fill_in(word: &[u8], serial: impl Fn(&str) -> i32) -> OsString {
    let mut filled = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.iter().position(|b| *b == b'{') {
        let end = rest.iter().position(|b| *b == b'}').unwrap();
        filled.extend_from_slice(&rest[..at]);
        let name = str::from_utf8(&rest[at + 1..end]).unwrap();
        filled.extend_from_slice(serial(name).to_string().as_bytes());
        rest = &rest[end + 1..];
    }
    filled.extend_from_slice(rest);
    OsString::from_vec(filled)
}
