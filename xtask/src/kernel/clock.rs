//! How long something takes.

use std::fs;
use std::time::Instant;

/// Time that passes, and that processors work for the programs started here.
pub(super) struct Clock {
    begun: Instant,
    worked: f64,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self {
            begun: Instant::now(),
            worked: worked(),
        }
    }

    pub(super) fn passed(&self) -> String {
        format!(
            "{:>6.1} s, {:>6.1} s of processors",
            self.begun.elapsed().as_secs_f64(),
            worked() - self.worked
        )
    }
}

/// Seconds that ended children have used, theirs included: proc(5), the fields `cutime` and `cstime` in
/// hundredths of seconds.
fn worked() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}
