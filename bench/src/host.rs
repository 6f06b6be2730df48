//! A request of the host, outside every container: the stock program answers it either way.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use keyns_sys::routing_entry;

use crate::Failure;
use crate::denizen::Denizen;
use crate::parts::Plan;
use crate::stock::Stock;
use crate::table::Row;
use crate::turns;
use crate::world::World;

const GOAL: Duration = Duration::from_micros(100);
const CONTAINERS: u32 = 100;

/// # Errors
/// Any request that is not answered.
pub(crate) fn measure(plan: &Plan, stock: &Stock) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let others = living()?;
    let what = match others {
        0 => "host request, no container".to_owned(),
        _ => format!("host request, {others} containers of others"),
    };
    compare(plan, stock, &what, &mut rows)?;
    let world = World::start()?;
    for n in 0..CONTAINERS {
        world.create(&format!("c{n}"))?;
    }
    compare(
        plan,
        stock,
        &format!("host request, {CONTAINERS} containers"),
        &mut rows,
    )?;
    Ok(rows)
}

fn compare(plan: &Plan, stock: &Stock, what: &str, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let mut host = Denizen::on_host()?;
    let (without, with) = turns::measure(plan, stock, |_, count| host.ask(count))?;
    rows.push(Row::reference(format!("{what}, without keyns"), &without));
    rows.push(Row::difference(
        format!("{what}, with keyns"),
        &with,
        &without,
        GOAL,
    ));
    Ok(())
}

/// Entries of the routing table: containers of other instances make the first measurement another.
fn living() -> Result<usize, Failure> {
    let directory = routing_entry::DIRECTORY;
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.count()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}
