//! A request out of a container: answered by an agent of keyns, and by the stock program.

use std::ffi::CString;

use keyns_sys::{KeySerial, key};

use crate::Failure;
use crate::parts::Plan;
use crate::quota::Raised;
use crate::stock::Stock;
use crate::table::Row;
use crate::turns;
use crate::world::World;

/// At most this part of the stock program's time.
const GOAL: f64 = 0.6;
/// Keys of others on the host, and whether there is a goal for that many.
const FOREIGN: [(u32, Option<f64>); 4] = [
    (0, Some(GOAL)),
    (100, Some(GOAL)),
    (1_000, None),
    (10_000, None),
];

/// # Errors
/// Any request that is not answered.
pub(crate) fn measure(plan: &Plan, stock: &Stock) -> Result<Vec<Row>, Failure> {
    let _quota = Raised::new()?;
    let world = World::start()?;
    compare(plan, stock, &world).map_err(|failure| world.explain(&failure))
}

fn compare(plan: &Plan, stock: &Stock, world: &World) -> Result<Vec<Row>, Failure> {
    let (_agent, mut denizen) = world.answered()?;
    let mut foreign = Foreign::new()?;
    let mut rows = Vec::new();
    for (count, goal) in FOREIGN {
        foreign.grow(count)?;
        let (without, with) = turns::measure(plan, stock, |_, count| denizen.ask(count))?;
        rows.push(Row::reference(
            format!("request, stock program, {count} foreign keys"),
            &without,
        ));
        let what = format!("request, keyns agent, {count} foreign keys");
        rows.push(Row::ratio(what, &with, &without, goal));
    }
    Ok(rows)
}

/// Keys that have nothing to do with the requester.
struct Foreign {
    keyring: KeySerial,
    count: u32,
}

impl Foreign {
    fn new() -> Result<Self, Failure> {
        let name = CString::new(format!("keyns-bench-{}", std::process::id()))?;
        let keyring = key::add_key(c"keyring", &name, &[], KeySerial::PROCESS)?;
        Ok(Self { keyring, count: 0 })
    }

    fn grow(&mut self, count: u32) -> Result<(), Failure> {
        for n in self.count..count {
            let description = CString::new(format!("keyns-bench-foreign-{n}"))?;
            key::add_key(c"user", &description, b"foreign", self.keyring)?;
        }
        self.count = self.count.max(count);
        Ok(())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = key::clear(self.keyring);
        let _ = key::invalidate(self.keyring);
    }
}
