//! A classic mask read as an access control list, and a list written as a classic mask.
//!
//! The two do not mean the same. Entries of a list add up; of a mask the kernel takes owner, group
//! (if that byte is not zero) *or* other, whichever comes first, and adds the possessor's byte.
//! Hence "everyone" has to be written into all three, and reading "other" as everyone says too much
//! about owner and group, by what [`widening`] computes.

use crate::acl::{Ace, Acl};
use crate::expression::{Expression, Object, Place};
use crate::feature::Enforcer;
use crate::mask::{Bits, Mask, MaskByte};
use crate::rights::Rights;
use crate::subject::Subject;

const SUBJECTS: [(MaskByte, Subject); 4] = [
    (MaskByte::Possessor, Subject::Possessor),
    (MaskByte::Owner, Subject::Owner),
    (MaskByte::Group, Subject::Group),
    (MaskByte::Other, Subject::Everyone),
];

/// The list that says what a mask gives: one entry per byte that gives something.
///
/// The entry for everyone is what *other* processes have; see [`widening`].
#[must_use]
pub fn acl_of(mask: Mask, object: Object) -> Acl {
    let mut acl = Acl::new();
    for (byte, subject) in SUBJECTS {
        let requested = Place::new(byte, object).effective(mask.get(byte));
        if !requested.is_empty() {
            let enforced_by = Enforcer::Kernel;
            let ace = Ace {
                subject,
                requested,
                accepted: Rights::NONE,
                enforced_by,
            };
            // Four entries always fit.
            let _ = acl.grant(ace);
        }
    }
    acl
}

/// What owner and group would gain if the byte for other became an entry for everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widening {
    /// Rights the owner lacks now.
    pub owner: Rights,
    /// Rights the group lacks now; none if the group's byte is zero, since its members then are
    /// treated as others.
    pub group: Rights,
}

/// Compares the byte for other with those of owner and group.
#[must_use]
pub fn widening(mask: Mask, object: Object) -> Widening {
    let rights = |byte| Place::new(byte, object).effective(mask.get(byte));
    let other = rights(MaskByte::Other);
    Widening {
        owner: other - rights(MaskByte::Owner),
        group: if mask.group() == Bits::NONE {
            Rights::NONE
        } else {
            other - rights(MaskByte::Group)
        },
    }
}

/// A list as far as a mask can carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMask {
    /// The mask to set.
    pub mask: Mask,
    /// How each byte came out, possessor to other; owner and group include what everyone has.
    pub bytes: [(MaskByte, Expression); 4],
}

/// Writes the entries for possessor, owner, group and everyone as a mask that gives no process a
/// right no entry gives it.
///
/// Entries for containers have no place in a mask and are left out: a container has a copy of the
/// key with a mask of its own. An owner who is also in the group gets the owner's rights only, which
/// is less than the list says.
#[must_use]
pub fn mask_of(acl: &Acl, object: Object) -> ClassicMask {
    let asked = |subject: &Subject| {
        acl.get(subject)
            .map_or((Rights::NONE, Rights::NONE), |ace| {
                (ace.requested, ace.accepted)
            })
    };
    let everyone = asked(&Subject::Everyone);
    let express = |byte, (requested, accepted): (Rights, Rights)| {
        (byte, Place::new(byte, object).express(requested, accepted))
    };
    let with_everyone = |(requested, accepted)| (requested | everyone.0, accepted | everyone.1);
    // Without an entry the group's byte stays zero, and members are treated as others.
    let group = match acl.get(&Subject::Group) {
        Some(_) => with_everyone(asked(&Subject::Group)),
        None => (Rights::NONE, Rights::NONE),
    };
    let bytes = [
        express(MaskByte::Possessor, asked(&Subject::Possessor)),
        express(MaskByte::Owner, with_everyone(asked(&Subject::Owner))),
        express(MaskByte::Group, group),
        express(MaskByte::Other, everyone),
    ];
    let mask = bytes
        .iter()
        .fold(Mask::NONE, |mask, (byte, e)| mask.with(*byte, e.bits));
    ClassicMask { mask, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ace(subject: Subject, requested: Rights, accepted: Rights) -> Ace {
        Ace {
            subject,
            requested,
            accepted,
            enforced_by: Enforcer::Kernel,
        }
    }

    fn set(text: &str) -> Rights {
        text.parse().unwrap()
    }

    fn mask(raw: u32) -> Mask {
        Mask::from_raw(raw).unwrap()
    }

    #[test]
    fn the_usual_mask_reads_as_possessor_and_owner() {
        let acl = acl_of(mask(0x3f01_0000), Object::Key);
        assert_eq!(acl.len(), 2);
        assert_eq!(
            acl.rights(&Subject::Possessor),
            Rights::ALL - set("join,clear")
        );
        assert_eq!(acl.rights(&Subject::Owner), set("view"));
    }

    #[test]
    fn bits_without_effect_are_not_read_as_rights() {
        assert!(acl_of(mask(0x3700_0000), Object::Key).is_empty());
    }

    #[test]
    fn everyone_is_written_into_three_bytes_when_the_group_has_an_entry() {
        let mut acl = Acl::new();
        acl.grant(ace(Subject::Everyone, set("view"), Rights::NONE))
            .unwrap();
        assert_eq!(mask_of(&acl, Object::Key).mask, mask(0x0001_0001));
        acl.grant(ace(Subject::Group, set("read"), Rights::NONE))
            .unwrap();
        assert_eq!(mask_of(&acl, Object::Key).mask, mask(0x0001_0301));
    }

    #[test]
    fn reading_other_as_everyone_widens_owner_and_group() {
        let w = widening(mask(0x3f01_0103), Object::Key);
        assert_eq!(
            w,
            Widening {
                owner: set("read"),
                group: set("read")
            }
        );
        let w = widening(mask(0x3f01_0003), Object::Key);
        assert_eq!(
            w,
            Widening {
                owner: set("read"),
                group: Rights::NONE
            }
        );
    }

    /// What the kernel would let a process do, by the rule that the bytes exclude each other.
    fn kernel(mask: Mask, object: Object, owner: bool, member: bool, possessor: bool) -> Rights {
        let byte = match (owner, member && mask.group() != Bits::NONE) {
            (true, _) => MaskByte::Owner,
            (false, true) => MaskByte::Group,
            (false, false) => MaskByte::Other,
        };
        let mut rights = Place::new(byte, object).effective(mask.get(byte));
        if possessor {
            rights |= Place::new(MaskByte::Possessor, object).effective(mask.possessor());
            // SEARCH from either byte makes the key possessed, and what is possessed may be read.
            if rights.contains(Rights::SEARCH) {
                rights |= Rights::READ;
            }
        }
        rights
    }

    fn rights() -> impl Strategy<Value = Rights> {
        (0..=0x3ffu16).prop_map(|bits| Rights::from_bits(bits).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn no_process_gets_what_no_matching_entry_gives(
            entries in proptest::collection::vec((0..4usize, rights(), rights()), 0..5),
            joinable in any::<bool>(), keyring in any::<bool>(),
        ) {
            let object = if keyring { Object::Keyring { joinable } } else { Object::Key };
            let mut acl = Acl::new();
            for (subject, requested, accepted) in entries {
                acl.grant(ace(SUBJECTS[subject].1.clone(), requested, accepted)).unwrap();
            }
            let written = mask_of(&acl, object).mask;
            for who in 0..8 {
                let (owner, member, possessor) = (who & 1 != 0, who & 2 != 0, who & 4 != 0);
                let mut listed = acl.rights(&Subject::Everyone);
                for (matches, subject) in
                    [(owner, Subject::Owner), (member, Subject::Group), (possessor, Subject::Possessor)]
                {
                    if matches {
                        listed |= acl.rights(&subject);
                    }
                }
                if possessor && listed.contains(Rights::SEARCH) {
                    listed |= Rights::READ;
                }
                let given = kernel(written, object, owner, member, possessor);
                prop_assert!(listed.contains(given), "{written}: {given} not in {listed}");
            }
        }

        #[test]
        fn a_mask_read_as_a_list_leaves_out_no_right_of_any_process(raw in any::<u32>()) {
            let mask = mask(raw & Mask::ALL.raw());
            let acl = acl_of(mask, Object::Keyring { joinable: true });
            let object = Object::Keyring { joinable: true };
            for (byte, subject) in SUBJECTS {
                let given = Place::new(byte, object).effective(mask.get(byte));
                prop_assert_eq!(acl.rights(&subject), given);
            }
            // Writing it back changes nothing but bits without effect and what was widened.
            let back = mask_of(&acl, object).mask;
            let gain = widening(mask, object);
            for (byte, gained) in [
                (MaskByte::Possessor, Rights::NONE),
                (MaskByte::Owner, gain.owner),
                (MaskByte::Other, Rights::NONE),
            ] {
                let place = Place::new(byte, object);
                prop_assert_eq!(
                    place.effective(back.get(byte)), place.effective(mask.get(byte)) | gained
                );
            }
        }
    }
}
