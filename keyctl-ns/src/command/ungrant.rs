//! `ungrant`

use clap::Args;
use keyns::spec::KeySpec;
use keyns::subject::Subject;
use keyns_interfaces::keys::Ungrant;

use crate::args;
use crate::command::grant;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::Target;

/// Take rights on a key back
///
/// From a container: its copy of the key is destroyed, and a key of your own that was lent for the
/// grant is given back when no grant is left. From possessor, owner, group or everyone: all bits of
/// that subject in the key's mask are cleared.
///
/// What a process has read already cannot be taken back.
#[derive(Debug, Args)]
pub struct UngrantArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// From whom: container:NAME, possessor, owner, group, everyone
    pub subject: Subject,
}

/// Takes the grant back.
///
/// # Errors
/// What the daemon or `KEYCTL_SETPERM` says.
pub fn run(context: &Context, args: &UngrantArgs) -> Result<(), CommandError> {
    let Subject::Container(container) = &args.subject else {
        return grant::own::take_back(context, &args.key, &args.subject);
    };
    let key = Target::of(&args.key)?.for_daemon();
    let done = context.daemon()?.call(&Ungrant {
        key,
        container: container.to_string(),
    })?;
    context.ui.print(&done, |out, done| {
        let copy = if done.copy_removed {
            "its copy is destroyed"
        } else {
            "its copy was gone already"
        };
        writeln!(
            out,
            "container “{container}” has no rights on key {} any more; {copy}",
            args.key
        )?;
        if done.given_back {
            writeln!(out, "the key was lent to keynsd and is given back")?;
        }
        if done.note.is_empty() {
            Ok(())
        } else {
            writeln!(out, "{}", crate::view::safe(&done.note))
        }
    })
}
