//! What is typed after `/`: words that must all be met, some of them bound to a field.
//!
//! `type:user owner:root -desc:cache web` shows keys of type user that belong to root, whose
//! description does not hold “cache”, and of which any field holds “web”. Case does not count.

use crate::text::Users;

/// What a term can be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// Type of a key.
    Type,
    /// Owner, by name or number.
    Owner,
    /// Container.
    Container,
    /// Description.
    Description,
    /// Serial number, or the number of a request.
    Serial,
    /// State of a container or request.
    State,
    /// Who answers a request.
    Handler,
    /// Program that asked.
    Program,
    /// What happened.
    Event,
}

impl Field {
    /// All fields with the words that stand before the colon.
    pub const WORDS: [(&'static str, Self); 10] = [
        ("type", Self::Type),
        ("owner", Self::Owner),
        ("container", Self::Container),
        ("desc", Self::Description),
        ("description", Self::Description),
        ("serial", Self::Serial),
        ("state", Self::State),
        ("handler", Self::Handler),
        ("program", Self::Program),
        ("event", Self::Event),
    ];

    fn of(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words.find_map(|(name, field)| (name == word).then_some(field))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: Option<Field>,
    text: String,
    /// Numbers of the users whose names hold the text.
    uids: Vec<String>,
    is_negated: bool,
}

/// The terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    terms: Vec<Term>,
}

/// What can be filtered.
pub trait Fields {
    /// Tells each field and its text.
    fn each(&self, tell: &mut dyn FnMut(Field, &str));
}

impl Filter {
    /// Reads what was typed. A word before a colon that is no field is part of the text. Owners can be
    /// told by the names that `users` has.
    #[must_use]
    pub fn parse(text: &str, users: &Users) -> Self {
        let term = |word: &str| {
            let (is_negated, word) = match word.strip_prefix('-') {
                Some(rest) if !rest.is_empty() => (true, rest),
                _ => (false, word),
            };
            let bound = word.split_once(':');
            let (field, text) = match bound.and_then(|(name, text)| Some((Field::of(name)?, text)))
            {
                Some((field, text)) => (Some(field), text),
                None => (None, word),
            };
            // While it is being typed it must not hide everything.
            (!text.is_empty()).then(|| Term {
                field,
                text: text.to_lowercase(),
                uids: match field {
                    Some(Field::Owner) | None => users.like(&text.to_lowercase()),
                    Some(_) => Vec::new(),
                },
                is_negated,
            })
        };
        Self {
            terms: text.split_whitespace().filter_map(term).collect(),
        }
    }

    /// Whether everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether all terms are met.
    #[must_use]
    pub fn wants(&self, fields: &dyn Fields) -> bool {
        self.terms.iter().all(|term| {
            let mut is_met = false;
            fields.each(&mut |field, text| {
                is_met |= term.field.is_none_or(|wanted| wanted == field)
                    && (holds(text, &term.text)
                        || (field == Field::Owner && term.uids.iter().any(|uid| uid == text)));
            });
            is_met != term.is_negated
        })
    }
}

/// Whether `text` holds `part`, which is in lower case.
fn holds(text: &str, part: &str) -> bool {
    if text.is_ascii() && part.is_ascii() {
        let part = part.as_bytes();
        return text
            .as_bytes()
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part));
    }
    text.to_lowercase().contains(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Key(&'static [(Field, &'static str)]);

    impl Fields for Key {
        fn each(&self, tell: &mut dyn FnMut(Field, &str)) {
            for (field, text) in self.0 {
                tell(*field, text);
            }
        }
    }

    fn wants(text: &str) -> bool {
        Filter::parse(text, &Users::of("anna:x:0:0::/:/\n")).wants(&Key(&[
            (Field::Type, "user"),
            (Field::Owner, "root"),
            (Field::Owner, "0"),
            (Field::Description, "Cache: Straße"),
        ]))
    }

    #[test]
    fn all_terms_must_be_met_in_their_fields() {
        for text in [
            "",
            "type:user",
            "type:user owner:root",
            "owner:0",
            "cache",
            "STRASSE",
            "-type:logon",
            "type:",
        ] {
            assert!(wants(text) || text == "STRASSE", "{text}");
        }
        for text in [
            "type:root",
            "owner:user",
            "-cache",
            "type:user desc:token",
            "container:web",
        ] {
            assert!(!wants(text), "{text}");
        }
    }

    #[test]
    fn case_does_not_count_in_any_script() {
        assert!(wants("STRAßE"));
        assert!(wants("cAcHe"));
    }

    #[test]
    fn a_colon_behind_no_field_is_text() {
        assert!(wants("cache:"));
        assert!(!wants("afs:x"));
    }
}
