//! What a line has executed: a program, and arguments some of which are macros.

use super::line::{trimmed, word};

/// How many arguments a program may be given, its name not counted.
pub const MAX_ARGUMENTS: usize = 253;

/// Program and arguments of a line, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Whether the program is fed the callout information and its output becomes the payload.
    pub piped: bool,
    /// Path of the program.
    pub program: &'a [u8],
    arguments: &'a [u8],
}

impl<'a> Command<'a> {
    /// Splits at white space; there is no quoting.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Self {
        let (first, rest) = word(text);
        let program = first.strip_prefix(b"|");
        Self {
            piped: program.is_some(),
            program: program.unwrap_or(first),
            arguments: rest.unwrap_or_default(),
        }
    }

    /// What the program is called, the part after the last `/`; `None` for a path without one,
    /// which is not executed.
    #[must_use]
    pub fn name(&self) -> Option<&'a [u8]> {
        let slash = self.program.iter().rposition(|b| *b == b'/')?;
        self.program.get(slash + 1..)
    }

    /// The arguments as they are written, also more than [`MAX_ARGUMENTS`].
    pub fn arguments(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = trimmed(self.arguments);
        std::iter::from_fn(move || {
            let (first, after) = word(rest);
            rest = trimmed(after.unwrap_or_default());
            (!first.is_empty()).then_some(first)
        })
    }
}

/// What a macro of one letter stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Macro {
    /// `%o`, the operation.
    Operation,
    /// `%k`, the serial number of the key.
    Key,
    /// `%t`, its type.
    Type,
    /// `%d`, its description.
    Description,
    /// `%c`, the callout information.
    Callout,
    /// `%u`, the uid of the requester.
    Uid,
    /// `%g`, its gid.
    Gid,
    /// `%T`, its thread keyring.
    Thread,
    /// `%P`, its process keyring.
    Process,
    /// `%S`, its session keyring.
    Session,
}

impl Macro {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Operation,
        Self::Key,
        Self::Type,
        Self::Description,
        Self::Callout,
        Self::Uid,
        Self::Gid,
        Self::Thread,
        Self::Process,
        Self::Session,
    ];

    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Operation => b'o',
            Self::Key => b'k',
            Self::Type => b't',
            Self::Description => b'd',
            Self::Callout => b'c',
            Self::Uid => b'u',
            Self::Gid => b'g',
            Self::Thread => b'T',
            Self::Process => b'P',
            Self::Session => b'S',
        }
    }

    /// What people call what it stands for.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Operation => "the operation",
            Self::Key => "the serial number of the key",
            Self::Type => "the type of the key",
            Self::Description => "the description of the key",
            Self::Callout => "the callout information",
            Self::Uid => "the uid of the requester",
            Self::Gid => "the gid of the requester",
            Self::Thread => "the thread keyring of the requester",
            Self::Process => "the process keyring of the requester",
            Self::Session => "the session keyring of the requester",
        }
    }
}

/// A word of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    /// Itself.
    Text(&'a [u8]),
    /// Something about the request.
    Macro(Macro),
    /// `%{type:description}`, the payload of another key of the requester. Both may be empty here,
    /// which [`key_is_named`](Self::key_is_named) refuses.
    Payload {
        /// Its type.
        type_: &'a [u8],
        /// Its description.
        description: &'a [u8],
    },
}

/// Why a word is no argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMacro {
    /// `%` alone.
    #[error("Missing macro name")]
    NoName,
    /// `%` and a character that stands for nothing.
    #[error("Unsupported macro")]
    Unknown,
    /// `%{` without `:`.
    #[error("Keysub macro lacks ':'")]
    NoColon,
    /// `%{type:` without `}`.
    #[error("Unterminated keysub macro")]
    Unterminated,
    /// Something behind the `}`.
    #[error("Keysub macro has trailing rubbish")]
    Trailing,
    /// Nothing before the `:`.
    #[error("Keysub type empty")]
    NoType,
    /// Nothing behind the `:`.
    #[error("Keysub description empty")]
    NoDescription,
}

impl<'a> Argument<'a> {
    /// Reads a word. Only a whole word is a macro: `a%k` and `%kk` are themselves.
    ///
    /// # Errors
    /// [`BadMacro`].
    pub fn parse(text: &'a [u8]) -> Result<Self, BadMacro> {
        match text {
            [b'%'] => Err(BadMacro::NoName),
            [b'%', b'%', ..] => Ok(Self::Text(text.get(1..).unwrap_or_default())),
            [b'%', letter] => Macro::ALL
                .into_iter()
                .find(|known| known.letter() == *letter)
                .map(Self::Macro)
                .ok_or(BadMacro::Unknown),
            [b'%', b'{', name @ ..] => Self::payload(name),
            _ => Ok(Self::Text(text)),
        }
    }

    fn payload(name: &'a [u8]) -> Result<Self, BadMacro> {
        let position = |text: &[u8], byte| text.iter().position(|b| *b == byte);
        let colon = position(name, b':').ok_or(BadMacro::NoColon)?;
        let (type_, rest) = name.split_at(colon);
        let rest = rest.get(1..).unwrap_or_default();
        let end = position(rest, b'}').ok_or(BadMacro::Unterminated)?;
        let (description, rest) = rest.split_at(end);
        if rest.len() > 1 {
            return Err(BadMacro::Trailing);
        }
        Ok(Self::Payload { type_, description })
    }

    /// Whether the other key has a type and a description; anything else is fine.
    ///
    /// # Errors
    /// [`BadMacro::NoType`], [`BadMacro::NoDescription`].
    pub const fn key_is_named(&self) -> Result<(), BadMacro> {
        match self {
            Self::Payload { type_: [], .. } => Err(BadMacro::NoType),
            Self::Payload {
                description: [], ..
            } => Err(BadMacro::NoDescription),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_is_split_at_white_space_alone() {
        let command = Command::parse(b"/bin/p  a\t'b c'\r");
        assert!(!command.piped);
        assert_eq!(command.program, b"/bin/p");
        assert_eq!(command.name(), Some(&b"p"[..]));
        let arguments: Vec<&[u8]> = command.arguments().collect();
        assert_eq!(arguments, [&b"a"[..], b"'b", b"c'"]);
    }

    #[test]
    fn a_pipe_bar_belongs_to_the_program_and_a_path_needs_a_slash() {
        let command = Command::parse(b"|/bin/cat");
        assert!(command.piped);
        assert_eq!(
            (command.program, command.name()),
            (&b"/bin/cat"[..], Some(&b"cat"[..]))
        );
        assert_eq!(command.arguments().count(), 0);
        assert_eq!(Command::parse(b"cat").name(), None);
        assert_eq!(Command::parse(b"| cat").program, b"");
        assert_eq!(Command::parse(b"| cat").name(), None);
        assert_eq!(Command::parse(b"dir/").name(), Some(&b""[..]));
    }

    #[test]
    fn macros_are_whole_words() {
        for (word, text) in [("a%k", "a%k"), ("%kk", "%kk"), ("%%", "%"), ("%%%k", "%%k")] {
            assert_eq!(
                Argument::parse(word.as_bytes()),
                Ok(Argument::Text(text.as_bytes()))
            );
        }
        for (word, meaning) in [
            ("%k", Macro::Key),
            ("%T", Macro::Thread),
            ("%t", Macro::Type),
        ] {
            assert_eq!(
                Argument::parse(word.as_bytes()),
                Ok(Argument::Macro(meaning))
            );
        }
    }

    #[test]
    fn the_payload_of_another_key_is_named_by_type_and_description() {
        let payload = |type_, description| Argument::Payload { type_, description };
        assert_eq!(
            Argument::parse(b"%{user:a:b}"),
            Ok(payload(b"user", b"a:b"))
        );
        let empty = Argument::parse(b"%{:}").unwrap();
        assert_eq!(empty.key_is_named(), Err(BadMacro::NoType));
        let empty = Argument::parse(b"%{user:}").unwrap();
        assert_eq!(empty.key_is_named(), Err(BadMacro::NoDescription));
    }

    #[test]
    fn a_faulty_macro_is_told_as_the_c_program_tells_it() {
        for (word, told) in [
            ("%", "Missing macro name"),
            ("%z", "Unsupported macro"),
            ("%{", "Unsupported macro"),
            ("%{}", "Keysub macro lacks ':'"),
            ("%{user}", "Keysub macro lacks ':'"),
            ("%{user:x", "Unterminated keysub macro"),
            ("%{us}er:a", "Unterminated keysub macro"),
            ("%{user:x}y", "Keysub macro has trailing rubbish"),
            ("%{user:x}}", "Keysub macro has trailing rubbish"),
        ] {
            let bad = Argument::parse(word.as_bytes()).unwrap_err();
            assert_eq!(bad.to_string(), told, "{word}");
        }
    }

    proptest! {
        #[test]
        fn any_word_is_an_argument_or_refused(text in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(Argument::Text(shown)) = Argument::parse(&text) {
                prop_assert!(text.ends_with(shown));
                prop_assert!(text.len() - shown.len() <= 1);
            }
        }

        #[test]
        fn the_words_of_a_command_are_all_there(words in proptest::collection::vec("[!-~]{1,5}", 1..300)) {
            let text = words.join(" \t");
            let command = Command::parse(text.as_bytes());
            let arguments: Vec<&[u8]> = command.arguments().collect();
            let expected: Vec<&[u8]> = words.iter().skip(1).map(|w| w.as_bytes()).collect();
            prop_assert_eq!(arguments, expected);
        }
    }
}
