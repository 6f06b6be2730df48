//! Rights as bits of a classic mask: what a byte really gives, and which byte comes closest to a
//! set of rights.
//!
//! One bit of the mask usually carries several rights, and for a possessor some bits do nothing
//! without another (`security/keys/keyctl.c`, `permission.c` and `process_keys.c` decide):
//!
//! | Bit | owner, group, other | possessor |
//! |---|---|---|
//! | VIEW | view | the same, only with SEARCH |
//! | READ | read | nothing: whoever possesses a key may read it |
//! | WRITE | write, revoke; of a keyring also clear | the same, only with SEARCH |
//! | SEARCH | search, inval; of a keyring others can name also join | search, inval, *read* |
//! | LINK | link | the same, only with SEARCH |
//! | SETATTR | setsec, revoke | the same, only with SEARCH |
//!
//! With the *guard* (a system call filter on the processes of a container) INVALIDATE is refused,
//! and READ is unless the grant has it, so that for a possessor SEARCH gives search alone and READ
//! gives read.
//!
//! Two things are not visible in a single byte. LINK with SEARCH lets a subject link the key into a
//! keyring of its own and so become a possessor ([`Expression::lets_possess`]). And SETATTR gives
//! the whole of `setsec` to the owner only; to others it gives timeout, restriction and a change to
//! a group of their own, so there `setsec` is both given and still to be mediated.

use std::cmp::Reverse;

use crate::mask::{Bits, Mask, MaskByte};
use crate::rights::Rights;

/// What the mask belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Object {
    /// A key that is no keyring.
    Key,
    /// A keyring.
    Keyring {
        /// Whether processes in question can find it by name: it was created in their user
        /// namespace and its description does not begin with `.`.
        joinable: bool,
    },
}

/// One byte of the mask of one object, for subjects behind the guard or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    byte: MaskByte,
    object: Object,
    guarded: bool,
}

/// How far a request can be met by the bits of one byte.
///
/// `kernel` ⊆ requested ∪ accepted, `implied` = `kernel` without what was requested, and
/// requested ⊆ `kernel` ∪ `mediated`. A right in both `kernel` and `mediated` is given in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expression {
    /// The bits to write.
    pub bits: Bits,
    /// What these bits really give.
    pub kernel: Rights,
    /// What they give although only accepted, not requested.
    pub implied: Rights,
    /// What was requested and would need somebody to do it on the subject's behalf.
    pub mediated: Rights,
}

impl Expression {
    /// Whether the kernel gives what was requested, all of it and nothing else.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.implied.is_empty() && self.mediated.is_empty()
    }

    /// How a list expresses rights of a container on its copy of a key, which its processes find in
    /// the container keyring. Every right is one of its own there, but for two: whoever finds a key in
    /// a keyring of its own may read it (`keyctl_read_key()` in `security/keys/keyctl.c`), and the
    /// rights to join and to clear are for keyrings.
    ///
    /// # Errors
    /// [`Refusal::Impossible`], [`Refusal::Implied`] if reading is not accepted.
    pub fn of_list(requested: Rights, accepted: Rights) -> Result<Self, Refusal> {
        let never = Rights::SET_SECURITY | Rights::JOIN | Rights::CLEAR;
        if requested.intersects(never) {
            return Err(Refusal::Impossible(requested & never));
        }
        let kernel = if requested.contains(Rights::SEARCH) {
            requested | Rights::READ
        } else {
            requested
        };
        let implied = kernel - requested;
        if !accepted.contains(implied) {
            return Err(Refusal::Implied(implied - accepted));
        }
        Ok(Self {
            // Nothing by the mask: it knows possessors, and not whose they are.
            bits: Bits::NONE,
            kernel,
            implied,
            mediated: Rights::NONE,
        })
    }

    /// Whether the subject can make itself a possessor, which adds read and the possessor's byte.
    #[must_use]
    pub fn lets_possess(&self) -> bool {
        self.bits.contains(Bits::SEARCH.with(Bits::LINK))
    }
}

/// What would have to be accepted for a request to be met by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remedy {
    /// The smallest set of further rights with which the kernel gives the request.
    pub implied: Rights,
    /// Requested rights that no bits give, whatever is accepted.
    pub impossible: Rights,
}

/// Why a request is not expressible as it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The kernel gives these rights along with the requested ones and they were not accepted.
    #[error("the kernel cannot give this alone: it also implies {0}")]
    Implied(Rights),
    /// The kernel cannot give these rights to this subject at all, or only a part of them.
    #[error("the kernel cannot enforce {0} for this subject")]
    Impossible(Rights),
}

impl Place {
    /// A byte of the mask of an object, for subjects without the guard.
    #[must_use]
    pub const fn new(byte: MaskByte, object: Object) -> Self {
        Self {
            byte,
            object,
            guarded: false,
        }
    }

    /// The byte by which a container has rights on its copy of a key: its processes possess it.
    #[must_use]
    pub const fn container(object: Object, guarded: bool) -> Self {
        Self {
            byte: MaskByte::Possessor,
            object,
            guarded,
        }
    }

    /// The rights that `bits` in this byte really give.
    #[must_use]
    pub fn effective(self, bits: Bits) -> Rights {
        let possessor = matches!(self.byte, MaskByte::Possessor);
        let has = |bit| bits.contains(bit);
        let mut rights = Rights::NONE;
        let mut add = |given: bool, right| {
            if given {
                rights |= right;
            }
        };
        // Without SEARCH the look-up never marks the key as possessed.
        if possessor && !has(Bits::SEARCH) {
            return Rights::NONE;
        }
        add(has(Bits::VIEW), Rights::VIEW);
        add(has(Bits::READ), Rights::READ);
        add(has(Bits::WRITE), Rights::WRITE | Rights::REVOKE);
        add(has(Bits::LINK), Rights::LINK);
        add(has(Bits::SETATTR), Rights::SET_SECURITY | Rights::REVOKE);
        add(has(Bits::SEARCH), Rights::SEARCH);
        match (possessor, self.guarded) {
            // Possession is enough to read; the guard judges READ and INVALIDATE by itself.
            (true, false) => rights |= Rights::READ | Rights::INVAL,
            (true, true) => {}
            (false, _) if has(Bits::SEARCH) => rights |= Rights::INVAL,
            (false, _) => {}
        }
        if let Object::Keyring { joinable } = self.object {
            if has(Bits::WRITE) {
                rights |= Rights::CLEAR;
            }
            // A keyring found by name is judged without possession.
            if joinable && !possessor && has(Bits::SEARCH) {
                rights |= Rights::JOIN;
            }
        }
        rights
    }

    /// The rights of which the bits give a part only.
    #[must_use]
    pub fn partial(self) -> Rights {
        match self.byte {
            MaskByte::Owner => Rights::NONE,
            MaskByte::Possessor | MaskByte::Group | MaskByte::Other => Rights::SET_SECURITY,
        }
    }

    /// The bits that give most of `requested` without a right outside `requested` ∪ `accepted`.
    ///
    /// Accepted rights are given only as far as the kernel forces them: of the values that give the
    /// same requested rights, the one that gives least wins.
    #[must_use]
    pub fn express(self, requested: Rights, accepted: Rights) -> Expression {
        let allowed = requested | accepted;
        let bits = Bits::every()
            .filter(|bits| allowed.contains(self.effective(*bits)))
            .min_by_key(|bits| {
                let given = self.effective(*bits);
                let value = bits.value();
                (
                    Reverse((given & requested).len()),
                    given.len(),
                    value.count_ones(),
                    value,
                )
            })
            // No bits give no right, which is always allowed.
            .unwrap_or_default();
        let kernel = self.effective(bits);
        Expression {
            bits,
            kernel,
            implied: kernel - requested,
            mediated: (requested - kernel) | (requested & self.partial()),
        }
    }

    /// The least that would have to be accepted for the kernel to give `requested`.
    #[must_use]
    pub fn remedy(self, requested: Rights) -> Remedy {
        let possible = self.effective(Bits::ALL) - self.partial();
        let wanted = requested & possible;
        let given = Bits::every()
            .map(|bits| self.effective(bits))
            .filter(|given| given.contains(wanted))
            .min_by_key(|given| ((*given - requested).len(), *given))
            .unwrap_or_default();
        Remedy {
            implied: given - requested,
            impossible: requested - possible,
        }
    }

    /// [`express`](Self::express), refused unless the kernel gives everything that was requested.
    ///
    /// # Errors
    /// [`Refusal::Impossible`] if no acceptance helps, else [`Refusal::Implied`] with the rights
    /// that are still to be accepted.
    pub fn check(self, requested: Rights, accepted: Rights) -> Result<Expression, Refusal> {
        let expression = self.express(requested, accepted);
        if expression.mediated.is_empty() {
            return Ok(expression);
        }
        let Remedy {
            implied,
            impossible,
        } = self.remedy(requested);
        if impossible.is_empty() {
            Err(Refusal::Implied(implied - accepted))
        } else {
            Err(Refusal::Impossible(impossible))
        }
    }
}

/// The mask of a container's copy of a key: the container has `bits`, the owner (the daemon) all.
///
/// The owner's byte is never less: a key whose owner lacks SETATTR cannot be changed by anybody.
#[must_use]
pub const fn copy_mask(bits: Bits) -> Mask {
    Mask::from_bytes(bits, Bits::ALL, Bits::NONE, Bits::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const OBJECTS: [Object; 3] = [
        Object::Key,
        Object::Keyring { joinable: false },
        Object::Keyring { joinable: true },
    ];

    fn places() -> impl Iterator<Item = Place> {
        let unguarded = OBJECTS.into_iter().flat_map(|object| {
            MaskByte::ALL
                .into_iter()
                .map(move |byte| Place::new(byte, object))
        });
        unguarded.chain(
            OBJECTS
                .into_iter()
                .map(|object| Place::container(object, true)),
        )
    }

    /// What one bit gives, as a table of words: an account independent of the code above.
    fn table(place: Place) -> [(u8, &'static str); 6] {
        let (w, s) = match (place.byte, place.object, place.guarded) {
            (MaskByte::Possessor, Object::Key, false) => ("write,revoke", "search,read,inval"),
            (MaskByte::Possessor, Object::Key, true) => ("write,revoke", "search"),
            (MaskByte::Possessor, _, false) => ("write,revoke,clear", "search,read,inval"),
            (MaskByte::Possessor, _, true) => ("write,revoke,clear", "search"),
            (_, Object::Key, _) => ("write,revoke", "search,inval"),
            (_, Object::Keyring { joinable: false }, _) => ("write,revoke,clear", "search,inval"),
            (_, Object::Keyring { joinable: true }, _) => {
                ("write,revoke,clear", "search,inval,join")
            }
        };
        let r = if place.byte == MaskByte::Possessor && !place.guarded {
            "none"
        } else {
            "read"
        };
        [
            (0x01, "view"),
            (0x02, r),
            (0x04, w),
            (0x08, s),
            (0x10, "link"),
            (0x20, "setsec,revoke"),
        ]
    }

    fn by_table(place: Place, bits: Bits) -> Rights {
        if place.byte == MaskByte::Possessor && bits.value() & 0x08 == 0 {
            return Rights::NONE;
        }
        table(place)
            .iter()
            .filter(|(bit, _)| bits.value() & bit != 0)
            .map(|(_, rights)| rights.parse::<Rights>().unwrap())
            .collect()
    }

    fn rights() -> impl Strategy<Value = Rights> {
        (0..=0x3ffu16).prop_map(|bits| Rights::from_bits(bits).unwrap())
    }

    fn set(text: &str) -> Rights {
        text.parse().unwrap()
    }

    #[test]
    fn every_value_of_every_byte_gives_what_the_table_says() {
        for place in places() {
            for bits in Bits::every() {
                assert_eq!(
                    place.effective(bits),
                    by_table(place, bits),
                    "{place:?} {bits}"
                );
            }
        }
    }

    #[test]
    fn a_byte_expresses_64_sets_exactly_that_of_a_possessor_17_and_33_with_the_guard() {
        for place in places() {
            let exact: BTreeSet<Rights> = Bits::every().map(|b| place.effective(b)).collect();
            let expected = match (place.byte, place.guarded) {
                (MaskByte::Possessor, false) => 17,
                (MaskByte::Possessor, true) => 33,
                _ => 64,
            };
            assert_eq!(exact.len(), expected, "{place:?}");
            // And `express` finds exactly those, out of all 1024.
            let found = (0..=0x3ff)
                .map(|bits| Rights::from_bits(bits).unwrap())
                .filter(|set| place.express(*set, Rights::NONE).kernel == *set)
                .count();
            assert_eq!(found, expected, "{place:?}");
        }
    }

    #[test]
    fn no_set_is_ever_exceeded_and_the_largest_is_found() {
        // Exhaustive for nothing accepted: 15 places, 1024 sets, 64 values.
        for place in places() {
            for requested in (0..=0x3ff).map(|bits| Rights::from_bits(bits).unwrap()) {
                let e = place.express(requested, Rights::NONE);
                assert!(
                    requested.contains(by_table(place, e.bits)),
                    "{place:?} {requested}"
                );
                let fitting: Vec<Rights> = Bits::every()
                    .map(|bits| by_table(place, bits))
                    .filter(|given| requested.contains(*given))
                    .collect();
                let largest = fitting.iter().map(|given| given.len()).max().unwrap();
                let all: BTreeSet<&Rights> = fitting
                    .iter()
                    .filter(|given| given.len() == largest)
                    .collect();
                assert_eq!(
                    all.into_iter().collect::<Vec<_>>(),
                    [&e.kernel],
                    "{place:?} {requested}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_list_gives_what_was_asked_for_or_accepted(requested in rights(), accepted in rights()) {
            let allowed = requested | accepted;
            match Expression::of_list(requested, accepted) {
                Ok(given) => {
                    prop_assert!(allowed.contains(given.kernel));
                    prop_assert!(given.kernel.contains(requested));
                    prop_assert!(given.mediated.is_empty());
                    // Finding is reading, whatever the list says.
                    prop_assert!(!given.kernel.contains(Rights::SEARCH) || given.kernel.contains(Rights::READ));
                }
                Err(Refusal::Implied(implied)) => {
                    prop_assert_eq!(implied, Rights::READ);
                    prop_assert!(Expression::of_list(requested, accepted | implied).is_ok());
                }
                Err(Refusal::Impossible(never)) => {
                    prop_assert!(requested.contains(never) && !never.is_empty());
                    prop_assert!(Expression::of_list(requested, Rights::ALL).is_err());
                }
            }
        }

        #[test]
        fn accepted_rights_bound_the_result_and_are_given_only_when_forced(
            requested in rights(), accepted in rights()
        ) {
            for place in places() {
                let e = place.express(requested, accepted);
                let given = by_table(place, e.bits);
                prop_assert_eq!(e.kernel, given);
                prop_assert!((requested | accepted).contains(given));
                prop_assert_eq!(e.implied, given - requested);
                prop_assert!((e.kernel | e.mediated).contains(requested));
                prop_assert!(!accepted.is_empty() || e.implied.is_empty());
                for other in Bits::every() {
                    let rival = by_table(place, other);
                    if !(requested | accepted).contains(rival) {
                        continue;
                    }
                    // Nothing that fits gives more of the request,
                    prop_assert!(given.contains(rival & requested));
                    // and nothing that gives as much of it gives fewer rights beyond.
                    if rival.contains(given & requested) {
                        prop_assert!((rival - requested).len() >= e.implied.len());
                    }
                }
            }
        }

        #[test]
        fn what_a_remedy_names_is_enough_and_no_smaller_set_is(requested in rights()) {
            for place in places() {
                let remedy = place.remedy(requested);
                let wanted = requested - remedy.impossible;
                let e = place.express(requested, remedy.implied);
                prop_assert!(e.kernel.contains(wanted));
                prop_assert!(!requested.intersects(remedy.implied));
                for bits in Bits::every() {
                    let rival = by_table(place, bits);
                    if rival.contains(wanted) {
                        prop_assert!((rival - requested).len() >= remedy.implied.len());
                    }
                }
                match place.check(requested, remedy.implied) {
                    Ok(e) => prop_assert!(e.kernel.contains(requested)),
                    Err(refusal) => {
                        prop_assert_eq!(refusal, Refusal::Impossible(remedy.impossible));
                    }
                }
            }
        }
    }

    #[test]
    fn a_container_that_may_search_may_also_read_and_destroy() {
        let place = Place::container(Object::Key, false);
        assert_eq!(
            place.check(set("search"), Rights::NONE),
            Err(Refusal::Implied(set("read,inval")))
        );
        assert_eq!(
            place.check(set("search"), set("read")),
            Err(Refusal::Implied(set("inval")))
        );
        assert_eq!(
            place
                .check(set("search,read"), Rights::NONE)
                .unwrap_err()
                .to_string(),
            "the kernel cannot give this alone: it also implies inval"
        );
        let e = place.check(set("search"), set("read,inval")).unwrap();
        assert_eq!((e.bits, e.implied), (Bits::SEARCH, set("read,inval")));
        assert_eq!(copy_mask(e.bits).raw(), 0x083f_0000);
    }

    #[test]
    fn the_guard_makes_search_exact_for_a_container() {
        let e = Place::container(Object::Key, true)
            .check(set("search"), Rights::NONE)
            .unwrap();
        assert!(e.is_exact());
    }

    #[test]
    fn accepting_more_than_the_kernel_forces_gives_nothing_more() {
        let place = Place::new(MaskByte::Owner, Object::Key);
        let e = place.express(set("view"), Rights::ALL);
        assert_eq!((e.bits, e.kernel), (Bits::VIEW, set("view")));
    }

    #[test]
    fn rights_no_bit_can_give_are_named_as_impossible() {
        let place = Place::container(Object::Key, false);
        let all = set("search,read,inval,join,clear");
        assert_eq!(
            place.check(all, Rights::NONE),
            Err(Refusal::Impossible(set("join,clear")))
        );
    }

    #[test]
    fn set_security_is_whole_for_the_owner_and_partial_for_others() {
        let request = set("setsec,revoke");
        assert!(
            Place::new(MaskByte::Owner, Object::Key)
                .check(request, Rights::NONE)
                .unwrap()
                .is_exact()
        );
        for byte in [MaskByte::Group, MaskByte::Other] {
            let place = Place::new(byte, Object::Key);
            let e = place.express(request, Rights::NONE);
            assert_eq!((e.kernel, e.mediated), (request, set("setsec")));
            assert_eq!(
                place.check(request, Rights::ALL),
                Err(Refusal::Impossible(set("setsec")))
            );
        }
    }

    #[test]
    fn link_with_search_is_said_to_let_the_subject_possess() {
        let place = Place::new(MaskByte::Other, Object::Key);
        assert!(
            place
                .express(set("search,inval,link"), Rights::NONE)
                .lets_possess()
        );
        assert!(
            !place
                .express(set("search,inval"), Rights::NONE)
                .lets_possess()
        );
        assert!(!place.express(set("link"), Rights::NONE).lets_possess());
    }
}
