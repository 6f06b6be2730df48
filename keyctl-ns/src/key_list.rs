//! The kernel's list of rights of a key that the caller reaches itself, where the kernel has such lists.

use std::io;

use keyns::rights::Rights;
use keyns::serial::KeySerial;
use keyns::subject::Subject;
use keyns_sys::container_abi::{ContainerAbi, Feature};
use keyns_sys::container_key::{self, Entry, Named};

/// A list; of a key that has none, what the kernel would make of its mask.
#[derive(Debug, Clone)]
pub struct KeyList {
    abi: ContainerAbi,
    entries: Vec<Entry>,
}

impl KeyList {
    /// The list of a key; none where the kernel has no lists.
    ///
    /// # Errors
    /// What `KEYCTL_GET_ACL` says; it needs the right to view the key.
    pub fn of(serial: KeySerial) -> io::Result<Option<Self>> {
        let Some(abi) = ContainerAbi::read()?.filter(|abi| abi.has(Feature::KeyAcls)) else {
            return Ok(None);
        };
        let entries = container_key::get_acl(&abi, serial)?;
        Ok(Some(Self { abi, entries }))
    }

    /// Whether the key has a list, and not just a mask.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.entries.iter().all(|entry| !entry.from_mask)
    }

    /// What the entry of a subject permits; of a container nothing is known by name.
    #[must_use]
    pub fn rights(&self, subject: &Subject) -> Rights {
        let is = |entry: &&Entry| named(subject) == Some(entry.subject);
        self.entries.iter().find(is).map_or(Rights::NONE, rights)
    }

    /// The entries, each with what it permits and whether it is that of a container that is gone.
    pub fn entries(&self) -> impl Iterator<Item = (Named, Rights, bool)> {
        let entry = |entry: &Entry| (entry.subject, rights(entry), entry.dead);
        self.entries.iter().map(entry)
    }

    /// How many living containers have an entry.
    #[must_use]
    pub fn containers(&self) -> usize {
        let is_one = |entry: &&Entry| matches!(entry.subject, Named::Container(_)) && !entry.dead;
        self.entries.iter().filter(is_one).count()
    }

    /// Sets what a subject may do, as the only thing that its entry permits.
    ///
    /// # Errors
    /// What `KEYCTL_GRANT_PERMISSION` says; `EINVAL` for a container.
    pub fn set(&self, serial: KeySerial, subject: &Subject, rights: Rights) -> io::Result<()> {
        use container_key::Subject as Entry;

        let subject = match subject {
            Subject::Possessor => Entry::Possessor,
            Subject::Owner => Entry::Owner,
            Subject::Group => Entry::Group,
            Subject::Everyone => Entry::Everyone,
            Subject::Container(_) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        container_key::grant_permission(&self.abi, serial, subject, rights.bits().into())
    }
}

/// Whom an entry is for, in words.
#[must_use]
pub fn subject_name(named: Named) -> String {
    match named {
        Named::Possessor => Subject::Possessor.to_string(),
        Named::Owner => Subject::Owner.to_string(),
        Named::Group => Subject::Group.to_string(),
        Named::Everyone => Subject::Everyone.to_string(),
        // A number of the kernel's own; the container may not be one of keyns at all.
        Named::Container(number) => format!("container #{number}"),
        Named::Other(type_, subject) => format!("type {type_}, subject {subject}"),
    }
}

fn named(subject: &Subject) -> Option<Named> {
    match subject {
        Subject::Possessor => Some(Named::Possessor),
        Subject::Owner => Some(Named::Owner),
        Subject::Group => Some(Named::Group),
        Subject::Everyone => Some(Named::Everyone),
        Subject::Container(_) => None,
    }
}

/// Rights this version does not know are not shown.
fn rights(entry: &Entry) -> Rights {
    let known = u16::try_from(entry.rights & u32::from(Rights::ALL.bits()));
    known.ok().and_then(Rights::from_bits).unwrap_or_default()
}
