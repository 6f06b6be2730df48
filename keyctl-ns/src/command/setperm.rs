//! `setperm`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::mask::Mask;
use keyns::spec::KeySpec;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};
use crate::key_list::KeyList;
use crate::mask_change::MaskWord;
use crate::table::fields;
use crate::view;

/// Set the permission mask of a key, bit by bit
///
/// Either the whole mask (0x3f010000, a decimal number, or its 24 letters), or changes of its four
/// parts possessor, owner, group and other, of all of them with all: SUBJECT=RIGHTS sets exactly
/// these, SUBJECT+RIGHTS and SUBJECT-RIGHTS add and take away. RIGHTS are view, read, write, search,
/// link, setsec, joined by commas, or all, or none.
///
/// A bit often gives more than its name says, and a group without any bit has those of other. grant
/// sets the mask so that it gives the rights that were asked for and no others.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyctl-ns setperm %user:token 0x3f030000
  keyctl-ns setperm %user:token owner=view,read other=none")]
pub struct SetpermArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// The whole mask, or changes of its parts
    #[arg(value_name = "MASK", required = true)]
    pub mask: Vec<MaskWord>,
}

#[derive(Serialize)]
struct Output {
    key: KeyRef,
    /// Absent if the key may not be viewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    mask_before: Option<u32>,
    mask_after: u32,
}

/// Sets the mask.
///
/// # Errors
/// What `KEYCTL_SETPERM` says; for changes also what `KEYCTL_DESCRIBE` says.
pub fn run(context: &Context, args: &SetpermArgs) -> Result<(), CommandError> {
    let what = || format!("cannot set the mask of key {}", args.key);
    let hint = format!(
        "the masks of its keys belong to keynsd: keyctl-ns grant {} container:NAME RIGHTS",
        args.key
    );
    let serial = key::resolve_own(&args.key, &hint)?;
    let info = key::info(serial);
    let before = info.as_ref().ok().map(|info| info.mask);
    let after = match args.mask.as_slice() {
        [MaskWord::Whole(mask)] => *mask,
        words => {
            let mask = Mask::from_raw(info.clone()?.mask).ok_or_else(|| {
                CommandError::failure(what()).cause("it has bits this version does not know")
            })?;
            words.iter().try_fold(mask, |mask, word| match word {
                MaskWord::Part(part) => Ok(part.apply(mask)),
                MaskWord::Whole(_) => Err(CommandError::usage(what())
                    .cause("a whole mask and changes of its parts exclude each other")),
            })?
        }
    };
    // Where the kernel has lists, a new mask takes the place of the whole list.
    let lost = match KeyList::of(serial) {
        Ok(Some(list)) => list.containers(),
        _ => 0,
    };
    if lost > 0 {
        context.ui.warn(&format!(
            "the entries of {} in the list of key {serial} are lost",
            match lost {
                1 => "a container".to_owned(),
                many => format!("{many} containers"),
            }
        ));
    }
    sys::set_perm(serial, after.raw())
        .map_err(|error| key::failed_on(serial, what(), KeyOp::SetPerm, &error))?;
    let output = Output {
        key: info
            .map(KeyRef::from)
            .unwrap_or_else(|_| KeyRef::own(serial)),
        mask_before: before,
        mask_after: after.raw(),
    };
    context.ui.print(&output, |out, done| {
        let shown = |mask| format!("{} ({mask:#010x})", view::mask(mask));
        let mut rows = vec![("key", done.key.to_string())];
        rows.extend(done.mask_before.map(|mask| ("mask before", shown(mask))));
        rows.push(("mask after", shown(done.mask_after)));
        fields(out, &rows)
    })
}
