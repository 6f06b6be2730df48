//! What is stored of a key and its grants. Never a payload.

use std::ffi::CString;

use keyns::engine::container::ContainerId;
use keyns::engine::keyring::store::Deadline;
use keyns::engine::keyring::{CopyPlan, Home, KeyFacts, KeyRef};
use keyns::mask::Bits;
use keyns::rights::Rights;
use keyns_interfaces::ByteText;
use keyns_sys::KeySerial;
use serde::{Deserialize, Serialize};

/// A key the daemon holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "StoredSource", try_from = "StoredSource")]
pub(super) struct Source {
    pub(super) key: KeyRef,
    /// When the key itself expires, as far as that is known of one that is lent.
    pub(super) deadline: Option<Deadline>,
    pub(super) grants: Vec<Granting>,
}

/// A grant in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Granting {
    pub(super) container: ContainerId,
    pub(super) requested: Rights,
    pub(super) kernel: Rights,
    pub(super) implied: Rights,
    pub(super) bits: Bits,
    /// When the grant itself ends.
    pub(super) deadline: Option<Deadline>,
    #[serde(with = "raw_serial")]
    pub(super) copy: KeySerial,
    pub(super) mask: u32,
}

impl Source {
    pub(super) fn serial(&self) -> KeySerial {
        self.key.facts.serial
    }

    /// The earlier of the ends of key and grant, which the kernel keeps for the copy.
    pub(super) fn deadline_of(&self, grant: &Granting) -> Option<Deadline> {
        earlier(self.deadline, grant.deadline)
    }

    /// A lent key that nobody is granted is given back.
    pub(super) fn is_idle_loan(&self) -> bool {
        self.key.home == Home::Lent && self.grants.is_empty()
    }

    /// The plan of a grant's copy, without the network namespace that some types need.
    pub(super) fn plan(&self, grant: &Granting) -> CopyPlan {
        CopyPlan {
            container: grant.container,
            bits: grant.bits,
            rights: grant.kernel,
            source_ends: self.deadline,
            ends: grant.deadline,
            network: None,
        }
    }

    pub(super) fn grant_to(&self, container: ContainerId) -> Option<&Granting> {
        self.grants
            .iter()
            .find(|grant| grant.container == container)
    }
}

/// The earlier of two ends; none is never.
pub(super) fn earlier(a: Option<Deadline>, b: Option<Deadline>) -> Option<Deadline> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[derive(Serialize, Deserialize)]
struct StoredSource {
    serial: i32,
    #[serde(rename = "type")]
    type_: ByteText,
    description: ByteText,
    uid: u32,
    gid: u32,
    mask: u32,
    home: Home,
    deadline: Option<Deadline>,
    grants: Vec<Granting>,
}

impl From<Source> for StoredSource {
    fn from(source: Source) -> Self {
        let KeyFacts {
            serial,
            type_,
            description,
            uid,
            gid,
            mask,
        } = source.key.facts;
        Self {
            serial: serial.raw(),
            type_: type_.into_bytes().into(),
            description: description.into_bytes().into(),
            uid,
            gid,
            mask,
            home: source.key.home,
            deadline: source.deadline,
            grants: source.grants,
        }
    }
}

impl TryFrom<StoredSource> for Source {
    type Error = std::ffi::NulError;

    fn try_from(stored: StoredSource) -> Result<Self, Self::Error> {
        let facts = KeyFacts {
            serial: KeySerial::new(stored.serial),
            type_: CString::new(stored.type_.0)?,
            description: CString::new(stored.description.0)?,
            uid: stored.uid,
            gid: stored.gid,
            mask: stored.mask,
        };
        Ok(Self {
            key: KeyRef {
                home: stored.home,
                facts,
            },
            deadline: stored.deadline,
            grants: stored.grants,
        })
    }
}

mod raw_serial {
    use keyns_sys::KeySerial;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(serial: &KeySerial, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i32(serial.raw())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<KeySerial, D::Error> {
        i32::deserialize(from).map(KeySerial::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_survives_its_file() {
        let facts = KeyFacts {
            serial: KeySerial::new(7),
            type_: c"user".into(),
            description: c"a\xff\\".into(),
            uid: 1,
            gid: 2,
            mask: 3,
        };
        let source = Source {
            key: KeyRef {
                home: Home::Store(ContainerId(9)),
                facts,
            },
            deadline: Some(5),
            grants: vec![Granting {
                container: ContainerId(4),
                requested: Rights::SEARCH,
                kernel: Rights::SEARCH | Rights::READ,
                implied: Rights::READ,
                bits: Bits::SEARCH,
                deadline: Some(3),
                copy: KeySerial::new(8),
                mask: 0x083f_0000,
            }],
        };
        let text = serde_json::to_string(&source).unwrap();
        let back: Source = serde_json::from_str(&text).unwrap();
        assert_eq!(back.key, source.key);
        assert_eq!(back.deadline_of(&back.grants[0]), Some(3));
        assert_eq!(back.grants[0].copy, KeySerial::new(8));
    }

    #[test]
    fn the_earlier_end_wins_and_none_is_never() {
        assert_eq!(earlier(Some(3), Some(4)), Some(3));
        assert_eq!(earlier(None, Some(4)), Some(4));
        assert_eq!(earlier(None, None), None);
    }
}
