//! Grants by bits of the key's mask, set by the caller's own `KEYCTL_SETPERM` and read back from the kernel.

use keyns::errno::KeyOp;
use keyns::expression::{Expression, Place};
use keyns::mask::{Bits, Mask, MaskByte};
use keyns::subject::Subject;
use keyns_sys::key as sys;

use super::GrantArgs;
use super::own::{Output, Own, implied, refused, uncontrolled};
use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::key;
use crate::view;

/// Changes the bits of a subject, or with a dry run says what they would be.
pub(super) fn change(args: &GrantArgs, own: &Own, what: String) -> Result<Output, CommandError> {
    let Some(byte) = byte_of(&args.subject) else {
        return Err(CommandError::usage(what));
    };
    let expression = Place::new(byte, own.object)
        .check(args.rights, args.accepted())
        .map_err(|refusal| refused(what.clone(), refusal, args))?;
    let mask = own.with(&args.subject, byte, expression.bits);
    if expression.lets_possess() && byte != MaskByte::Possessor {
        own.check_possession(mask, byte, expression, args, what.clone())?;
    }
    own.keep_control(
        mask,
        what.clone(),
        "add setsec to what the owner has: keyctl-ns grant KEY owner …,setsec",
    )?;
    Ok(Output {
        requested: args.rights,
        kernel: expression.kernel,
        implied: expression.implied,
        mask_after: Some(mask.raw()),
        applied: !args.dry_run,
        confirmed: !args.dry_run && own.set(mask, what)?,
        ..own.output(&args.subject)
    })
}

/// Clears the bits of a subject.
pub(super) fn take_back(
    context: &Context,
    own: &Own,
    subject: &Subject,
    what: String,
) -> Result<Output, CommandError> {
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
    Ok(Output {
        mask_after: Some(mask.raw()),
        confirmed: own.set(mask, what)?,
        ..own.output(subject)
    })
}

impl Own {
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
        Err(uncontrolled(self.serial, what, hint))
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
