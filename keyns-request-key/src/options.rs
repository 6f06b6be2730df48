//! The command line, as `getopt(3)` reads it.

use std::ffi::CStr;
use std::io::Write as _;

use keyns_sys::helper_process::Arguments;

use crate::Failure;

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `-d`: no key is touched, nothing is executed.
    pub(crate) debugging: bool,
    /// `-D`: what the kernel would say about the key.
    pub(crate) description: Option<&'static CStr>,
    /// `-l`: the files of the current directory.
    pub(crate) local: bool,
    /// `-n`: nothing to the system's log.
    pub(crate) unlogged: bool,
    /// `-v`, how many times.
    pub(crate) verbose: usize,
    /// What is no option.
    pub(crate) operands: Vec<&'static CStr>,
}

impl Options {
    /// Options may stand anywhere; after `--` there are none. A faulty one is told and ignored.
    pub(crate) fn read(arguments: Arguments) -> Self {
        let name = arguments.get(0).unwrap_or_default();
        Self::parse(arguments, &mut |complaint, letter| {
            let text = [
                name.to_bytes(),
                complaint.as_bytes(),
                b" -- '",
                &[letter],
                b"'\n",
            ];
            // There is nobody else to tell.
            let _ = std::io::stderr().write_all(&text.concat());
        })
    }

    fn parse(arguments: Arguments, complain: &mut dyn FnMut(&str, u8)) -> Self {
        let mut options = Self::default();
        let mut words = (1..arguments.count()).filter_map(|n| arguments.get(n));
        if is_from_kernel(arguments) {
            options.operands = words.collect();
            return options;
        }
        while let Some(word) = words.next() {
            match word.to_bytes() {
                b"--" => {
                    options.operands.extend(words);
                    break;
                }
                [b'-', letters @ ..] if !letters.is_empty() => {
                    options.letters(word, &mut words, complain);
                }
                _ => options.operands.push(word),
            }
        }
        options
    }

    fn letters(
        &mut self,
        word: &'static CStr,
        words: &mut impl Iterator<Item = &'static CStr>,
        complain: &mut dyn FnMut(&str, u8),
    ) {
        let letters = word.to_bytes();
        for (position, letter) in letters.iter().enumerate().skip(1) {
            match letter {
                b'd' => self.debugging = true,
                b'l' => self.local = true,
                b'n' => self.unlogged = true,
                b'v' => self.verbose += 1,
                b'D' => {
                    // The rest of the word, or the next one.
                    let rest = word.to_bytes_with_nul().get(position + 1..);
                    let rest = rest.and_then(|rest| CStr::from_bytes_with_nul(rest).ok());
                    let value = rest.filter(|rest| !rest.is_empty());
                    match value.or_else(|| words.next()) {
                        Some(value) => self.description = Some(value),
                        None => complain(": option requires an argument", *letter),
                    }
                    break;
                }
                other => complain(": invalid option", *other),
            }
        }
    }
}

/// Whether the words can only be the kernel's, so that none of them is an option: it prints ids from
/// 2³¹ on as negative numbers.
fn is_from_kernel(arguments: Arguments) -> bool {
    let is_number = |word: &CStr| {
        let digits = word.to_bytes();
        let digits = digits.strip_prefix(b"-").unwrap_or(digits);
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    };
    arguments.count() == 8
        && arguments.get(1) == Some(c"create")
        && (2..8).all(|n| arguments.get(n).is_some_and(is_number))
}

/// What the kernel passes, as it passes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invocation {
    pub(crate) operation: &'static CStr,
    pub(crate) key: &'static CStr,
    pub(crate) uid: &'static CStr,
    pub(crate) gid: &'static CStr,
    pub(crate) thread: &'static CStr,
    pub(crate) process: &'static CStr,
    pub(crate) session: &'static CStr,
    /// Old kernels passed it along.
    pub(crate) callout: Option<&'static CStr>,
}

impl Invocation {
    /// Takes seven operands, or eight.
    pub(crate) fn of(operands: &[&'static CStr]) -> Result<Self, Failure> {
        let (operands, callout) = match operands {
            [operands @ .., callout] if operands.len() == 7 => (operands, Some(*callout)),
            operands => (operands, None),
        };
        let [operation, key, uid, gid, thread, process, session] = *operands else {
            return Err(format!("Unexpected argument count: {}", operands.len()).into());
        };
        Ok(Self {
            operation,
            key,
            uid,
            gid,
            thread,
            process,
            session,
            callout,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    fn read(words: &[&str]) -> (Options, Vec<String>) {
        let words = ["program"].iter().chain(words);
        let words = words.map(|w| CString::new(*w).unwrap()).collect();
        let mut complaints = Vec::new();
        let options = Options::parse(Arguments::leak(words), &mut |text, letter| {
            complaints.push(format!("{text} {}", char::from(letter)));
        });
        (options, complaints)
    }

    #[test]
    fn options_may_stand_anywhere_and_in_one_word() {
        let (options, complaints) = read(&["a", "-dv", "b", "-vln", "-", "c"]);
        assert!(options.debugging && options.local && options.unlogged);
        assert_eq!(options.verbose, 2);
        assert_eq!(options.operands, [c"a", c"b", c"-", c"c"]);
        assert!(complaints.is_empty());
    }

    #[test]
    fn a_description_is_the_rest_of_the_word_or_the_next() {
        for words in [&["-dDuser;1"][..], &["-dD", "user;1"]] {
            assert_eq!(read(words).0.description, Some(c"user;1"));
        }
        let (options, complaints) = read(&["-D"]);
        assert_eq!(options.description, None);
        assert_eq!(complaints, [": option requires an argument D"]);
    }

    #[test]
    fn a_faulty_option_is_told_and_ignored() {
        let (options, complaints) = read(&["-xd", "-7"]);
        assert!(options.debugging);
        assert_eq!(complaints, [": invalid option x", ": invalid option 7"]);
        let (options, complaints) = read(&["--", "-7"]);
        assert_eq!(options.operands, [c"-7"]);
        assert!(complaints.is_empty());
    }

    #[test]
    fn the_kernels_negative_numbers_are_ids() {
        let words = ["create", "12", "-2147483643", "-2", "0", "0", "9"];
        let (options, complaints) = read(&words);
        assert_eq!((options.operands.len(), complaints.len()), (7, 0));
        let invocation = Invocation::of(&options.operands).ok().unwrap();
        assert_eq!((invocation.uid, invocation.gid), (c"-2147483643", c"-2"));
        // With a word more or less it is somebody who tries.
        assert_eq!(read(&["create", "12", "-1", "-2", "0", "0"]).1.len(), 2);
    }

    #[test]
    fn seven_operands_or_eight() {
        let words = [c"create", c"1", c"2", c"3", c"4", c"5", c"6", c"7"];
        assert_eq!(Invocation::of(&words).ok().unwrap().callout, Some(c"7"));
        let seven = Invocation::of(&words[..7]).ok().unwrap();
        assert_eq!((seven.session, seven.callout), (c"6", None));
        for count in [0, 6] {
            let told = Invocation::of(&words[..count]).err().unwrap().0;
            assert_eq!(
                told,
                format!("Unexpected argument count: {count}").as_bytes()
            );
        }
    }
}
