//! To whom rights are granted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{ContainerPath, PathError};

/// The subject of one entry of an access control list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Subject {
    /// Whoever reaches the key by a search from a keyring of its own.
    Possessor,
    /// A process whose file system uid is the key's owner.
    Owner,
    /// A process in the key's group.
    Group,
    /// Every process, owner and group included.
    Everyone,
    /// The processes of this very container, not of those around or inside it.
    Container(ContainerPath),
}

/// A text that names no subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// None of the known words.
    #[error(
        "unknown subject “{}”; the subjects are possessor, owner, group, everyone, container:NAME",
        crate::text::Escaped::new(.0).cut(40)
    )]
    Unknown(String),
    /// The container's name is faulty.
    #[error("{0}")]
    Container(#[from] PathError),
}

/// `possessor` or `pos`, `owner` or `own`, `group` or `grp`, `everyone` or `all`,
/// `container:NAME` or `cont:NAME`.
impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        if let Some((word, path)) = text.split_once(':')
            && matches!(word, "container" | "cont")
        {
            return Ok(Self::Container(path.parse()?));
        }
        match text {
            "possessor" | "pos" => Ok(Self::Possessor),
            "owner" | "own" => Ok(Self::Owner),
            "group" | "grp" => Ok(Self::Group),
            "everyone" | "all" => Ok(Self::Everyone),
            _ => Err(SubjectError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Possessor => f.pad("possessor"),
            Self::Owner => f.pad("owner"),
            Self::Group => f.pad("group"),
            Self::Everyone => f.pad("everyone"),
            Self::Container(path) => f.pad(&format!("container:{path}")),
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = SubjectError;
    fn try_from(text: String) -> Result<Self, SubjectError> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameError;
    use proptest::prelude::*;

    #[test]
    fn long_and_short_words_mean_the_same() {
        for (long, short) in [
            ("possessor", "pos"),
            ("owner", "own"),
            ("group", "grp"),
            ("everyone", "all"),
            ("container:a.b", "cont:a.b"),
        ] {
            let subject: Subject = long.parse().unwrap();
            assert_eq!(short.parse(), Ok(subject.clone()));
            assert_eq!(subject.to_string(), long);
        }
    }

    #[test]
    fn a_faulty_container_name_is_explained() {
        assert_eq!(
            "container:".parse::<Subject>(),
            Err(SubjectError::Container(PathError::Name(NameError::Empty)))
        );
        let text = "container:a/b".parse::<Subject>().unwrap_err().to_string();
        assert!(text.contains("“/” at byte 1"), "{text}");
    }

    #[test]
    fn an_unknown_subject_is_quoted_safely() {
        let text = "wheel\n".parse::<Subject>().unwrap_err().to_string();
        assert!(
            text.contains("“wheel\\n”") && text.contains("container:NAME"),
            "{text}"
        );
        for text in ["", "Owner", "container", "pos:x", "other"] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }

    #[test]
    fn json_is_the_text() {
        let subject = Subject::Container("web".parse().unwrap());
        assert_eq!(
            serde_json::to_string(&subject).unwrap(),
            "\"container:web\""
        );
        assert_eq!(
            serde_json::from_str::<Subject>("\"container:web\"").unwrap(),
            subject
        );
        assert!(serde_json::from_str::<Subject>("\"container:\"").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_accepted_text_round_trips(
            text in "(cont:|container:|pos|all|.){0,3}[a-z.]{0,8}"
        ) {
            if let Ok(subject) = text.parse::<Subject>() {
                prop_assert_eq!(subject.to_string().parse(), Ok(subject));
            }
        }
    }
}
