//! Who uses how much of its quota, and which container the user belongs to.

use std::cmp::Ordering;

use keyns::key_users::KeyUser;
use keyns_interfaces::containers::{ContainerInfo, State};

use crate::app::shared::Shared;
use crate::filter::{Field, Fields};
use crate::text;

/// From this share of a limit on, in percent, it is said to be near.
const NEAR: u64 = 80;

/// How much of a limit is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gauge {
    /// What it counts.
    pub(super) unit: &'static str,
    /// What is used.
    pub(super) used: u32,
    /// The most that may be.
    pub(super) most: u32,
}

impl Gauge {
    /// The share that is used, in percent, rounded down; a limit of 0 is used up.
    pub(super) fn percent(self) -> u64 {
        match self.most {
            0 => 100,
            most => u64::from(self.used) * 100 / u64::from(most),
        }
    }

    /// How near the limit is, in words.
    pub(super) fn word(self) -> &'static str {
        match self.percent() {
            100.. => "USED UP",
            NEAR.. => "near its limit",
            _ => "",
        }
    }

    /// A bar of so many cells. It is full only if the limit is reached, and empty only if nothing is
    /// used.
    pub(super) fn bar(self, cells: usize) -> String {
        let all = u64::try_from(cells).unwrap_or(0);
        let filled = (all * self.percent().min(100) / 100).max(u64::from(self.used > 0));
        let filled = usize::try_from(filled).unwrap_or(cells).min(cells);
        format!("{}{}", "█".repeat(filled), "·".repeat(cells - filled))
    }
}

/// A user with keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// What the kernel counts.
    pub(super) user: KeyUser,
    /// The innermost container that its uid belongs to, and the uid in there.
    pub(super) container: Option<(String, u32)>,
}

impl Owner {
    /// What it is called.
    pub(super) fn name(&self, shared: &Shared) -> String {
        match &self.container {
            Some((container, uid)) => format!("uid {uid} of {}", text::line(container, 40)),
            None => shared.users.show(self.user.uid),
        }
    }

    /// Whether anything is charged to it.
    pub(super) fn is_charged(&self) -> bool {
        self.user.charged_keys > 0 || self.user.charged_bytes > 0
    }

    /// Its two gauges.
    pub(super) fn gauges(&self) -> [Gauge; 2] {
        [
            Gauge {
                unit: "keys",
                used: self.user.charged_keys,
                most: self.user.max_keys,
            },
            Gauge {
                unit: "bytes",
                used: self.user.charged_bytes,
                most: self.user.max_bytes,
            },
        ]
    }
}

impl Fields for Owner {
    fn each(&self, tell: &mut dyn FnMut(Field, &str)) {
        tell(Field::Owner, &self.user.uid.to_string());
        let container = self.container.as_ref();
        tell(Field::Container, container.map_or("host", |(it, _)| it));
        for gauge in self.gauges() {
            tell(Field::State, gauge.word());
        }
    }
}

/// The users with the containers that they belong to: those of the host first.
pub(super) fn owners(users: &[KeyUser], containers: &[ContainerInfo]) -> Vec<Owner> {
    let owner = |user: &KeyUser| Owner {
        user: *user,
        container: inside(user.uid, containers),
    };
    let mut owners: Vec<Owner> = users.iter().map(owner).collect();
    let name = |owner: &Owner| owner.container.as_ref().map(|(name, _)| name.clone());
    owners.sort_by(|a, b| match name(a).cmp(&name(b)) {
        Ordering::Equal => a.user.uid.cmp(&b.user.uid),
        other => other,
    });
    owners
}

/// The container that a uid belongs to. Ranges of nested containers lie in each other.
fn inside(uid: u32, containers: &[ContainerInfo]) -> Option<(String, u32)> {
    let ranges = containers
        .iter()
        .filter(|it| it.state != State::Dead)
        .filter_map(|it| {
            let inside = uid.checked_sub(it.uid_base?)?;
            let count = it.uid_count?;
            (inside < count).then(|| (count, it.name.clone(), inside))
        });
    ranges.min().map(|(_, name, uid)| (name, uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(used: u32, most: u32) -> Gauge {
        Gauge {
            unit: "keys",
            used,
            most,
        }
    }

    #[test]
    fn a_gauge_is_full_only_when_the_limit_is_reached() {
        assert_eq!(gauge(0, 200).bar(4), "····");
        assert_eq!(gauge(1, 1_000_000).bar(4), "█···");
        assert_eq!(gauge(199, 200).bar(4), "███·");
        assert_eq!(gauge(200, 200).bar(4), "████");
        assert_eq!(gauge(400, 200).bar(4), "████");
        assert_eq!(gauge(u32::MAX, 1).bar(0), "");
    }

    #[test]
    fn the_limit_is_near_in_words() {
        for (used, word) in [(159, ""), (160, "near its limit"), (200, "USED UP")] {
            assert_eq!(gauge(used, 200).word(), word);
        }
        assert_eq!(gauge(0, 0).word(), "USED UP");
    }
}
