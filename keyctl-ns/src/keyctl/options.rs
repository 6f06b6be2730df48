//! The option parsing of getopt(3), as far as it is used.

use std::ffi::CStr;

use super::stop::Stop;

/// Where options may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Anywhere; operands are collected.
    Permute,
    /// Before the first operand.
    First,
}

/// What was found, in the order it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// Letters of options, with what was given to them.
    pub options: Vec<(u8, Option<&'a [u8]>)>,
    /// Everything else.
    pub operands: Vec<&'a CStr>,
    /// Where reading stopped; what stands before counts first.
    pub fault: Option<OptionError>,
}

/// A mistake of getopt's own kind, with the letter it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionError {
    /// The letter is no option.
    Invalid(u8),
    /// The option lacks what is to follow it.
    Lacking(u8),
}

/// Reads options of one letter: those in `plain`, and those in `valued`, which take the rest of
/// their word, or the next word.
#[must_use]
pub fn parse<'a>(words: &[&'a CStr], plain: &[u8], valued: &[u8], order: Order) -> Parsed<'a> {
    let mut parsed = Parsed {
        options: Vec::new(),
        operands: Vec::new(),
        fault: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.to_bytes() {
            b"--" => break,
            [b'-', letters @ ..] if !letters.is_empty() => {
                let mut letters = letters;
                while let Some((letter, rest)) = letters.split_first() {
                    letters = rest;
                    if valued.contains(letter) {
                        let value = if rest.is_empty() {
                            let Some(next) = words.next() else {
                                parsed.fault = Some(OptionError::Lacking(*letter));
                                return parsed;
                            };
                            next.to_bytes()
                        } else {
                            rest
                        };
                        parsed.options.push((*letter, Some(value)));
                        break;
                    }
                    if !plain.contains(letter) {
                        parsed.fault = Some(OptionError::Invalid(*letter));
                        return parsed;
                    }
                    parsed.options.push((*letter, None));
                }
            }
            _ => {
                parsed.operands.push(word);
                if order == Order::First {
                    break;
                }
            }
        }
    }
    parsed.operands.extend(words);
    parsed
}

impl OptionError {
    /// The two lines, status 2; `program` is what getopt takes for the program's name.
    pub(crate) fn stop(self, program: &str) -> Stop {
        let (what, letter) = match self {
            Self::Invalid(letter) => (": invalid option -- '", letter),
            Self::Lacking(letter) => (": option requires an argument -- '", letter),
        };
        let parts: [&[u8]; 4] = [
            program.as_bytes(),
            what.as_bytes(),
            &[letter],
            b"'\nUnknown option",
        ];
        Stop::said(parts.concat(), 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of<'a>(words: &[&'a CStr], order: Order) -> Parsed<'a> {
        parse(words, b"d", b"fn", order)
    }

    #[test]
    fn values_stand_in_the_same_word_or_the_next() {
        let words = [c"-fab", c"x", c"-d", c"-f", c"c", c"-dn", c""];
        let parsed = of(&words, Order::Permute);
        let options = [
            (b'f', Some(&b"ab"[..])),
            (b'd', None),
            (b'f', Some(b"c")),
            (b'd', None),
            (b'n', Some(b"")),
        ];
        assert_eq!(parsed.options, options);
        assert_eq!((parsed.operands, parsed.fault), (vec![c"x"], None));
    }

    #[test]
    fn options_end_at_two_dashes_or_the_first_operand() {
        let parsed = of(&[c"-d", c"--", c"-d", c"--"], Order::Permute);
        assert_eq!((parsed.options.len(), parsed.operands.len()), (1, 2));
        let parsed = of(&[c"-d", c"-", c"-d"], Order::First);
        assert_eq!(parsed.operands, [c"-", c"-d"]);
    }

    #[test]
    fn mistakes_name_their_letter_and_keep_what_stands_before() {
        let fault = |words: &[&'static CStr]| of(words, Order::First).fault;
        assert_eq!(fault(&[c"-dx"]), Some(OptionError::Invalid(b'x')));
        assert_eq!(fault(&[c"--f"]), Some(OptionError::Invalid(b'-')));
        assert_eq!(fault(&[c"-df"]), Some(OptionError::Lacking(b'f')));
        assert_eq!(of(&[c"-dx"], Order::First).options, [(b'd', None)]);
    }

    proptest! {
        #[test]
        fn arbitrary_words_never_panic(
            words in proptest::collection::vec("[-dfnx]{0,4}", 0..6), permute in any::<bool>()
        ) {
            let words: Vec<_> =
                words.into_iter().map(|w| std::ffi::CString::new(w).unwrap()).collect();
            let words: Vec<&CStr> = words.iter().map(|w| w.as_c_str()).collect();
            let order = if permute { Order::Permute } else { Order::First };
            prop_assert!(of(&words, order).operands.len() <= words.len());
        }
    }
}
