//! Grants to possessor, owner, group and everyone, by the caller's own right to change the key.
//!
//! A key has a mask, and where the kernel has lists of rights it may have one of these instead. The mask
//! is used as long as it says exactly what was asked for: whoever reads the key's description sees all of
//! it. Where it cannot, and for a key that has a list already, an entry of the list is set, which leaves
//! the entries of others alone; a new mask would wipe them out.

use std::io::{self, Write};

use keyns::errno::KeyOp;
use keyns::expression::{Object, Refusal};
use keyns::mask::Mask;
use keyns::rights::Rights;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns::subject::Subject;
use keyns_interfaces::ErrorKind as Kind;
use keyns_interfaces::keys::KeyInfo;
use serde::Serialize;

use super::{GrantArgs, list, mask};
use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::key;
use crate::key_list::KeyList;
use crate::table::fields;
use crate::view;

/// What a grant did, or would do.
#[derive(Debug, Serialize)]
pub struct Output {
    /// The key as it was.
    pub key: KeyInfo,
    /// Whose rights.
    pub subject: String,
    /// What was asked for.
    pub requested: Rights,
    /// What the kernel gives.
    pub kernel: Rights,
    /// Of this, what was only accepted.
    pub implied: Rights,
    /// Whether an entry of the key's list says so, and not its mask.
    pub by_list: bool,
    /// What others gain, because the key had no list before and lists are added up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Also>,
    /// The mask before.
    pub mask_before: u32,
    /// The mask after. Of a key with a list it is what the kernel shows to those who know of no lists,
    /// and is not told in advance.
    pub mask_after: Option<u32>,
    /// False for a dry run.
    pub applied: bool,
    /// Whether the kernel showed the new mask or entry afterwards; false also if the key may not be
    /// viewed any more.
    pub confirmed: bool,
}

/// What somebody gains whom the grant is not for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Also {
    /// Who.
    pub subject: String,
    /// Rights it did not have.
    pub rights: Rights,
}

/// A key of the caller's own with its mask.
pub(super) struct Own {
    pub(super) serial: KeySerial,
    pub(super) info: KeyInfo,
    pub(super) mask: Mask,
    pub(super) object: Object,
}

/// Grants rights.
///
/// # Errors
/// As [`change`].
pub fn grant(context: &Context, args: &GrantArgs) -> Result<(), CommandError> {
    context.ui.print(&change(args)?, show)
}

/// Changes what the subject may do, or with a dry run says what that would come to.
///
/// # Errors
/// [`ErrorKind::NotEnforceable`] when the kernel cannot express exactly what was asked and accepted.
pub fn change(args: &GrantArgs) -> Result<Output, CommandError> {
    let what = |serial: &str| {
        format!(
            "cannot grant {} on key {serial} to {}",
            args.rights, args.subject
        )
    };
    if args.duration.is_some() {
        return Err(CommandError::usage(what(&args.key.to_string()))
            .cause("only a grant to a container can end by itself")
            .hint("leave out --for, or let the whole key expire"));
    }
    let own = Own::of(&args.key, &args.subject)?;
    let what = what(&format!("{} {}", own.serial, view::key_name(&own.info)));
    match own.list(&what)? {
        Some(list) if list.is_set() => list::change(args, &own, &list, what),
        Some(list) => match mask::change(args, &own, what.clone()) {
            Err(error) if error.kind == ErrorKind::NotEnforceable => {
                list::change(args, &own, &list, what)
            }
            other => other,
        },
        None => mask::change(args, &own, what),
    }
}

/// Takes all rights of a subject back.
///
/// # Errors
/// What the kernel says; a refusal when nobody could change the permissions afterwards.
pub fn take_back(context: &Context, spec: &KeySpec, subject: &Subject) -> Result<(), CommandError> {
    let own = Own::of(spec, subject)?;
    let what = format!(
        "cannot take all rights of {subject} on key {} {}",
        own.serial,
        view::key_name(&own.info)
    );
    let done = match own.list(&what)? {
        Some(list) if list.is_set() => list::take_back(&own, subject, &list, what)?,
        _ => mask::take_back(context, &own, subject, what)?,
    };
    context.ui.print(&done, show)
}

impl Own {
    pub(super) fn of(spec: &KeySpec, subject: &Subject) -> Result<Self, CommandError> {
        if let KeySpec::InContainer { container, .. } = spec {
            return Err(CommandError::usage(format!(
                "cannot change what {subject} may do with key {spec}"
            ))
            .cause("the mask of a container's key belongs to keynsd")
            .hint(format!(
                "grant it to the container: keyctl-ns grant {spec} container:{container} RIGHTS"
            )));
        }
        let serial = key::resolve(spec)?;
        let info = key::info(serial)?;
        let mask = Mask::from_raw(info.mask).ok_or_else(|| {
            CommandError::failure(format!("cannot change the mask of key {serial}")).cause(format!(
                "its mask {:#010x} has bits this version does not know",
                info.mask
            ))
        })?;
        let object = key::object(&info);
        Ok(Self {
            serial,
            info,
            mask,
            object,
        })
    }

    /// The key's list, where the kernel has lists.
    fn list(&self, what: &str) -> Result<Option<KeyList>, CommandError> {
        KeyList::of(self.serial)
            .map_err(|error| key::failed_on(self.serial, what.to_owned(), KeyOp::Describe, &error))
    }

    /// What a change that was made, or with `applied` false would be, comes to.
    pub(super) fn output(&self, subject: &Subject) -> Output {
        Output {
            subject: subject.to_string(),
            requested: Rights::NONE,
            kernel: Rights::NONE,
            implied: Rights::NONE,
            by_list: false,
            also: Vec::new(),
            mask_before: self.mask.raw(),
            mask_after: None,
            applied: true,
            confirmed: false,
            key: self.info.clone(),
        }
    }
}

/// A key that nobody may change stays as it is for ever, so that is never done.
pub(super) fn uncontrolled(serial: KeySerial, what: String, hint: &str) -> CommandError {
    CommandError::failure(what)
        .cause("afterwards nobody could change the key's permissions any more, not even root")
        .hint(hint.replace("KEY", &serial.to_string()))
}

/// Why rights are not given as they were asked for.
pub(super) fn refused(what: String, refusal: Refusal, args: &GrantArgs) -> CommandError {
    match refusal {
        Refusal::Implied(rights) => implied(what, rights, args).cause(format!(
            "on this kernel these rights cannot be given without {rights}"
        )),
        Refusal::Impossible(rights) => {
            let mut error = CommandError::new(ErrorKind::NotEnforceable, what)
                .cause(format!(
                    "nothing gives {} {rights} on such a key, or not all of it",
                    args.subject
                ))
                .hint("leave out these rights, or grant the key to a container");
            error.refusal = Some(Kind::NotEnforceable);
            error.rights = rights.names().map(str::to_owned).collect();
            error
        }
    }
}

/// That further rights must be accepted.
pub(super) fn implied(what: String, rights: Rights, args: &GrantArgs) -> CommandError {
    let mut error = CommandError::new(ErrorKind::NotEnforceable, what).hint(format!(
        "accept the extra rights with --accept-implied {}",
        rights | args.accepted()
    ));
    error.refusal = Some(Kind::ImpliedRights);
    error.rights = rights.names().map(str::to_owned).collect();
    error
}

fn show(out: &mut dyn Write, done: &Output) -> io::Result<()> {
    let verb = if done.applied { "has" } else { "would have" };
    let rights = if done.kernel.is_empty() {
        "no rights".to_owned()
    } else {
        done.kernel.to_string()
    };
    writeln!(
        out,
        "{} {verb} {rights} on key {} {}",
        done.subject,
        done.key.serial,
        view::key_name(&done.key)
    )?;
    let mut rows = Vec::new();
    if !done.implied.is_empty() {
        rows.push(("implied", done.implied.to_string()));
    }
    for also in &done.also {
        let gain = format!("{} gains {} by the list", also.subject, also.rights);
        rows.push(("also", gain));
    }
    if done.by_list {
        rows.push(("said by", "an entry of the key's list".to_owned()));
    }
    let shown = |mask: u32| format!("{} ({mask:#010x})", view::mask(mask));
    rows.push(("mask before", shown(done.mask_before)));
    rows.extend(done.mask_after.map(|mask| ("mask after", shown(mask))));
    if done.applied {
        let read_back = if done.confirmed {
            "yes, read back"
        } else {
            "no, you may not view the key any more"
        };
        rows.push(("confirmed by the kernel", read_back.to_owned()));
    }
    fields(out, &rows)
}
