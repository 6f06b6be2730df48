//! How many requests came, and how long they took, in two lines.

use std::collections::BTreeMap;

use keyctl_ns::view;

use super::requests::Requests;

/// Seconds that the rate is shown of.
const SPAN: u64 = 60;
/// Seconds that one bar stands for.
const STEP: u64 = 2;

/// Bars from nothing to the highest.
const BARS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// When requests came.
#[derive(Debug, Default)]
pub struct Arrivals {
    // Requests by the second in which they came.
    seconds: BTreeMap<u64, u32>,
}

impl Arrivals {
    /// One came at this time, in milliseconds since 1970.
    pub fn add(&mut self, time_ms: u64) {
        *self.seconds.entry(time_ms / 1000).or_default() += 1;
        // Times of a daemon whose clock is wrong must not pile up.
        while self.seconds.len() > 2 * SPAN as usize {
            self.seconds.pop_first();
        }
    }

    /// Requests of the last minute in steps, the oldest first.
    fn steps(&self, now_ms: u64) -> Vec<u32> {
        // Bars stand still within their step.
        let end = (now_ms / 1000 / STEP + 1) * STEP;
        let start = end.saturating_sub(SPAN);
        let count = |step: u64| {
            let from = start + step * STEP;
            self.seconds.range(from..from + STEP).map(|(_, n)| *n).sum()
        };
        (0..SPAN / STEP).map(count).collect()
    }

    /// Whether the line will be different without another request.
    #[must_use]
    pub fn moves(&self, now_ms: u64) -> bool {
        self.steps(now_ms).iter().any(|n| *n > 0)
    }

    /// The line.
    #[must_use]
    pub fn line(&self, now_ms: u64) -> String {
        let steps = self.steps(now_ms);
        let all: u32 = steps.iter().sum();
        let most = steps.iter().copied().max().unwrap_or(0);
        let bars: String = steps.iter().map(|n| bar(*n, most)).collect();
        match all {
            0 => "rate  none in the last minute".to_owned(),
            _ => format!("rate  {all} in the last minute, at most {most} in {STEP}s  {bars}"),
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.seconds.clear();
    }
}

fn bar(n: u32, most: u32) -> char {
    let height = match n {
        0 => 0,
        // The smallest is still to be seen.
        n => (u64::from(n) * 8).div_ceil(u64::from(most.max(1))).max(1),
    };
    let at = usize::try_from(height).unwrap_or(8).min(8);
    BARS.get(at).copied().unwrap_or('█')
}

/// How long the requests that ended took.
#[must_use]
pub fn durations(requests: &Requests) -> String {
    const BINS: [(u64, &str); 5] = [
        (10, "<10ms"),
        (100, "<0.1s"),
        (1000, "<1s"),
        (10_000, "<10s"),
        (u64::MAX, "more"),
    ];
    let ended = requests.iter().filter(|it| !it.is_waiting());
    let mut took: Vec<u64> = ended.map(|it| it.info.age_ms).collect();
    took.sort_unstable();
    let (Some(middle), Some(longest)) = (took.get(took.len() / 2), took.last()) else {
        return "took  none has ended yet".to_owned();
    };
    let mut counts = [0_u32; BINS.len()];
    for ms in &took {
        let bin = BINS.iter().position(|(end, _)| ms < end);
        if let Some(count) = counts.get_mut(bin.unwrap_or(BINS.len() - 1)) {
            *count += 1;
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    let bins = BINS.iter().zip(counts);
    let bins: String = bins
        .map(|((_, name), n)| match n {
            0 => format!("  {name} 0"),
            n => format!("  {name} {}{n}", bar(n, most)),
        })
        .collect();
    let [middle, longest] = [middle, longest].map(|ms| view::milliseconds(*ms));
    format!("took  half within {middle}, all {longest}{bins}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_with_the_number_and_the_smallest_is_seen() {
        assert_eq!(bar(0, 9), '·');
        assert_eq!(bar(1, 1000), '▁');
        assert_eq!(bar(1000, 1000), '█');
        assert_eq!(bar(u32::MAX, u32::MAX), '█');
    }

    #[test]
    fn what_is_older_than_a_minute_is_not_counted() {
        let mut arrivals = Arrivals::default();
        arrivals.add(1_000_000);
        arrivals.add(1_000_500);
        assert!(
            arrivals
                .line(1_030_000)
                .starts_with("rate  2 in the last minute")
        );
        assert!(arrivals.moves(1_030_000));
        assert!(arrivals.line(1_070_000).contains("none"));
        assert!(!arrivals.moves(1_070_000));
    }

    #[test]
    fn times_of_a_wrong_clock_do_not_pile_up() {
        let mut arrivals = Arrivals::default();
        for second in 0..10_000 {
            arrivals.add(second * 1000);
        }
        assert!(arrivals.seconds.len() <= 120);
        arrivals.add(u64::MAX);
        let _ = arrivals.line(u64::MAX);
    }
}
