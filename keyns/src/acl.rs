//! Access control lists as the engines keep them: what was asked for, what was knowingly accepted
//! beyond it, and who enforces it.
//!
//! An entry *adds* rights to those of the other entries that match a process; there are no denials.
//! A classic mask works differently (owner, group and other exclude each other), so the way between
//! the two is a computation of its own, in [`expression`](crate::expression).

use serde::{Deserialize, Serialize};

use crate::feature::Enforcer;
use crate::rights::Rights;
use crate::subject::Subject;

/// How many entries a list can have, as in the kernel's access control lists.
pub const MAX_ENTRIES: usize = 16;

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ace {
    /// Who.
    pub subject: Subject,
    /// What was asked for.
    pub requested: Rights,
    /// What comes with it on this kernel and was accepted by the grantor; disjoint from `requested`.
    pub accepted: Rights,
    /// Who enforces the entry.
    pub enforced_by: Enforcer,
}

impl Ace {
    /// Everything the subject may do by this entry.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.requested | self.accepted
    }
}

/// At most [`MAX_ENTRIES`] entries, one per subject, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "Vec<Ace>", try_from = "Vec<Ace>")]
pub struct Acl(Vec<Ace>);

/// An entry that cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// All 16 places are taken by other subjects.
    #[error("the key already has 16 entries in its access control list; take one back first")]
    Full,
    /// Only met when a stored list is read.
    #[error("two entries for {0}")]
    Duplicate(Subject),
}

impl Acl {
    /// An empty list: nobody may do anything.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an entry, or replaces the one of the same subject, which is returned.
    ///
    /// # Errors
    /// [`AclError::Full`].
    pub fn grant(&mut self, ace: Ace) -> Result<Option<Ace>, AclError> {
        if let Some(old) = self.0.iter_mut().find(|old| old.subject == ace.subject) {
            return Ok(Some(std::mem::replace(old, ace)));
        }
        if self.0.len() == MAX_ENTRIES {
            return Err(AclError::Full);
        }
        self.0.push(ace);
        Ok(None)
    }

    /// Removes and returns the entry of a subject.
    pub fn ungrant(&mut self, subject: &Subject) -> Option<Ace> {
        let at = self.0.iter().position(|ace| ace.subject == *subject)?;
        Some(self.0.remove(at))
    }

    /// The entry of a subject.
    #[must_use]
    pub fn get(&self, subject: &Subject) -> Option<&Ace> {
        self.0.iter().find(|ace| ace.subject == *subject)
    }

    /// What the entry of a subject asks for; nothing without an entry.
    #[must_use]
    pub fn rights(&self, subject: &Subject) -> Rights {
        self.get(subject).map_or(Rights::NONE, Ace::rights)
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Ace> {
        self.0.iter()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Acl {
    type Item = &'a Ace;
    type IntoIter = std::slice::Iter<'a, Ace>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Acl> for Vec<Ace> {
    fn from(acl: Acl) -> Self {
        acl.0
    }
}

impl TryFrom<Vec<Ace>> for Acl {
    type Error = AclError;
    fn try_from(entries: Vec<Ace>) -> Result<Self, AclError> {
        let mut acl = Self::new();
        for ace in entries {
            if let Some(old) = acl.grant(ace)? {
                return Err(AclError::Duplicate(old.subject));
            }
        }
        Ok(acl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ace(subject: &str, requested: &str) -> Ace {
        Ace {
            subject: subject.parse().unwrap(),
            requested: requested.parse().unwrap(),
            accepted: Rights::NONE,
            enforced_by: Enforcer::Kernel,
        }
    }

    #[test]
    fn a_second_grant_replaces_the_first_of_the_same_subject() {
        let mut acl = Acl::new();
        assert_eq!(acl.grant(ace("owner", "view")), Ok(None));
        assert_eq!(
            acl.grant(ace("owner", "read")),
            Ok(Some(ace("owner", "view")))
        );
        assert_eq!(acl.rights(&Subject::Owner), Rights::READ);
        assert_eq!(acl.rights(&Subject::Group), Rights::NONE);
        assert_eq!(acl.ungrant(&Subject::Owner), Some(ace("owner", "read")));
        assert!(acl.is_empty());
    }

    #[test]
    fn the_seventeenth_entry_is_refused_but_a_replacement_is_not() {
        let mut acl = Acl::new();
        for i in 0..16 {
            acl.grant(ace(&format!("container:c{i}"), "view")).unwrap();
        }
        assert_eq!(acl.grant(ace("owner", "view")), Err(AclError::Full));
        assert!(acl.grant(ace("container:c3", "read")).unwrap().is_some());
        assert_eq!(acl.len(), 16);
    }

    #[test]
    fn a_stored_list_is_checked_when_it_is_read() {
        let mut acl = Acl::new();
        acl.grant(ace("container:web", "search,read")).unwrap();
        let json = serde_json::to_string(&acl).unwrap();
        assert_eq!(
            json,
            r#"[{"subject":"container:web","requested":["read","search"],"accepted":[],"enforced_by":"kernel"}]"#
        );
        assert_eq!(serde_json::from_str::<Acl>(&json).unwrap(), acl);
        let twice = serde_json::to_string(&[ace("owner", "view"), ace("owner", "read")]).unwrap();
        assert!(serde_json::from_str::<Acl>(&twice).is_err());
        let many: Vec<Ace> = (0..17)
            .map(|i| ace(&format!("container:c{i}"), "view"))
            .collect();
        assert!(serde_json::from_str::<Acl>(&serde_json::to_string(&many).unwrap()).is_err());
    }
}
