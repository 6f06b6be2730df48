//! What a call had to say, without what the kernel chose at random.

use std::sync::atomic::{AtomicU32, Ordering};

/// The outcome of one call, with names for serials.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: String,
}

impl Outcome {
    /// The original reads the lines of `/proc/keys` into fields of fixed size. Descriptions with
    /// line breaks, such as other tests make, can be anything, and end it.
    pub(crate) fn is_crash(&self) -> bool {
        self.status == "signal Some(11)"
    }

    /// All of it in one line.
    pub(crate) fn summary(&self) -> String {
        format!("{:?} {:?} {}", self.stdout, self.stderr, self.status)
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.summary())
    }
}

/// What stands for `compat` in descriptions: keys that are not possessed are found by name, those of
/// other tests included.
#[derive(Debug, Clone)]
pub(crate) struct Tag {
    lower: String,
    upper: String,
}

impl Tag {
    /// One that nobody else uses, as long as what it stands for.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut number = std::process::id() * 32 + count;
        let mut lower = String::new();
        for _ in 0.."compat".len() {
            lower.push(char::from(b'a' + (number % 26) as u8));
            number /= 26;
        }
        let upper = lower.to_uppercase();
        Self { lower, upper }
    }

    pub(crate) fn apply(&self, text: &[u8]) -> Vec<u8> {
        let text = replace(text.to_vec(), "compat", &self.lower);
        replace(text, "COMPAT", &self.upper)
    }

    fn undo(&self, text: Vec<u8>) -> Vec<u8> {
        let text = replace(text, &self.lower, "compat");
        replace(text, &self.upper, "COMPAT")
    }
}

/// Serials with names, and those that came up on the way.
#[derive(Debug)]
pub(crate) struct Names {
    known: Vec<(i32, String)>,
    tag: Tag,
}

impl Names {
    pub(crate) fn new(tag: &Tag) -> Self {
        Self {
            known: Vec::new(),
            tag: tag.clone(),
        }
    }

    pub(crate) fn add(&mut self, name: &str, serial: i32) {
        self.known.push((serial, name.to_owned()));
    }

    /// The serials of the keys that were made for the story, not of those that came up in it, such
    /// as the keyring of the user; keyrings were added before what they hold.
    pub(crate) fn prepared(&self) -> impl Iterator<Item = i32> {
        let prepared = self
            .known
            .iter()
            .filter(|(_, name)| !name.starts_with("new"));
        prepared.rev().map(|(serial, _)| *serial)
    }

    pub(crate) fn serial(&self, name: &str) -> i32 {
        let known = self.known.iter().find(|(_, known)| known == name);
        known.unwrap_or_else(|| panic!("no key is called {name}")).0
    }

    /// Gives a name to a number that is alone on standard output, or that a session keyring has.
    pub(crate) fn learn(&mut self, stdout: &[u8], stderr: &[u8]) {
        let alone = stdout.strip_suffix(b"\n").into_iter();
        let joined = stderr
            .split(|b| *b == b'\n')
            .filter_map(|line| line.strip_prefix(b"Joined session keyring: "));
        for text in alone.chain(joined) {
            let number = str::from_utf8(text).ok().and_then(|t| t.parse().ok());
            if let Some(serial) = number.filter(|n: &i32| *n > 1_000)
                && !self.known.iter().any(|(known, _)| *known == serial)
            {
                let name = format!("new{}", self.known.len());
                self.known.push((serial, name));
            }
        }
    }

    /// Replaces serials in all the forms in which they are printed.
    pub(crate) fn replace(&self, text: &[u8]) -> String {
        let is_binary = text.iter().any(|b| !b.is_ascii());
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let after_digit = at > 0 && text[at - 1].is_ascii_digit();
            let decimal = || {
                let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                let number = str::from_utf8(&rest[..digits]).unwrap().parse().ok()?;
                Some((self.name(number)?, digits))
            };
            let hexadecimal = || {
                let digits = rest.first_chunk::<8>()?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                let number = u32::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
                // In a dump, the bytes as they lie in memory.
                let of_dump = u32::from_ne_bytes(number.to_be_bytes());
                let name = self.name(number as i32).or(self.name(of_dump as i32))?;
                Some((name, 8))
            };
            let binary = || Some((self.name(i32::from_ne_bytes(*rest.first_chunk()?))?, 4));
            let found = None
                .or_else(|| if after_digit { None } else { decimal() })
                .or_else(hexadecimal)
                .or_else(|| if is_binary { binary() } else { None });
            if let Some((name, length)) = found {
                // Those that were made on the way have more or fewer digits, and blanks before.
                if name.starts_with("new") {
                    let line = out.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                    if out[line..].iter().all(|b| *b == b' ') {
                        out.truncate(line);
                    }
                }
                out.extend_from_slice(format!("<{name}>").as_bytes());
                at += length;
            } else {
                out.push(text[at]);
                at += 1;
            }
        }
        readable(&self.tag.undo(out))
    }

    fn name(&self, serial: i32) -> Option<&str> {
        let known = self.known.iter().find(|(known, _)| *known == serial);
        known.map(|(_, name)| name.as_str())
    }
}

/// Bytes as text, with what is no text escaped.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\n' | b' '..=b'~' => text.push(char::from(*byte)),
            other => text.push_str(&other.escape_ascii().to_string()),
        }
    }
    text
}

/// Replaces every occurrence of a text by one of the same length.
fn replace(mut text: Vec<u8>, what: &str, with: &str) -> Vec<u8> {
    assert_eq!(what.len(), with.len());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(what.as_bytes()) {
            text[at..at + with.len()].copy_from_slice(with.as_bytes());
            at += with.len();
        } else {
            at += 1;
        }
    }
    text
}
