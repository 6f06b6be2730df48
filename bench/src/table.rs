//! The result: a table for people, and the same as JSON.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::sample::Sample;

/// One thing that was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    what: String,
    n: usize,
    p5_us: Option<f64>,
    median_us: Option<f64>,
    p95_us: Option<f64>,
    /// The result, as it is compared with the goal.
    result: String,
    goal: Option<String>,
    met: Option<bool>,
}

impl Row {
    /// A time that other rows are compared with.
    pub(crate) fn reference(what: impl Into<String>, sample: &Sample) -> Self {
        Self {
            what: what.into(),
            n: sample.count(),
            p5_us: Some(micros(sample.undisturbed())),
            median_us: Some(micros(sample.median())),
            p95_us: Some(micros(sample.p95())),
            result: String::new(),
            goal: None,
            met: None,
        }
    }

    /// `sample` in relation to a reference; without a goal it is only stated.
    pub(crate) fn ratio(
        what: impl Into<String>,
        sample: &Sample,
        reference: &Sample,
        goal: Option<f64>,
    ) -> Self {
        let ratio = sample.ratio(reference);
        Self {
            result: format!("{ratio:.2}×"),
            goal: goal.map(|goal| format!("≤ {goal:.2}×")),
            met: goal.map(|goal| ratio <= goal),
            ..Self::reference(what, sample)
        }
    }

    /// How much longer `sample` takes than a reference.
    pub(crate) fn difference(
        what: impl Into<String>,
        sample: &Sample,
        reference: &Sample,
        goal: Duration,
    ) -> Self {
        let more = micros(sample.median()) - micros(reference.median());
        Self {
            result: format!("{more:+.0} µs"),
            goal: Some(format!("≤ +{:.0} µs", micros(goal))),
            met: Some(more <= micros(goal)),
            ..Self::reference(what, sample)
        }
    }

    /// `sample` against the clock.
    pub(crate) fn limit(what: impl Into<String>, sample: &Sample, goal: Duration) -> Self {
        Self {
            result: shown(sample.median()),
            goal: Some(format!("≤ {}", shown(goal))),
            met: Some(sample.median() <= goal),
            ..Self::reference(what, sample)
        }
    }

    /// A number in relation to a reference.
    pub(crate) fn fewer(what: &str, unit: &str, count: u64, reference: u64, goal: f64) -> Self {
        // Instructions of a program that runs for milliseconds: far below 2⁵³.
        let ratio = count as f64 / reference as f64;
        Self {
            what: format!("{what}: {count} of {reference} {unit}"),
            n: 1,
            p5_us: None,
            median_us: None,
            p95_us: None,
            result: format!("{ratio:.2}×"),
            goal: Some(format!("≤ {goal:.2}×")),
            met: Some(ratio <= goal),
        }
    }

    /// Something that was counted.
    pub(crate) fn count(
        what: impl Into<String>,
        count: u64,
        unit: &str,
        most: Option<u64>,
    ) -> Self {
        Self {
            what: what.into(),
            n: 1,
            p5_us: None,
            median_us: None,
            p95_us: None,
            result: format!("{count} {unit}"),
            goal: most.map(|most| format!("≤ {most} {unit}")),
            met: most.map(|most| count <= most),
        }
    }

    /// Whether it has a goal and misses it.
    pub(crate) fn missed(&self) -> bool {
        self.met == Some(false)
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn shown(duration: Duration) -> String {
    let micros = micros(duration);
    if micros < 1000.0 {
        format!("{micros:.0} µs")
    } else {
        format!("{:.2} ms", micros / 1000.0)
    }
}

/// All rows, in the order they were measured.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) machine: String,
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["what", "n", "p5", "median", "p95", "result", "goal", ""].map(str::to_owned);
        let time = |micros: Option<f64>| {
            micros.map_or_else(String::new, |m| shown(Duration::from_secs_f64(m / 1e6)))
        };
        let mut lines = vec![heads];
        lines.extend(self.rows.iter().map(|row| {
            let met = row.met.map_or("", |met| if met { "met" } else { "missed" });
            [
                row.what.clone(),
                row.n.to_string(),
                time(row.p5_us),
                time(row.median_us),
                time(row.p95_us),
                row.result.clone(),
                row.goal.clone().unwrap_or_default(),
                met.to_owned(),
            ]
        }));
        let mut widths = [0; 8];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        for line in lines {
            let mut text = String::new();
            for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
                if column == 0 || column == 7 {
                    write!(text, "{cell:<width$}  ")?;
                } else {
                    write!(text, "{cell:>width$}  ")?;
                }
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        writeln!(f, "\n{}", self.machine)?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(micros: u64) -> Sample {
        Sample::new(vec![Duration::from_micros(micros)]).unwrap()
    }

    #[test]
    fn a_goal_is_met_up_to_its_very_value() {
        let of = |micros| Row::ratio("x", &sample(micros), &sample(1000), Some(0.6)).missed();
        assert!(!of(600));
        assert!(of(601));
        let of = |micros| {
            Row::difference(
                "x",
                &sample(micros),
                &sample(1000),
                Duration::from_micros(100),
            )
            .missed()
        };
        assert!(!of(1100));
        assert!(of(1101));
        assert!(!of(900));
        assert!(Row::count("x", 1, "wake-ups", Some(0)).missed());
        assert!(!Row::fewer("x", "n", 60, 100, 0.6).missed());
        assert!(Row::fewer("x", "n", 61, 100, 0.6).missed());
        assert!(!Row::ratio("x", &sample(9), &sample(1), None).missed());
    }

    #[test]
    fn the_table_names_result_and_goal() {
        let table = Table {
            machine: "here".into(),
            notes: Vec::new(),
            rows: vec![Row::ratio("upcall", &sample(450), &sample(1000), Some(0.6))],
        };
        let text = table.to_string();
        let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            words,
            [
                "upcall", "1", "450", "µs", "450", "µs", "450", "µs", "0.45×", "≤", "0.60×", "met"
            ]
        );
    }
}
