//! `purge`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::serial::KeySerial;
use keyns::spec::KeyName;
use keyns_interfaces::ByteText;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key;
use crate::keyctl::walk::{self, Visit};
use crate::view;

/// Take all keys of a type, or of a type and description, out of your keyrings
///
/// Every keyring below your session keyring is looked through. Keys that no other keyring holds are
/// gone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyctl-ns purge user build: --prefix --dry-run
  keyctl-ns purge rxrpc")]
pub struct PurgeArgs {
    /// Type of the keys
    #[arg(value_parser = args::key_type)]
    pub r#type: String,
    /// Description of the keys (default: any)
    #[arg(value_parser = args::bytes())]
    pub description: Option<ByteText>,
    /// Also keys whose description only begins with DESCRIPTION
    #[arg(long, short, requires = "description")]
    pub prefix: bool,
    /// Take small and capital letters of ASCII for the same
    #[arg(long, short, requires = "description")]
    pub ignore_case: bool,
    /// Whatever the key type itself takes for a match, by searching every keyring
    #[arg(
        long,
        short,
        requires = "description",
        conflicts_with_all = ["prefix", "ignore_case", "dry_run"]
    )]
    pub search: bool,
    /// Only say what would be taken out
    #[arg(long)]
    pub dry_run: bool,
}

/// A link that was removed, or would be.
#[derive(Serialize)]
struct Link {
    serial: i32,
    #[serde(rename = "type")]
    type_: String,
    /// Absent where the key type found it by another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<ByteText>,
    keyring: i32,
}

#[derive(Serialize)]
struct Output {
    links: Vec<Link>,
    applied: bool,
}

/// Removes the links.
///
/// # Errors
/// What `KEYCTL_UNLINK` says of the first that could not be removed.
pub fn run(context: &Context, args: &PurgeArgs) -> Result<(), CommandError> {
    let what = || {
        format!(
            "cannot take out all keys of type {}",
            view::safe(&args.r#type)
        )
    };
    // Any description will do to check the type.
    let description = args.description.as_ref().map_or(&b"*"[..], ByteText::bytes);
    let name = KeyName::new(args.r#type.as_bytes(), description)
        .map_err(|error| CommandError::usage(what()).cause(error.to_string()))?;
    let mut purge = Purge {
        args,
        name,
        links: Vec::new(),
        failure: None,
    };
    walk::session(|visit| purge.visit(&visit))
        .map_err(|error| key::failed(what(), KeyOp::GetKeyringId, &error))?;
    let output = Output {
        links: purge.links,
        applied: !args.dry_run,
    };
    context.ui.print(&output, |out, done| {
        for link in &done.links {
            write!(out, "{}  {}", link.serial, view::safe(&link.type_))?;
            if let Some(description) = &link.description {
                write!(out, ": {}", view::short(description))?;
            }
            writeln!(out, "  from keyring {}", link.keyring)?;
        }
        let verb = if done.applied { "" } else { " would be" };
        match done.links.len() {
            1 => writeln!(out, "1 key{verb} taken out"),
            n => writeln!(out, "{n} keys{verb} taken out"),
        }
    })?;
    purge.failure.map_or(Ok(()), Err)
}

struct Purge<'a> {
    args: &'a PurgeArgs,
    name: KeyName,
    links: Vec<Link>,
    failure: Option<CommandError>,
}

impl Purge<'_> {
    fn visit(&mut self, visit: &Visit<'_>) {
        let Some(seen) = visit.seen() else {
            return;
        };
        if self.args.search {
            if seen.is_keyring() {
                self.search(visit.key);
            }
        } else if visit.parent != KeySerial::NONE
            && seen.type_ == self.args.r#type.as_bytes()
            && self.matches(seen.description)
        {
            let description = ByteText(seen.description.to_vec());
            let done = self.args.dry_run || self.unlink(visit.key, visit.parent);
            if done {
                self.links
                    .push(self.link(visit.key, visit.parent, Some(description)));
            }
        }
    }

    fn matches(&self, found: &[u8]) -> bool {
        let Some(wanted) = self.args.description.as_ref().map(ByteText::bytes) else {
            return true;
        };
        let compared = if self.args.prefix {
            found.get(..wanted.len())
        } else {
            Some(found)
        };
        compared.is_some_and(|found| {
            found == wanted || self.args.ignore_case && found.eq_ignore_ascii_case(wanted)
        })
    }

    /// Removes from one keyring whatever a search finds in it; ends with the first that stays.
    fn search(&mut self, keyring: KeySerial) {
        let (type_, description) = (self.name.type_(), self.name.description());
        let mut found = Vec::new();
        while let Ok(key) = sys::search(keyring, type_, description, KeySerial::NONE) {
            // It may be in a keyring below, which is visited for itself.
            if sys::unlink(key, keyring).is_err() {
                break;
            }
            found.push(self.link(key, keyring, None));
        }
        self.links.append(&mut found);
    }

    fn unlink(&mut self, key: KeySerial, keyring: KeySerial) -> bool {
        let Err(error) = sys::unlink(key, keyring) else {
            return true;
        };
        let what = format!("cannot take key {key} out of keyring {keyring}");
        self.failure
            .get_or_insert_with(|| key::failed_on(keyring, what, KeyOp::Unlink, &error));
        false
    }

    fn link(&self, key: KeySerial, keyring: KeySerial, description: Option<ByteText>) -> Link {
        Link {
            serial: key.raw(),
            type_: self.args.r#type.clone(),
            description,
            keyring: keyring.raw(),
        }
    }
}
