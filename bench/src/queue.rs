//! A request that the kernel queues, out of a container and answered by an agent, against the same
//! kernel's own way: a request of the host, for which it starts the stock program.
//!
//! Only a kernel with container objects queues requests, such as that of `kernel/`:
//! `make lab CMD=…` with this program and the part `queue`.

use keyns_sys::container_abi::{ContainerAbi, Feature};

use crate::Failure;
use crate::denizen::Denizen;
use crate::parts::Plan;
use crate::quota::Raised;
use crate::stock::Stock;
use crate::table::Row;
use crate::turns::{self, Turn};
use crate::world::World;

/// Five times as fast.
const GOAL: f64 = 0.2;

/// Whether this kernel queues requests.
///
/// # Errors
/// What the kernel says of containers cannot be read.
pub(crate) fn is_possible() -> Result<bool, Failure> {
    Ok(ContainerAbi::read()?.is_some_and(|abi| abi.has(Feature::Interception)))
}

/// # Errors
/// Any request that is not answered; a kernel that queues none.
pub(crate) fn measure(plan: &Plan, stock: &Stock) -> Result<Vec<Row>, Failure> {
    if !is_possible()? {
        return Err("this kernel does not queue requests; see make lab".into());
    }
    let _quota = Raised::new()?;
    let world = World::start_engine("patched")?;
    compare(plan, stock, &world).map_err(|failure| world.explain(&failure))
}

fn compare(plan: &Plan, stock: &Stock, world: &World) -> Result<Vec<Row>, Failure> {
    let (_agent, mut denizen) = world.answered()?;
    let mut host = Denizen::on_host()?;
    let (started, queued) = turns::measure(plan, stock, |turn, count| match turn {
        Turn::Stock => host.ask(count),
        Turn::Keyns => denizen.ask(count),
    })?;
    Ok(vec![
        Row::reference("request, stock program started".to_owned(), &started),
        Row::ratio(
            "request, queued and answered by an agent".to_owned(),
            &queued,
            &started,
            Some(GOAL),
        ),
    ])
}
