//! `grant`

pub mod lend;
mod list;
mod mask;
pub mod own;

use clap::Args;
use keyns::rights::Rights;
use keyns::spec::KeySpec;
use keyns::subject::Subject;

use crate::args::{self, Seconds};
use crate::context::Context;
use crate::error::CommandError;

/// Give rights on a key to a container, or to possessor, owner, group or everyone
///
/// To a container: its processes get a copy of the key with exactly these rights, kept up to date
/// with the key. A key of your own is lent to keynsd for it, which needs the link right on the key
/// and leaves its permissions as they are.
///
/// To possessor, owner, group or everyone: the bits of that subject in the key's mask are replaced,
/// by your own right to do so. Where the kernel has lists of rights, a list is made of the mask as soon
/// as that cannot say exactly what is asked for, and the subject's entry in the list is replaced.
///
/// The kernel often cannot give a right alone: whoever may search a key may also invalidate it, where
/// there are no lists. Such a grant is refused with exit code 8 until the further rights are accepted by
/// name.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Examples:
  keyctl-ns grant %user:token container:web search --accept-implied read,inval --for 8h
  keyctl-ns grant 474754113 group view,read")]
pub struct GrantArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// To whom: container:NAME, possessor, owner, group, everyone
    pub subject: Subject,
    /// Rights, joined by commas: view, read, write, search, link, setsec, inval, revoke, join, clear
    #[arg(value_parser = args::rights)]
    pub rights: Rights,
    /// Rights that may be given along with them where the kernel cannot do otherwise
    #[arg(long, value_name = "RIGHTS", value_parser = args::rights)]
    pub accept_implied: Option<Rights>,
    /// Take the grant back after this time (only for containers)
    #[arg(long = "for", value_name = "TIME")]
    pub duration: Option<Seconds>,
    /// Say what would be given, and change nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

impl GrantArgs {
    /// The rights that may be given along.
    #[must_use]
    pub fn accepted(&self) -> Rights {
        self.accept_implied.unwrap_or_default()
    }
}

/// Grants the rights.
///
/// # Errors
/// [`ErrorKind::NotEnforceable`](crate::error::ErrorKind::NotEnforceable) when the kernel gives more
/// than was asked and accepted, or not all of it.
pub fn run(context: &Context, args: &GrantArgs) -> Result<(), CommandError> {
    match &args.subject {
        Subject::Container(container) => lend::grant(context, args, container),
        _ => own::grant(context, args),
    }
}
