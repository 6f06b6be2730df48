//! Grants to possessor, owner, group and everyone: bits of the key's mask, set by the caller's own
//! `KEYCTL_SETPERM` and read back from the kernel.

use std::io::{self, Write};

use keyns::errno::KeyOp;
use keyns::expression::{Expression, Object, Place, Refusal};
use keyns::mask::{Bits, Mask, MaskByte};
use keyns::rights::Rights;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns::subject::Subject;
use keyns_interfaces::ErrorKind as Kind;
use keyns_interfaces::keys::KeyInfo;
use keyns_sys::key as sys;
use serde::Serialize;

use super::GrantArgs;
use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::key;
use crate::table::fields;
use crate::view;

/// What a change of the mask did, or would do.
#[derive(Debug, Serialize)]
pub struct Output {
    /// The key as it was.
    pub key: KeyInfo,
    /// Whose bits.
    pub subject: String,
    /// What was asked for.
    pub requested: Rights,
    /// What the bits give.
    pub kernel: Rights,
    /// Of this, what was only accepted.
    pub implied: Rights,
    /// The mask before.
    pub mask_before: u32,
    /// The mask after.
    pub mask_after: u32,
    /// False for a dry run.
    pub applied: bool,
    /// Whether the kernel showed the new mask afterwards; false also if the key may not be viewed
    /// any more.
    pub confirmed: bool,
}

/// A key of the caller's own with its mask.
struct Own {
    serial: KeySerial,
    info: KeyInfo,
    mask: Mask,
    object: Object,
}

/// Grants rights to a subject of the mask.
///
/// # Errors
/// As [`change`].
pub fn grant(context: &Context, args: &GrantArgs) -> Result<(), CommandError> {
    context.ui.print(&change(args)?, show)
}

/// Changes the mask, or with a dry run says what it would be.
///
/// # Errors
/// [`ErrorKind::NotEnforceable`] when the bits cannot express exactly what was asked and accepted.
pub fn change(args: &GrantArgs) -> Result<Output, CommandError> {
    let what = |serial: &str| {
        format!(
            "cannot grant {} on key {serial} to {}",
            args.rights, args.subject
        )
    };
    if args.duration.is_some() {
        return Err(CommandError::usage(what(&args.key.to_string()))
            .cause("a mask has no time; only a grant to a container can end by itself")
            .hint("leave out --for, or let the whole key expire"));
    }
    let own = Own::of(&args.key, &args.subject)?;
    let name = format!("{} {}", own.serial, view::key_name(&own.info));
    let Some(byte) = byte_of(&args.subject) else {
        return Err(CommandError::usage(what(&name)));
    };
    let expression = Place::new(byte, own.object)
        .check(args.rights, args.accepted())
        .map_err(|refusal| refused(what(&name), refusal, args))?;
    let mask = own.with(&args.subject, byte, expression.bits);
    if expression.lets_possess() && byte != MaskByte::Possessor {
        own.check_possession(mask, byte, expression, args, what(&name))?;
    }
    own.keep_control(
        mask,
        what(&name),
        "add setsec to what the owner has: keyctl-ns grant KEY owner …,setsec",
    )?;
    Ok(Output {
        subject: args.subject.to_string(),
        requested: args.rights,
        kernel: expression.kernel,
        implied: expression.implied,
        mask_before: own.mask.raw(),
        mask_after: mask.raw(),
        applied: !args.dry_run,
        confirmed: !args.dry_run && own.set(mask, what(&name))?,
        key: own.info,
    })
}

/// Clears the bits of a subject.
///
/// # Errors
/// What `KEYCTL_SETPERM` says; a refusal when nobody could change the permissions afterwards.
pub fn take_back(context: &Context, spec: &KeySpec, subject: &Subject) -> Result<(), CommandError> {
    let own = Own::of(spec, subject)?;
    let what = format!(
        "cannot take all rights of {subject} on key {} {}",
        own.serial,
        view::key_name(&own.info)
    );
    let Some(byte) = byte_of(subject) else {
        return Err(CommandError::usage(what));
    };
    let mask = own.mask.with(byte, Bits::NONE);
    own.keep_control(mask, what.clone(), "leave the right to change them: keyctl-ns grant KEY owner view,setsec --accept-implied revoke")?;
    if byte == MaskByte::Group && mask.other() != Bits::NONE {
        context
            .ui
            .note("without bits of their own, members of the group have what everyone has");
    }
    let output = Output {
        subject: subject.to_string(),
        requested: Rights::NONE,
        kernel: Rights::NONE,
        implied: Rights::NONE,
        mask_before: own.mask.raw(),
        mask_after: mask.raw(),
        applied: true,
        confirmed: own.set(mask, what)?,
        key: own.info,
    };
    context.ui.print(&output, show)
}

impl Own {
    fn of(spec: &KeySpec, subject: &Subject) -> Result<Self, CommandError> {
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

    /// The mask with `bits` for the subject, all else as it was.
    ///
    /// The kernel takes owner, group or other, whichever comes first: what everyone gets is added to
    /// the others' bits too, but a group without bits stays so, since it counts as other then.
    fn with(&self, subject: &Subject, byte: MaskByte, bits: Bits) -> Mask {
        let mut mask = self.mask.with(byte, bits);
        if *subject == Subject::Everyone {
            mask = mask.with(MaskByte::Owner, mask.owner().with(bits));
            if mask.group() != Bits::NONE {
                mask = mask.with(MaskByte::Group, mask.group().with(bits));
            }
        }
        mask
    }

    /// Whoever may search and link a key can link it to a keyring of its own and then possesses it,
    /// which adds read and the possessor's bits.
    fn check_possession(
        &self,
        mask: Mask,
        byte: MaskByte,
        expression: Expression,
        args: &GrantArgs,
        what: String,
    ) -> Result<(), CommandError> {
        let possessor = Place::new(MaskByte::Possessor, self.object);
        let possessed = possessor.effective(mask.possessor().with(Bits::SEARCH));
        let more = possessed - (args.rights | args.accepted()) - expression.kernel;
        if byte == MaskByte::Possessor || more.is_empty() {
            return Ok(());
        }
        Err(implied(what, more, args).cause(format!(
            "whoever may search and link a key can come to possess it, which also gives {more}"
        )))
    }

    /// A key whose mask nobody may change stays as it is for ever, so that is never done.
    fn keep_control(&self, mask: Mask, what: String, hint: &str) -> Result<(), CommandError> {
        let owner = mask.owner().contains(Bits::SETATTR);
        let possessor = mask.possessor().contains(Bits::SETATTR.with(Bits::SEARCH));
        let had = self.mask.owner().contains(Bits::SETATTR)
            || self
                .mask
                .possessor()
                .contains(Bits::SETATTR.with(Bits::SEARCH));
        if owner || possessor || !had {
            return Ok(());
        }
        Err(CommandError::failure(what)
            .cause("afterwards nobody could change the key's permissions any more, not even root")
            .hint(hint.replace("KEY", &self.serial.to_string())))
    }

    /// Sets the mask and reads it back.
    fn set(&self, mask: Mask, what: String) -> Result<bool, CommandError> {
        sys::set_perm(self.serial, mask.raw()).map_err(|error| {
            let new = key::failed_on(self.serial, what.clone(), KeyOp::SetPerm, &error);
            match new.kind {
                ErrorKind::Denied => new.hint(format!(
                    "keyctl-ns acl {} shows who may change it (setsec)",
                    self.serial
                )),
                _ => new,
            }
        })?;
        match key::info(self.serial) {
            Ok(now) if now.mask == mask.raw() => Ok(true),
            Ok(now) => Err(CommandError::failure(what).cause(format!(
                "the kernel accepted the mask {} but now shows {}",
                mask.letters(),
                view::mask(now.mask)
            ))),
            // The caller took its own view right away.
            Err(error) if error.kind == ErrorKind::Denied => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The byte that holds a subject's bits; none for a container.
fn byte_of(subject: &Subject) -> Option<MaskByte> {
    match subject {
        Subject::Possessor => Some(MaskByte::Possessor),
        Subject::Owner => Some(MaskByte::Owner),
        Subject::Group => Some(MaskByte::Group),
        Subject::Everyone => Some(MaskByte::Other),
        Subject::Container(_) => None,
    }
}

fn refused(what: String, refusal: Refusal, args: &GrantArgs) -> CommandError {
    match refusal {
        Refusal::Implied(rights) => implied(what, rights, args).cause(format!(
            "on this kernel these rights cannot be given without {rights}"
        )),
        Refusal::Impossible(rights) => {
            let mut error = CommandError::new(ErrorKind::NotEnforceable, what)
                .cause(format!(
                    "no bit of the mask gives {} {rights}, or not all of it",
                    args.subject
                ))
                .hint("leave out these rights, or grant the key to a container");
            error.refusal = Some(Kind::NotEnforceable);
            error.rights = rights.names().map(str::to_owned).collect();
            error
        }
    }
}

fn implied(what: String, rights: Rights, args: &GrantArgs) -> CommandError {
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
    rows.push((
        "mask before",
        format!(
            "{} ({:#010x})",
            view::mask(done.mask_before),
            done.mask_before
        ),
    ));
    rows.push((
        "mask after",
        format!(
            "{} ({:#010x})",
            view::mask(done.mask_after),
            done.mask_after
        ),
    ));
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
