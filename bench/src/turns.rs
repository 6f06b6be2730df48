//! Two ways of answering requests, measured in turns: what happens to the machine meanwhile happens to
//! both.

use std::time::Duration;

use crate::Failure;
use crate::parts::Plan;
use crate::sample::Sample;
use crate::stock::Stock;

/// Requests in a row before the other one's turn: often enough for both to meet the same noise,
/// seldom enough that exchanging the program does not disturb what is measured.
pub(crate) const BATCH: u64 = 10;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The kernel executes the stock program directly.
    Stock,
    /// The request takes the way that is measured.
    Keyns,
}

/// Measures the stock program, and what `ask` measures in its other turns. Makes as many requests
/// before that as one turn has, so that programs and caches are as they are after the first ones.
///
/// # Errors
/// Any request that is not answered.
pub(crate) fn measure(
    plan: &Plan,
    stock: &Stock,
    mut ask: impl FnMut(Turn, u64) -> Result<Vec<Duration>, Failure>,
) -> Result<(Sample, Sample), Failure> {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    ask(Turn::Keyns, BATCH)?;
    for _ in 0..plan.pairs.div_ceil(BATCH) {
        let direct = stock.without_keyns()?;
        theirs.extend(ask(Turn::Stock, BATCH).map_err(|e| format!("stock program: {e}"))?);
        drop(direct);
        ours.extend(ask(Turn::Keyns, BATCH).map_err(|e| format!("keyns: {e}"))?);
    }
    Ok((Sample::new(theirs)?, Sample::new(ours)?))
}
