//! `acl`

use std::io::{self, Write};

use clap::Args;
use keyns::classic;
use keyns::errno::KeyOp;
use keyns::mask::{Bits, Mask};
use keyns::rights::Rights;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_interfaces::ErrorKind as Refusal;
use keyns_interfaces::keys::{Ace, Acl, GetAcl, KeyInfo};
use keyns_sys::container_key::Named;

use crate::args;
use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::key::{self, Target};
use crate::key_list::{KeyList, subject_name};
use crate::table::Table;
use crate::view;

/// Show who may do what with a key, and who enforces it
///
/// For a key of your own the entries are read from its mask; if keynsd knows the key, its grants to
/// containers are shown with them.
#[derive(Debug, Args)]
pub struct AclArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
}

/// Shows the access control list.
///
/// # Errors
/// What `KEYCTL_DESCRIBE` or the daemon says.
pub fn run(context: &Context, args: &AclArgs) -> Result<(), CommandError> {
    let acl = match Target::of(&args.key)? {
        Target::Contained(key) => context.daemon()?.call(&GetAcl { key })?,
        own @ Target::Own(serial) => {
            let key = key::info(serial)?;
            match known_to_daemon(context, own)? {
                Some(acl) => acl,
                None => of_kernel(serial, key)?,
            }
        }
    };
    context.ui.print(&acl, show)
}

/// The list of a key that was lent to the daemon; none if it runs without knowing the key, or does
/// not run, in which case it enforces nothing either.
fn known_to_daemon(context: &Context, target: Target) -> Result<Option<Acl>, CommandError> {
    let asked = context.daemon().and_then(|mut daemon| {
        daemon.call(&GetAcl {
            key: target.for_daemon(),
        })
    });
    match asked {
        Ok(acl) => Ok(Some(acl)),
        Err(error) if error.kind == ErrorKind::Unreachable => Ok(None),
        Err(error)
            if matches!(
                error.refusal,
                Some(Refusal::NoSuchKey | Refusal::NotPermitted)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What the kernel itself keeps: the key's list if it has one, else its mask.
fn of_kernel(serial: KeySerial, key: KeyInfo) -> Result<Acl, CommandError> {
    let what = || format!("cannot show who may use key {serial}");
    let list = KeyList::of(serial)
        .map_err(|error| key::failed_on(serial, what(), KeyOp::Describe, &error))?;
    Ok(match list.filter(KeyList::is_set) {
        Some(list) => from_list(key, &list),
        None => from_mask(key),
    })
}

fn from_list(key: KeyInfo, list: &KeyList) -> Acl {
    let entry = |(named, rights, dead): (Named, Rights, bool)| {
        let enforcer = if dead { "nobody: it is dead" } else { "kernel" };
        Ace {
            subject: subject_name(named),
            rights: names(rights),
            implied: Vec::new(),
            enforcer: enforcer.to_owned(),
        }
    };
    Acl {
        key,
        entries: list.entries().map(entry).collect(),
        lent: false,
    }
}

fn from_mask(key: KeyInfo) -> Acl {
    let mask = Mask::from_raw(key.mask).unwrap_or(Mask::NONE);
    let entries = classic::acl_of(mask, key::object(&key))
        .iter()
        .map(|ace| Ace {
            subject: ace.subject.to_string(),
            rights: names(ace.rights()),
            implied: names(ace.accepted),
            enforcer: ace.enforced_by.to_string(),
        })
        .collect();
    Acl {
        key,
        entries,
        lent: false,
    }
}

fn names(rights: Rights) -> Vec<String> {
    rights.names().map(str::to_owned).collect()
}

fn show(out: &mut dyn Write, acl: &Acl) -> io::Result<()> {
    let key = &acl.key;
    writeln!(
        out,
        "key {} {}, owner uid {}, group {}",
        key.serial,
        view::key_name(key),
        key.uid,
        key.gid
    )?;
    let mut table = Table::new(["SUBJECT", "ENFORCED BY", "RIGHTS"]);
    for ace in &acl.entries {
        let implied = if ace.implied.is_empty() {
            String::new()
        } else {
            format!(" (implied: {})", view::rights(&ace.implied))
        };
        table.row([
            view::safe(&ace.subject),
            view::safe(&ace.enforcer),
            view::rights(&ace.rights) + &implied,
        ]);
    }
    table.write(out, "nobody may do anything with it")?;
    let mask = Mask::from_raw(key.mask).unwrap_or(Mask::NONE);
    if mask.other() != Bits::NONE {
        writeln!(
            out,
            "“everyone” are those who are neither the owner nor in a group with bits of its own"
        )?;
    }
    if acl.lent {
        writeln!(out, "lent to keynsd, which holds a link to it")?;
    }
    Ok(())
}
