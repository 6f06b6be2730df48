//! What an entry of a kernel's access control list really gives to possessor, owner, group or everyone.
//!
//! A kernel with such lists has a right of its own for everything that a key can be used for, where a
//! mask has one bit for several. Two things still come with others, since they follow from what a subject
//! can do and not from what it is given:
//!
//! - Whoever possesses a key that it can find may read it (`keyctl_read_key()` in
//!   `security/keys/keyctl.c`).
//! - Whoever may search and link a key can link it to a keyring of its own, and whoever may join a
//!   keyring makes it its session keyring: both possess it then, and have what possessors have.
//!
//! Entries for containers are in [`Expression::of_list`].

use crate::expression::{Expression, Object, Refusal};
use crate::mask::Bits;
use crate::rights::Rights;
use crate::subject::Subject;

/// What an entry with these rights gives.
///
/// `possessor` are the rights of the list's entry for possessors.
#[must_use]
pub fn effective(subject: &Subject, rights: Rights, possessor: Rights) -> Rights {
    let finds = rights.contains(Rights::SEARCH);
    if *subject == Subject::Possessor {
        return if finds { rights | Rights::READ } else { rights };
    }
    let comes_to_possess =
        rights.contains(Rights::SEARCH | Rights::LINK) || rights.contains(Rights::JOIN);
    if comes_to_possess {
        rights | possessor | Rights::READ
    } else {
        rights
    }
}

/// The entry that gives a subject what is requested, and no more than that and what is accepted.
///
/// # Errors
/// [`Refusal::Impossible`] for rights of keyrings on another key; [`Refusal::Implied`] for what comes
/// with the request and was not accepted.
pub fn express(
    subject: &Subject,
    object: Object,
    requested: Rights,
    accepted: Rights,
    possessor: Rights,
) -> Result<Expression, Refusal> {
    let of_keyrings = Rights::JOIN | Rights::CLEAR;
    if object == Object::Key && requested.intersects(of_keyrings) {
        return Err(Refusal::Impossible(requested & of_keyrings));
    }
    let kernel = effective(subject, requested, possessor);
    let implied = kernel - requested;
    if !accepted.contains(implied) {
        return Err(Refusal::Implied(implied - accepted));
    }
    Ok(Expression {
        bits: Bits::NONE,
        kernel,
        implied,
        mediated: Rights::NONE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYRING: Object = Object::Keyring { joinable: true };

    fn all() -> impl Iterator<Item = Rights> {
        (0..=Rights::ALL.bits()).filter_map(Rights::from_bits)
    }

    #[test]
    fn nothing_is_given_that_was_not_asked_for_or_accepted() {
        let subjects = [
            Subject::Possessor,
            Subject::Owner,
            Subject::Group,
            Subject::Everyone,
        ];
        for subject in subjects {
            for requested in all() {
                for accepted in [Rights::NONE, Rights::READ, Rights::ALL] {
                    let possessor = Rights::VIEW | Rights::WRITE;
                    match express(&subject, KEYRING, requested, accepted, possessor) {
                        Ok(given) => {
                            assert!((requested | accepted).contains(given.kernel));
                            assert!(given.kernel.contains(requested));
                            assert_eq!(given.implied, given.kernel - requested);
                        }
                        Err(Refusal::Implied(more)) => {
                            assert!(!(requested | accepted).intersects(more) && !more.is_empty());
                            let again =
                                express(&subject, KEYRING, requested, accepted | more, possessor);
                            assert!(again.is_ok());
                        }
                        Err(Refusal::Impossible(rights)) => panic!("{rights} on a keyring"),
                    }
                }
            }
        }
    }

    #[test]
    fn rights_that_a_mask_ties_together_are_apart() {
        let one = |right| {
            express(
                &Subject::Group,
                Object::Key,
                right,
                Rights::NONE,
                Rights::ALL,
            )
        };
        for right in [
            Rights::SEARCH,
            Rights::INVAL,
            Rights::WRITE,
            Rights::REVOKE,
            Rights::SET_SECURITY,
        ] {
            assert!(one(right).is_ok_and(|given| given.is_exact()), "{right}");
        }
        assert_eq!(one(Rights::CLEAR), Err(Refusal::Impossible(Rights::CLEAR)));
    }

    #[test]
    fn who_can_come_to_possess_a_key_has_what_possessors_have() {
        let possessor = Rights::VIEW | Rights::REVOKE;
        let both = Rights::SEARCH | Rights::LINK;
        assert_eq!(
            effective(&Subject::Everyone, both, possessor),
            both | possessor | Rights::READ
        );
        assert_eq!(
            effective(&Subject::Owner, Rights::JOIN, possessor),
            Rights::JOIN | possessor | Rights::READ
        );
        assert_eq!(
            effective(&Subject::Owner, Rights::SEARCH, possessor),
            Rights::SEARCH
        );
        assert_eq!(
            effective(&Subject::Possessor, Rights::SEARCH, Rights::NONE),
            Rights::SEARCH | Rights::READ
        );
    }
}
