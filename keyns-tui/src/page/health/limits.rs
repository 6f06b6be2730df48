//! The limits that were hit while this program looked.

use std::collections::VecDeque;

use keyns_interfaces::ErrorKind as Refusal;
use keyns_interfaces::event::Event;
use keyns_interfaces::upcalls::Listing;

use crate::app::shared::sentence;
use crate::client::Failure;
use crate::page::upcalls::requests::is_waiting;

/// Failures that are kept.
const KEPT: usize = 5;

const EAGAIN: i32 = 11;
const EDQUOT: i32 = 122;

/// The limits that were hit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Requests that came faster than a rule lets them.
    refused: u64,
    /// Requests whose key did not fit into the quota.
    over_quota: u64,
    /// Events that the daemon did not deliver.
    lost: u64,
    failures: VecDeque<(u64, String)>,
}

impl Limits {
    /// The history of a daemon, instead of what was known of it.
    pub(super) fn list(&mut self, listing: &Listing) {
        (self.refused, self.over_quota) = (0, 0);
        for info in &listing.history {
            self.outcome(info.outcome);
        }
    }

    /// An event; says whether it is about a limit.
    pub(super) fn event(&mut self, event: &Event) -> bool {
        let before = (self.refused, self.over_quota, self.lost);
        self.lost = self.lost.saturating_add(event.dropped);
        if let Some(info) = event.upcall.as_ref().filter(|info| !is_waiting(info)) {
            self.outcome(info.outcome);
        }
        before != (self.refused, self.over_quota, self.lost)
    }

    fn outcome(&mut self, outcome: Option<i32>) {
        match outcome {
            Some(EAGAIN) => self.refused += 1,
            Some(EDQUOT) => self.over_quota += 1,
            _ => {}
        }
    }

    /// Something was refused; says whether because of a limit.
    pub(super) fn failure(&mut self, time_ms: u64, failure: &Failure) -> bool {
        let is_limit = matches!(
            failure.refusal,
            Some(Refusal::LimitReached | Refusal::QuotaExceeded | Refusal::TooLarge)
        ) || failure.kind == keyctl_ns::error::ErrorKind::Quota;
        let text = sentence(failure);
        if !is_limit || self.failures.back().is_some_and(|(_, last)| *last == text) {
            return false;
        }
        if self.failures.len() >= KEPT {
            self.failures.pop_front();
        }
        self.failures.push_back((time_ms, text));
        true
    }

    /// All of it in sentences.
    pub(super) fn sentences(&self) -> Vec<String> {
        let counted = |n: u64, one: &str, many: &str, why: &str| match n {
            0 => None,
            1 => Some(format!("1 {one} {why}")),
            n => Some(format!("{n} {many} {why}")),
        };
        let refused = "rejected with EAGAIN: more at once than the rule of the container lets \
            through";
        let over_quota = "rejected with EDQUOT: the key did not fit into the quota of its owner";
        let lost = "lost by this program, which read too slowly";
        let counts = [
            counted(self.refused, "request was", "requests were", refused),
            counted(self.over_quota, "request was", "requests were", over_quota),
            counted(self.lost, "event was", "events were", lost),
        ];
        let failures = self.failures.iter().map(|(time_ms, text)| {
            let clock = keyctl_ns::view::clock(*time_ms);
            format!("{} {text}", clock.get(..8).unwrap_or(&clock))
        });
        counts.into_iter().flatten().chain(failures).collect()
    }
}
