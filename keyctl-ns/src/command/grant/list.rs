//! Grants by an entry of the kernel's list, set by the caller's own `KEYCTL_GRANT_PERMISSION` and read back.

use keyns::classic::widening;
use keyns::errno::KeyOp;
use keyns::key_list;
use keyns::rights::Rights;
use keyns::subject::Subject;

use super::GrantArgs;
use super::own::{Also, Output, Own, refused, uncontrolled};
use crate::error::{CommandError, ErrorKind};
use crate::key;
use crate::key_list::KeyList;

/// Sets the entry of a subject, or with a dry run says what it would give.
pub(super) fn change(
    args: &GrantArgs,
    own: &Own,
    list: &KeyList,
    what: String,
) -> Result<Output, CommandError> {
    let subject = &args.subject;
    let possessor = list.rights(&Subject::Possessor);
    let expression =
        key_list::express(subject, own.object, args.rights, args.accepted(), possessor)
            .map_err(|refusal| refused(what.clone(), refusal, args))?;
    let hint = "add setsec to what the owner has: keyctl-ns grant KEY owner …,setsec";
    keep_control(own, list, subject, args.rights, what.clone(), hint)?;
    let mut done = Output {
        requested: args.rights,
        kernel: expression.kernel,
        implied: expression.implied,
        by_list: true,
        also: if list.is_set() {
            Vec::new()
        } else {
            gains(own)
        },
        applied: !args.dry_run,
        ..own.output(subject)
    };
    if !args.dry_run {
        set(own, list, subject, args.rights, what, &mut done)?;
    }
    Ok(done)
}

/// Removes the entry of a subject.
pub(super) fn take_back(
    own: &Own,
    subject: &Subject,
    list: &KeyList,
    what: String,
) -> Result<Output, CommandError> {
    let hint = "leave the right to change them: keyctl-ns grant KEY owner view,setsec";
    keep_control(own, list, subject, Rights::NONE, what.clone(), hint)?;
    let mut done = Output {
        by_list: true,
        ..own.output(subject)
    };
    set(own, list, subject, Rights::NONE, what, &mut done)?;
    Ok(done)
}

/// Sets the entry and reads back what the kernel has made of it.
fn set(
    own: &Own,
    list: &KeyList,
    subject: &Subject,
    rights: Rights,
    what: String,
    done: &mut Output,
) -> Result<(), CommandError> {
    let failed = |what: String, error: &std::io::Error| {
        key::failed_on(own.serial, what, KeyOp::SetPerm, error)
    };
    list.set(own.serial, subject, rights)
        .map_err(|error| failed(what.clone(), &error))?;
    match KeyList::of(own.serial) {
        Ok(Some(now)) if now.rights(subject) == rights => done.confirmed = true,
        Ok(now) => {
            let has = now.map_or(Rights::NONE, |now| now.rights(subject));
            return Err(CommandError::failure(what).cause(format!(
                "the kernel accepted the entry but now has {has} for {subject}"
            )));
        }
        Err(error) => {
            let error = failed(what, &error);
            // The caller took its own view right away.
            return match error.kind {
                ErrorKind::Denied => Ok(()),
                _ => Err(error),
            };
        }
    }
    done.mask_after = Some(key::info(own.serial)?.mask);
    Ok(())
}

/// An entry for everyone holds for owner and group as well, where bits for others do not.
fn gains(own: &Own) -> Vec<Also> {
    let widening = widening(own.mask, own.object);
    [
        (Subject::Owner, widening.owner),
        (Subject::Group, widening.group),
    ]
    .into_iter()
    .filter(|(_, rights)| !rights.is_empty())
    .map(|(subject, rights)| Also {
        subject: subject.to_string(),
        rights,
    })
    .collect()
}

/// Who may set security must stay able to reach the key: its owner, or who finds it.
fn keep_control(
    own: &Own,
    list: &KeyList,
    subject: &Subject,
    rights: Rights,
    what: String,
    hint: &str,
) -> Result<(), CommandError> {
    let before = |of: Subject| list.rights(&of);
    let after = |of: Subject| match *subject == of {
        true => rights,
        false => list.rights(&of),
    };
    let controlled = |rights: &dyn Fn(Subject) -> Rights| {
        (rights(Subject::Owner) | rights(Subject::Everyone)).contains(Rights::SET_SECURITY)
            || rights(Subject::Possessor).contains(Rights::SET_SECURITY | Rights::SEARCH)
    };
    if controlled(&after) || !controlled(&before) {
        return Ok(());
    }
    Err(uncontrolled(own.serial, what, hint))
}
