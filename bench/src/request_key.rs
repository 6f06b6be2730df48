//! `keyns-request-key` in the place of the stock program: the kernel starts either directly, with the
//! same files and the same rule, which runs the same `keyctl`.

use crate::Failure;
use crate::denizen::Denizen;
use crate::parts::Plan;
use crate::stock::Stock;
use crate::table::Row;
use crate::turns::{self, Turn};

/// At most this part of the stock program's time, the time of `keyctl` included in both.
const GOAL: f64 = 0.8;

/// # Errors
/// Any request that is not answered.
pub(crate) fn measure(plan: &Plan, stock: &Stock) -> Result<Vec<Row>, Failure> {
    let mut host = Denizen::on_host()?;
    let (theirs, ours) = turns::measure(plan, stock, |turn, count| match turn {
        Turn::Stock => host.ask(count),
        Turn::Keyns => {
            let direct = stock.with_request_key()?;
            let asked = host.ask(count);
            drop(direct);
            asked
        }
    })?;
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
