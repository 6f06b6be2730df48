//! Interception rules: which container's requests for which key type go where.
//!
//! A request is matched innermost container first, then each ancestor; within one container the
//! rule that names the type goes before `*`. The first match decides, so a nested container can
//! take a type away from the container around it, but only for its own requests.

use std::collections::BTreeMap;
use std::time::Duration;

use keyns::engine::ContainerId;
use keyns_interfaces::upcalls::{Rule, Target};
use keyns_interfaces::{Error, ErrorKind};
use keyns_sys::upcall_wire::Rejection;
use serde::{Deserialize, Serialize};

use super::policy::is_kernel_only;

/// The type of a rule that takes whatever its container's other rules do not name.
pub const WILDCARD: &str = "*";
/// How long a request may wait when its rule does not say otherwise and agents answer.
pub const AGENT_DEADLINE: Duration = Duration::from_secs(10);
/// How long it may wait for a person.
pub const QUEUE_DEADLINE: Duration = Duration::from_secs(60);
/// Requests per second of a rule that says nothing else.
pub const DEFAULT_RATE: u32 = 20;
/// Pending requests of a rule that says nothing else.
pub const DEFAULT_PENDING: u32 = 16;
/// No rule may let more requests wait: each holds a worker of the kernel, which has 512.
pub const MAX_PENDING: u32 = 256;

const DEADLINES_MS: std::ops::RangeInclusive<u32> = 1_000..=60_000;
const MAX_RATE: u32 = 100_000;
const MAX_LABEL: usize = 64;
const MAX_TYPE: usize = 31;
const MAX_RULES_PER_CONTAINER: usize = 64;

/// A rule as it is stored; the container is named by number, since names may be given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRule {
    /// Number of the rule.
    pub id: u64,
    /// The container whose requests, and those of the containers in it, it takes.
    pub container: ContainerId,
    /// Key type, or [`WILDCARD`].
    #[serde(rename = "type")]
    pub type_: String,
    /// Where they go.
    pub target: Target,
    /// Milliseconds a request may wait.
    pub deadline_ms: u32,
    /// Requests per second, sustained.
    pub rate: u32,
    /// Requests at once beyond the rate.
    pub burst: u32,
    /// Requests pending at once.
    pub pending: u32,
}

impl StoredRule {
    /// How long a request may wait.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(u64::from(self.deadline_ms))
    }

    /// The rule with its container's present name.
    #[must_use]
    pub fn shown(&self, container: String) -> Rule {
        Rule {
            id: self.id,
            container,
            type_: self.type_.clone(),
            target: self.target.clone(),
            deadline_ms: self.deadline_ms,
            rate: self.rate,
            burst: self.burst,
            pending: self.pending,
        }
    }
}

/// The part of a rule that its maker chooses, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSpec {
    type_: String,
    target: Target,
    deadline_ms: u32,
    rate: u32,
    burst: u32,
    pending: u32,
}

impl RuleSpec {
    /// Checks the parameters of an `Intercept` call and fills in the defaults.
    ///
    /// # Errors
    /// `InvalidArgument` for whatever is out of range; `Unsupported` for a type whose requests
    /// never reach a rule.
    pub fn new(
        type_: String,
        target: Target,
        deadline_ms: Option<u32>,
        rate: Option<u32>,
        burst: Option<u32>,
        pending: Option<u32>,
    ) -> Result<Self, Error> {
        check_type(&type_)?;
        if is_kernel_only(type_.as_bytes()) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("requests of containers for “{type_}” are always refused"),
            )
            .cause("the kernel asks for this type on behalf of the whole host"));
        }
        let default_deadline = check_target(&target)?;
        let rate = rate.unwrap_or(DEFAULT_RATE);
        let spec = Self {
            type_,
            target,
            deadline_ms: match deadline_ms {
                Some(ms) => ms,
                None => u32::try_from(default_deadline.as_millis()).unwrap_or(u32::MAX),
            },
            rate,
            burst: burst.unwrap_or_else(|| rate.saturating_mul(2)),
            pending: pending.unwrap_or(DEFAULT_PENDING),
        };
        check_deadline(spec.deadline_ms)?;
        within("rate", spec.rate, 1..=MAX_RATE, " requests per second")?;
        within(
            "burst",
            spec.burst,
            1..=MAX_RATE.saturating_mul(2),
            " requests",
        )?;
        within("pending", spec.pending, 1..=MAX_PENDING, " requests")?;
        Ok(spec)
    }
}

/// Checks where requests are to go, and tells how long they may wait there unless somebody says
/// otherwise.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn check_target(target: &Target) -> Result<Duration, Error> {
    match target {
        Target::Queue(name) => {
            check_label("a queue", name, false)?;
            Ok(QUEUE_DEADLINE)
        }
        Target::Agent(name) => {
            check_label("an agent", name, true)?;
            Ok(AGENT_DEADLINE)
        }
        Target::Reject(rejection) => {
            check_rejection(*rejection)?;
            Ok(AGENT_DEADLINE)
        }
    }
}

/// Checks how long a request may wait, in milliseconds.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn check_deadline(milliseconds: u32) -> Result<(), Error> {
    within("deadline", milliseconds, DEADLINES_MS, " ms")
}

/// Refuses a number outside of its range.
///
/// # Errors
/// `InvalidArgument`, naming the range.
pub(super) fn within(
    what: &str,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
    unit: &str,
) -> Result<(), Error> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "{what} {value} is not between {} and {}{unit}",
            range.start(),
            range.end()
        ),
    ))
}

/// Checks a key type, or `*`.
///
/// # Errors
/// `InvalidArgument`.
pub fn check_type(type_: &str) -> Result<(), Error> {
    if type_ == WILDCARD {
        return Ok(());
    }
    let printable = type_.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if type_.is_empty() || type_.len() > MAX_TYPE || !printable {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "“{}” is not a key type",
                keyns::text::escape(type_.as_bytes())
            ),
        )
        .cause("a key type is 1 to 31 printable ASCII characters, or * for all others"));
    }
    Ok(())
}

/// Checks the name of a queue or agent: 1 to 64 printable ASCII characters without blanks.
///
/// # Errors
/// `InvalidArgument`.
pub fn check_label(what: &str, name: &str, may_be_empty: bool) -> Result<(), Error> {
    let printable = name.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if (name.is_empty() && !may_be_empty) || name.len() > MAX_LABEL || !printable {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "“{}” cannot be the name of {what}",
                keyns::text::escape(name.as_bytes())
            ),
        )
        .cause("it is 1 to 64 printable ASCII characters without blanks"));
    }
    Ok(())
}

/// Checks an errno and the time the kernel is to repeat it.
///
/// # Errors
/// `InvalidArgument` for an errno the kernel refuses (`keyctl_reject_key`) or a time outside 1 to
/// 60 seconds.
pub fn check_rejection(
    rejection: keyns_interfaces::upcalls::Rejection,
) -> Result<Rejection, Error> {
    within("the time of a rejection,", rejection.timeout, 1..=60, " s")?;
    Rejection::new(rejection.errno, rejection.timeout).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "the kernel cannot reject a request with errno {}",
                rejection.errno
            ),
        )
        .hint("choose an errno from 1 to 4094, e.g. ENOKEY or EKEYREJECTED")
    })
}

/// All rules, by container.
#[derive(Debug, Default)]
pub struct RuleBook {
    rules: BTreeMap<ContainerId, Vec<StoredRule>>,
    last: u64,
}

impl RuleBook {
    /// The rule for a request of `type_` from the container whose lineage, itself first, is given.
    pub fn find(
        &self,
        lineage: impl IntoIterator<Item = ContainerId>,
        type_: &[u8],
    ) -> Option<&StoredRule> {
        lineage
            .into_iter()
            .filter_map(|id| self.rules.get(&id))
            .find_map(|rules| {
                // The wildcard, if any, is kept last, so the first match is the exact one.
                rules
                    .iter()
                    .find(|r| r.type_.as_bytes() == type_ || r.type_ == WILDCARD)
            })
    }

    /// The most requests any rule of these containers lets wait.
    pub fn most_pending(&self, lineage: impl IntoIterator<Item = ContainerId>) -> u32 {
        let own = lineage
            .into_iter()
            .filter_map(|id| self.rules.get(&id))
            .flatten();
        own.map(|r| r.pending).fold(DEFAULT_PENDING, u32::max)
    }

    /// The rule that would take the place of the one of the same container and type, with its
    /// number, or a new one.
    ///
    /// # Errors
    /// `LimitReached` when the container has 64 rules.
    pub fn plan(&self, container: ContainerId, spec: RuleSpec) -> Result<StoredRule, Error> {
        let old = self
            .of(container)
            .find(|r| r.type_ == spec.type_)
            .map(|r| r.id);
        if old.is_none() && self.of(container).count() >= MAX_RULES_PER_CONTAINER {
            return Err(Error::new(
                ErrorKind::LimitReached,
                format!("a container has at most {MAX_RULES_PER_CONTAINER} rules"),
            ));
        }
        let id = old.unwrap_or_else(|| self.last.saturating_add(1));
        let RuleSpec {
            type_,
            target,
            deadline_ms,
            rate,
            burst,
            pending,
        } = spec;
        Ok(StoredRule {
            id,
            container,
            type_,
            target,
            deadline_ms,
            rate,
            burst,
            pending,
        })
    }

    /// Puts a rule in its place; true if it replaced another one.
    pub fn place(&mut self, rule: StoredRule) -> bool {
        self.last = self.last.max(rule.id);
        let rules = self.rules.entry(rule.container).or_default();
        let before = rules.len();
        rules.retain(|r| r.type_ != rule.type_);
        let replaced = rules.len() < before;
        let at = if rule.type_ == WILDCARD {
            rules.len()
        } else {
            rules
                .iter()
                .position(|r| r.type_ == WILDCARD)
                .unwrap_or(rules.len())
        };
        rules.insert(at, rule);
        replaced
    }

    /// Removes one rule.
    pub fn remove(&mut self, container: ContainerId, type_: &str) -> Option<StoredRule> {
        let rules = self.rules.get_mut(&container)?;
        let at = rules.iter().position(|r| r.type_ == type_)?;
        let removed = rules.remove(at);
        if rules.is_empty() {
            self.rules.remove(&container);
        }
        Some(removed)
    }

    /// Removes all rules of a container that is gone.
    pub fn remove_container(&mut self, container: ContainerId) -> Vec<StoredRule> {
        self.rules.remove(&container).unwrap_or_default()
    }

    /// The rules of one container, in the order they are tried.
    pub fn of(&self, container: ContainerId) -> impl Iterator<Item = &StoredRule> {
        self.rules.get(&container).into_iter().flatten()
    }

    /// All rules, by container, in the order they are tried.
    pub fn all(&self) -> impl Iterator<Item = &StoredRule> {
        self.rules.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTER: ContainerId = ContainerId(1);
    const INNER: ContainerId = ContainerId(2);
    const LINEAGE: [ContainerId; 2] = [INNER, OUTER];

    fn spec(type_: &str) -> RuleSpec {
        RuleSpec::new(
            type_.into(),
            Target::Queue("q".into()),
            None,
            None,
            None,
            None,
        )
        .unwrap()
    }

    fn book(rules: &[(ContainerId, &str)]) -> RuleBook {
        let mut book = RuleBook::default();
        for (container, type_) in rules {
            let rule = book.plan(*container, spec(type_)).unwrap();
            book.place(rule);
        }
        book
    }

    fn found<'a>(book: &'a RuleBook, type_: &str) -> Option<(ContainerId, &'a str)> {
        book.find(LINEAGE, type_.as_bytes())
            .map(|r| (r.container, r.type_.as_str()))
    }

    #[test]
    fn the_exact_type_goes_before_the_wildcard_whatever_the_order_of_making() {
        for rules in [
            [(INNER, "*"), (INNER, "user")],
            [(INNER, "user"), (INNER, "*")],
        ] {
            let book = book(&rules);
            assert_eq!(found(&book, "user"), Some((INNER, "user")));
            assert_eq!(found(&book, "logon"), Some((INNER, "*")));
        }
    }

    #[test]
    fn the_inner_wildcard_goes_before_the_outer_exact_rule() {
        let book = book(&[(OUTER, "user"), (INNER, "*")]);
        assert_eq!(found(&book, "user"), Some((INNER, "*")));
    }

    #[test]
    fn an_ancestor_takes_what_the_inner_container_does_not_name() {
        let book = book(&[(OUTER, "*"), (INNER, "user")]);
        assert_eq!(found(&book, "logon"), Some((OUTER, "*")));
        assert_eq!(
            book.find([OUTER], b"user").map(|r| r.container),
            Some(OUTER)
        );
    }

    #[test]
    fn no_rule_matches_a_stranger() {
        let book = book(&[(OUTER, "user")]);
        assert_eq!(found(&book, "logon"), None);
        assert_eq!(book.find([ContainerId(9)], b"user"), None);
        assert_eq!(book.find([OUTER], b"user\0"), None);
    }

    #[test]
    fn a_replaced_rule_keeps_its_number_and_its_place() {
        let mut book = book(&[(OUTER, "user"), (OUTER, "*")]);
        let first = book.find([OUTER], b"user").unwrap().id;
        let reject = Target::Reject(keyns_interfaces::upcalls::Rejection {
            errno: 13,
            timeout: 1,
        });
        let new = RuleSpec::new("user".into(), reject.clone(), None, None, None, None).unwrap();
        let rule = book.plan(OUTER, new).unwrap();
        assert!(book.place(rule.clone()));
        assert_eq!((rule.id, &rule.target), (first, &reject));
        assert_eq!(
            book.of(OUTER).map(|r| r.type_.as_str()).collect::<Vec<_>>(),
            ["user", "*"]
        );
    }

    #[test]
    fn numbers_go_on_after_what_was_restored() {
        let mut book = RuleBook::default();
        let old = book.plan(OUTER, spec("user")).unwrap();
        book.place(StoredRule { id: 41, ..old });
        assert_eq!(book.plan(INNER, spec("user")).unwrap().id, 42);
        assert_eq!(book.remove(OUTER, "user").map(|r| r.id), Some(41));
        assert_eq!(book.remove(OUTER, "user"), None);
    }

    #[test]
    fn defaults_depend_on_who_answers() {
        let queue = spec("user");
        assert_eq!(
            (queue.deadline_ms, queue.rate, queue.burst, queue.pending),
            (60_000, 20, 40, 16)
        );
        let agent = RuleSpec::new(
            "user".into(),
            Target::Agent(String::new()),
            None,
            Some(5),
            None,
            None,
        );
        let agent = agent.unwrap();
        assert_eq!(
            (agent.deadline_ms, agent.rate, agent.burst),
            (10_000, 5, 10)
        );
    }

    #[test]
    fn whatever_is_out_of_range_is_refused() {
        let queue = || Target::Queue("q".into());
        let kind = |r: Result<RuleSpec, Error>| r.unwrap_err().kind;
        for type_ in ["", "a b", "a\n", "ü", &"x".repeat(32)] {
            let r = RuleSpec::new(type_.into(), queue(), None, None, None, None);
            assert_eq!(kind(r), ErrorKind::InvalidArgument, "{type_:?}");
        }
        for type_ in ["id_resolver", "cifs.spnego", ".dns"] {
            let r = RuleSpec::new(type_.into(), queue(), None, None, None, None);
            assert_eq!(kind(r), ErrorKind::Unsupported, "{type_}");
        }
        for (deadline, rate, burst, pending) in [
            (Some(999), None, None, None),
            (Some(60_001), None, None, None),
            (None, Some(0), None, None),
            (None, None, Some(0), None),
            (None, None, None, Some(0)),
            (None, None, None, Some(257)),
        ] {
            let r = RuleSpec::new("user".into(), queue(), deadline, rate, burst, pending);
            assert_eq!(kind(r), ErrorKind::InvalidArgument);
        }
        for (errno, timeout) in [(0, 1), (4095, 1), (512, 1), (-1, 1), (13, 0), (13, 61)] {
            let reject = Target::Reject(keyns_interfaces::upcalls::Rejection { errno, timeout });
            let r = RuleSpec::new("user".into(), reject, None, None, None, None);
            assert_eq!(kind(r), ErrorKind::InvalidArgument, "{errno} {timeout}");
        }
    }
}
