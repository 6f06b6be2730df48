//! Times of the same thing, measured many times.

use std::time::Duration;

use crate::Failure;

/// Sorted durations; at least one.
#[derive(Debug, Clone)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    /// # Errors
    /// Without any duration.
    pub(crate) fn new(mut durations: Vec<Duration>) -> Result<Self, Failure> {
        if durations.is_empty() {
            return Err("nothing was measured".into());
        }
        durations.sort_unstable();
        Ok(Self(durations))
    }

    pub(crate) const fn count(&self) -> usize {
        self.0.len()
    }

    /// What it takes when nothing else disturbs, for machines that do more than this.
    pub(crate) fn undisturbed(&self) -> Duration {
        self.at(5)
    }

    pub(crate) fn median(&self) -> Duration {
        self.at(50)
    }

    pub(crate) fn p95(&self) -> Duration {
        self.at(95)
    }

    /// The 95th percentile as a sample of its own, to hold it to a goal.
    ///
    /// # Errors
    /// None: there is one duration at least.
    pub(crate) fn of_p95(&self) -> Result<Self, Failure> {
        Self::new(vec![self.p95()])
    }

    /// Nearest rank.
    fn at(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// How many times as long as `other`, by the medians.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        self.median().as_secs_f64() / other.median().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_percentile_are_values_that_were_measured() {
        let of = |values: &[u64]| {
            Sample::new(values.iter().copied().map(Duration::from_micros).collect()).unwrap()
        };
        let twenty = of(&(1..=20).rev().collect::<Vec<_>>());
        assert_eq!(twenty.median(), Duration::from_micros(10));
        assert_eq!(twenty.p95(), Duration::from_micros(19));
        assert_eq!(of(&[7]).p95(), Duration::from_micros(7));
        assert!((twenty.ratio(&of(&[5])) - 2.0).abs() < 1e-9);
        assert!(Sample::new(Vec::new()).is_err());
    }
}
