//! How many requests may wait, and how fast they may come.
//!
//! Every pending request holds a process of the host outside the container's cgroup and one of the
//! kernel's 512 workers, so a container could stop the whole machine by asking. What is over a
//! limit is rejected at once with `EAGAIN`.
//!
//! The totals are the sum of what every container gets by default and what rules allow beyond that:
//! whoever raises the limits of one container does not take room away from the others. And since a
//! few containers can reach the totals together, every container has a small share that is its own:
//! within it the totals do not count, only bounds above them that dozens of containers would have
//! to reach.
//!
//! The pace is that of new requests. One that is asked again, because the daemon that had let it in is
//! gone, was counted there; the fresh buckets of its successor must not reject what waits for it.

use std::collections::HashMap;
use std::time::Duration;

use keyns::engine::ContainerId;
use tokio::time::Instant;

use super::rules::{DEFAULT_PENDING, DEFAULT_RATE, RuleBook, StoredRule};

/// Pending requests of all containers together, before settings and rules raise it.
pub const TOTAL_PENDING: u32 = 64;
/// The most that rules may raise it to.
pub const MAX_TOTAL_PENDING: u32 = 320;
/// The most there are with the shares; 128 of the kernel's 512 workers stay for the host.
pub const HARD_PENDING: u32 = 384;
/// Requests of one container that may wait whatever the others do.
pub const SHARE_PENDING: u32 = 4;
/// Pending requests of one kernel uid in one container, before rules raise it.
pub const UID_PENDING: u32 = 8;
/// Requests per second of all containers together, before settings and rules raise it.
pub const TOTAL_RATE: u32 = 100;
/// Requests per second that a container may make whatever the others do.
pub const SHARE_RATE: u32 = 1;
/// How many of those at once.
pub const SHARE_BURST: u32 = 5;
/// Requests per second that all containers together may make within their shares.
pub const SHARES_RATE: u32 = 100;

/// Which limit stopped a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Too many wait, in all.
    Total,
    /// Too many of the container wait.
    Container,
    /// Too many under the rule wait.
    Rule,
    /// Too many of the uid wait.
    Uid,
    /// They come too fast.
    Rate,
    /// All containers together ask too fast.
    TotalRate,
}

impl Over {
    /// What is exceeded, for the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "pending requests of all containers",
            Self::Container => "pending requests of the container",
            Self::Rule => "pending requests of the rule",
            Self::Uid => "pending requests of the uid",
            Self::Rate => "requests per second of the rule",
            Self::TotalRate => "requests per second of all containers",
        }
    }
}

/// What sets the pace of a request: its rule, or its container where no rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Rule(u64),
    Unruled(ContainerId),
}

/// What one request may count against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    source: Source,
    rate: u32,
    burst: u32,
    rule_pending: u32,
    container_pending: u32,
    uid_pending: u32,
}

impl Quota {
    /// The limits for a request from the first container of `lineage` under `rule`.
    pub fn of(rule: Option<&StoredRule>, lineage: &[ContainerId], rules: &RuleBook) -> Self {
        let container_pending = rules.most_pending(lineage.iter().copied());
        match rule {
            Some(rule) => Self {
                source: Source::Rule(rule.id),
                rate: rule.rate,
                burst: rule.burst,
                rule_pending: rule.pending,
                container_pending,
                // Half of what the rule allows, so that one uid never takes everything.
                uid_pending: UID_PENDING.max(rule.pending / 2),
            },
            None => Self {
                source: Source::Unruled(lineage.first().copied().unwrap_or(ContainerId(0))),
                rate: DEFAULT_RATE,
                burst: DEFAULT_RATE.saturating_mul(2),
                rule_pending: DEFAULT_PENDING,
                container_pending,
                uid_pending: UID_PENDING,
            },
        }
    }
}

/// A request that was let in; handed back when it ends.
#[derive(Debug)]
#[must_use = "the request counts as pending until this is released"]
pub struct Permit {
    source: Source,
    container: ContainerId,
    uid: u32,
}

/// A token bucket, kept as the time at which it would be full (GCRA): no floating point, no timer.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    const fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one token if there is one; `burst` is the size of the bucket.
    fn take(&mut self, now: Instant, rate: u32, burst: u32) -> bool {
        let interval = Duration::from_secs(1) / rate.max(1);
        let full_at = self.full_at.max(now) + interval;
        if full_at.duration_since(now) > interval * burst.max(1) {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

/// What all containers together may ask for, before rules raise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Pending requests, at most [`MAX_TOTAL_PENDING`].
    pub pending: u32,
    /// Requests per second.
    pub per_second: u32,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            pending: TOTAL_PENDING,
            per_second: TOTAL_RATE,
        }
    }
}

/// The counters behind the limits.
#[derive(Debug, Default)]
pub struct Limits {
    totals: Totals,
    total: u32,
    sources: HashMap<Source, u32>,
    containers: HashMap<ContainerId, u32>,
    uids: HashMap<(ContainerId, u32), u32>,
    buckets: HashMap<Source, Bucket>,
    everyone: Option<Bucket>,
    /// The shares of containers that needed them, and the bound of them all.
    shares: HashMap<ContainerId, Bucket>,
    all_shares: Option<Bucket>,
    /// What rules allow beyond the defaults; see [`Limits::follow`].
    extra_pending: u32,
    extra_rate: u32,
}

impl Limits {
    /// Changes the totals; what was let in stays.
    pub fn set_totals(&mut self, totals: Totals) {
        self.totals = totals;
    }

    /// Recomputes the totals after the rules changed, and forgets rules that are gone.
    pub fn follow(&mut self, rules: &RuleBook) {
        let beyond = |value: u32, default: u32| value.saturating_sub(default);
        self.extra_pending = rules
            .all()
            .map(|r| beyond(r.pending, DEFAULT_PENDING))
            .fold(0, u32::saturating_add);
        self.extra_rate = rules
            .all()
            .map(|r| beyond(r.rate, DEFAULT_RATE))
            .fold(0, u32::saturating_add);
        self.buckets.retain(|source, _| match source {
            Source::Rule(id) => rules.all().any(|r| r.id == *id),
            Source::Unruled(_) => true,
        });
    }

    /// Forgets the pace of a container that is gone.
    pub fn forget(&mut self, container: ContainerId) {
        self.buckets.remove(&Source::Unruled(container));
        self.shares.remove(&container);
    }

    /// Requests pending now.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.total
    }

    /// Lets a request in, or names the limit it is over. A refused request takes nothing from any
    /// bucket, so a flood does not lengthen its own punishment. A `resumed` one, which is asked not for
    /// the first time, counts as pending only.
    ///
    /// # Errors
    /// The first limit that is reached.
    pub fn admit(
        &mut self,
        quota: Quota,
        container: ContainerId,
        uid: u32,
        resumed: bool,
        now: Instant,
    ) -> Result<Permit, Over> {
        let source = quota.source;
        let count = |n: Option<&u32>| n.copied().unwrap_or(0);
        let of_container = count(self.containers.get(&container));
        let most = if of_container < SHARE_PENDING {
            HARD_PENDING
        } else {
            self.totals
                .pending
                .saturating_add(self.extra_pending)
                .min(MAX_TOTAL_PENDING)
        };
        if self.total >= most {
            return Err(Over::Total);
        }
        if of_container >= quota.container_pending {
            return Err(Over::Container);
        }
        if count(self.sources.get(&source)) >= quota.rule_pending {
            return Err(Over::Rule);
        }
        if count(self.uids.get(&(container, uid))) >= quota.uid_pending {
            return Err(Over::Uid);
        }
        if !resumed {
            self.take_tokens(quota, container, now)?;
        }
        self.total += 1;
        *self.sources.entry(source).or_default() += 1;
        *self.containers.entry(container).or_default() += 1;
        *self.uids.entry((container, uid)).or_default() += 1;
        Ok(Permit {
            source,
            container,
            uid,
        })
    }

    /// Takes a token of what sets the request's pace and one of all containers, or none at all.
    fn take_tokens(
        &mut self,
        quota: Quota,
        container: ContainerId,
        now: Instant,
    ) -> Result<(), Over> {
        let former = self.buckets.get(&quota.source).copied();
        let mut bucket = former.unwrap_or(Bucket::full(now));
        if !bucket.take(now, quota.rate, quota.burst) {
            return Err(Over::Rate);
        }
        if !self.take_of_total(container, now) {
            return Err(Over::TotalRate);
        }
        self.buckets.insert(quota.source, bucket);
        Ok(())
    }

    /// Takes a token of all containers, or of the container's own share.
    fn take_of_total(&mut self, container: ContainerId, now: Instant) -> bool {
        let rate = self.totals.per_second.saturating_add(self.extra_rate);
        let everyone = self.everyone.get_or_insert(Bucket::full(now));
        if everyone.take(now, rate, rate.saturating_mul(2)) {
            return true;
        }
        let former = self.shares.get(&container).copied();
        let mut share = former.unwrap_or(Bucket::full(now));
        let all = self.all_shares.get_or_insert(Bucket::full(now));
        let taken = share.take(now, SHARE_RATE, SHARE_BURST)
            && all.take(now, SHARES_RATE, SHARES_RATE.saturating_mul(2));
        if taken {
            self.shares.insert(container, share);
        }
        taken
    }

    /// Counts a request as ended.
    // By value, although nothing is moved out: a permit is given back once.
    #[allow(clippy::needless_pass_by_value)]
    pub fn release(&mut self, permit: Permit) {
        self.total = self.total.saturating_sub(1);
        drop_one(&mut self.sources, permit.source);
        drop_one(&mut self.containers, permit.container);
        drop_one(&mut self.uids, (permit.container, permit.uid));
    }
}

fn drop_one<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::RuleSpec;
    use super::*;
    use keyns_interfaces::upcalls::Target;

    const WEB: ContainerId = ContainerId(1);
    const DB: ContainerId = ContainerId(2);

    fn rules(container: ContainerId, rate: u32, pending: u32) -> RuleBook {
        let mut book = RuleBook::default();
        let queue = Target::Queue("q".into());
        let spec = RuleSpec::new("*".into(), queue, None, Some(rate), None, Some(pending));
        let rule = book.plan(container, spec.unwrap()).unwrap();
        book.place(rule);
        book
    }

    fn quota(book: &RuleBook, container: ContainerId) -> Quota {
        Quota::of(book.find([container], b"user"), &[container], book)
    }

    /// Lets in as many as possible, `uids` taking turns.
    fn fill(
        limits: &mut Limits,
        quota: Quota,
        container: ContainerId,
        uids: u32,
    ) -> (Vec<Permit>, Over) {
        let mut permits = Vec::new();
        loop {
            let uid = u32::try_from(permits.len()).unwrap() % uids;
            match limits.admit(quota, container, uid, false, Instant::now()) {
                Ok(permit) => permits.push(permit),
                Err(over) => return (permits, over),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_uid_gets_8_and_a_container_16_by_default() {
        let book = rules(WEB, 1000, DEFAULT_PENDING);
        let mut limits = Limits::default();
        limits.follow(&book);
        let (one, over) = fill(&mut limits, quota(&book, WEB), WEB, 1);
        assert_eq!((one.len(), over), (8, Over::Uid));
        one.into_iter().for_each(|p| limits.release(p));
        assert_eq!(limits.pending(), 0);
        let (many, over) = fill(&mut limits, quota(&book, WEB), WEB, 100);
        assert_eq!((many.len(), over), (16, Over::Container));
    }

    #[tokio::test(start_paused = true)]
    async fn a_raised_container_leaves_the_others_their_share() {
        let book = rules(WEB, 10_000, 256);
        let mut limits = Limits::default();
        limits.follow(&book);
        let (web, over) = fill(&mut limits, quota(&book, WEB), WEB, 2);
        assert_eq!((web.len(), over), (256, Over::Container));
        let (db, _) = fill(&mut limits, quota(&book, DB), DB, 100);
        assert_eq!(db.len(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn four_containers_that_reach_the_total_leave_every_other_its_share() {
        let mut limits = Limits::default();
        let book = RuleBook::default();
        let mut filled = |id| {
            let id = ContainerId(id);
            let (permits, over) = fill(&mut limits, quota(&book, id), id, 100);
            (permits.len(), over)
        };
        for hostile in 0..4 {
            assert_eq!(filled(hostile).0, 16);
        }
        for other in 4..84 {
            // It is not the pace that stops them.
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(filled(other), (4, Over::Total), "{other}");
        }
        // 384 is the end even of the shares.
        assert_eq!(filled(84), (0, Over::Total));
        assert_eq!(limits.pending(), HARD_PENDING);
    }

    #[tokio::test(start_paused = true)]
    async fn rules_of_any_size_leave_room_for_shares() {
        let mut book = rules(WEB, 10_000, 256);
        let spec = RuleSpec::new(
            "*".into(),
            Target::Queue("q".into()),
            None,
            Some(10_000),
            None,
            Some(256),
        );
        let rule = book.plan(DB, spec.unwrap()).unwrap();
        book.place(rule);
        let mut limits = Limits::default();
        limits.follow(&book);
        let mut taken = 0;
        for id in [WEB, DB] {
            taken += fill(&mut limits, quota(&book, id), id, 2).0.len();
        }
        assert_eq!(taken, 320);
        let third = ContainerId(3);
        let (share, _) = fill(&mut limits, quota(&book, third), third, 1);
        assert_eq!(share.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn containers_that_use_up_the_total_rate_leave_every_other_a_burst_of_5() {
        let mut limits = Limits::default();
        let book = RuleBook::default();
        let mut burst = |id| {
            let id = ContainerId(id);
            let mut admitted = 0;
            loop {
                match limits.admit(quota(&book, id), id, 0, false, Instant::now()) {
                    Ok(permit) => limits.release(permit),
                    Err(over) => return (admitted, over),
                }
                admitted += 1;
            }
        };
        for hostile in 0..5 {
            assert_eq!(burst(hostile), (40, Over::Rate));
        }
        for other in 5..45 {
            assert_eq!(burst(other), (5, Over::TotalRate), "{other}");
        }
        // The shares have a bound too, so that numbers of containers are no way around the total.
        assert_eq!(burst(45), (0, Over::TotalRate));
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_is_one_request_per_second() {
        let mut limits = Limits::default();
        let book = RuleBook::default();
        let ask = |limits: &mut Limits, id| {
            let id = ContainerId(id);
            let admitted = limits.admit(quota(&book, id), id, 0, false, Instant::now());
            admitted.map(|permit| limits.release(permit))
        };
        for _ in 0..3 {
            for hostile in 0..20 {
                while ask(&mut limits, hostile).is_ok() {}
            }
            let mut mine = 0;
            while ask(&mut limits, 77).is_ok() {
                mine += 1;
            }
            assert_eq!(mine, 5);
            // Long enough for one share to fill, and to be emptied again.
            for _ in 0..5 {
                tokio::time::advance(Duration::from_secs(1)).await;
                for hostile in 0..20 {
                    while ask(&mut limits, hostile).is_ok() {}
                }
            }
        }
        limits.forget(ContainerId(77));
        assert!(!limits.shares.contains_key(&ContainerId(77)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_bucket_gives_its_burst_and_then_the_rate() {
        let book = rules(WEB, 20, 256);
        let mut limits = Limits::default();
        limits.follow(&book);
        let quota = quota(&book, WEB);
        let ask = |limits: &mut Limits| {
            let permit = limits.admit(quota, WEB, 0, false, Instant::now());
            permit.map(|p| limits.release(p))
        };
        for _ in 0..40 {
            ask(&mut limits).unwrap();
        }
        assert_eq!(ask(&mut limits), Err(Over::Rate));
        tokio::time::advance(Duration::from_millis(49)).await;
        assert_eq!(ask(&mut limits), Err(Over::Rate));
        tokio::time::advance(Duration::from_millis(1)).await;
        ask(&mut limits).unwrap();
        assert_eq!(ask(&mut limits), Err(Over::Rate));
        // Never more than the burst, however long nobody asked.
        tokio::time::advance(Duration::from_secs(3600)).await;
        for _ in 0..40 {
            ask(&mut limits).unwrap();
        }
        assert_eq!(ask(&mut limits), Err(Over::Rate));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_outlived_a_daemon_need_no_token_but_room() {
        let book = rules(WEB, 20, 256);
        let mut limits = Limits::default();
        limits.follow(&book);
        let quota = quota(&book, WEB);
        let mut resumed = 0;
        let ask =
            |limits: &mut Limits, uid, again| limits.admit(quota, WEB, uid, again, Instant::now());
        let mut permits = Vec::new();
        while let Ok(permit) = ask(&mut limits, resumed % 16, true) {
            permits.push(permit);
            resumed += 1;
        }
        assert_eq!(resumed, 256);
        assert_eq!(ask(&mut limits, 0, true).unwrap_err(), Over::Container);
        permits.into_iter().for_each(|p| limits.release(p));
        // Nor do they take one from those that come new.
        assert_eq!(fill(&mut limits, quota, WEB, 16).1, Over::Rate);
        assert_eq!(limits.pending(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn nested_containers_share_the_pace_of_the_ancestors_rule() {
        let book = rules(WEB, 1, 256);
        let mut limits = Limits::default();
        limits.follow(&book);
        for (id, expected) in [(10, true), (11, true), (12, false)] {
            let nested = ContainerId(id);
            let quota = Quota::of(book.find([nested, WEB], b"user"), &[nested, WEB], &book);
            assert_eq!(
                limits
                    .admit(quota, nested, 0, false, Instant::now())
                    .is_ok(),
                expected
            );
        }
    }
}
