//! `keyns-request-key` in the place of the stock program: the kernel starts either directly, with the
//! same files and the same rule, which runs the same `keyctl`.

use crate::Failure;
use crate::denizen::Denizen;
use crate::parts::Plan;
use crate::sample::Sample;
use crate::stock::Stock;
use crate::table::Row;
use crate::upcall::BATCH;

/// At most this part of the stock program's time, the time of `keyctl` included in both.
const GOAL: f64 = 0.8;

/// # Errors
/// Any request that is not answered.
pub(crate) fn measure(plan: &Plan, stock: &Stock) -> Result<Vec<Row>, Failure> {
    let mut host = Denizen::on_host()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    host.ask(BATCH)?;
    for _ in 0..plan.pairs.div_ceil(BATCH) {
        let direct = stock.without_keyns()?;
        theirs.extend(host.ask(BATCH).map_err(|e| format!("stock program: {e}"))?);
        drop(direct);
        let direct = stock.with_request_key()?;
        ours.extend(
            host.ask(BATCH)
                .map_err(|e| format!("keyns-request-key: {e}"))?,
        );
        drop(direct);
    }
    let (ours, theirs) = (Sample::new(ours)?, Sample::new(theirs)?);
    Ok(vec![
        Row::reference("host request, stock request-key", &theirs),
        Row::ratio(
            "host request, keyns-request-key",
            &ours,
            &theirs,
            Some(GOAL),
        ),
    ])
}
