//! Fields of a form that say where requests for keys are to go.

use keyctl_ns::args;
use keyns_interfaces::upcalls::Target;

use super::fields::Field;

/// Where they may go; the last one is for rules alone.
pub const CHOICES: [&str; 4] = [
    "a queue, answered by hand",
    "agents of a name",
    "any agent of the type",
    "nobody: rejected",
];

/// The field that chooses among these.
#[must_use]
pub fn field(choices: &[&str]) -> Field {
    Field::choice("to", choices.iter().map(|it| (*it).to_owned()).collect())
}

/// What was chosen, and the name, or the error, that was typed for it.
///
/// # Errors
/// What is wrong with it.
pub fn of(to: &Field, name: &Field) -> Result<Target, String> {
    Ok(match (to.chosen(), name.typed()) {
        (0, "") => Target::Queue("manual".to_owned()),
        (0, name) => Target::Queue(name.to_owned()),
        (1, name) => Target::Agent(args::not_empty(name)?),
        (2, "") => Target::Agent(String::new()),
        (2, _) => return Err("any agent has no name: empty the field".to_owned()),
        (_, "") => Target::Reject(args::rejection("ENOKEY")?),
        (_, error) => Target::Reject(args::rejection(error)?),
    })
}

/// How long a request may wait, in milliseconds, if that was filled in.
///
/// # Errors
/// What is wrong with it.
pub fn deadline(field: &Field) -> Result<Option<u32>, String> {
    match field.typed() {
        "" => Ok(None),
        time => args::deadline(time).map(Some),
    }
}
