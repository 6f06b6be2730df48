//! `describe`

use std::io::{self, Write};

use clap::Args;
use keyns::spec::KeySpec;
use keyns_interfaces::keys::{Describe, KeyInfo};
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, Target};
use crate::proc_file::{self, ProcFile};
use crate::table::fields;
use crate::view;

/// Show type, description, owner, permissions and expiry of a key
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
}

/// A key with its state.
#[derive(Serialize)]
struct Output {
    #[serde(flatten)]
    key: KeyInfo,
    /// Absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

/// Describes the key.
///
/// # Errors
/// What `KEYCTL_DESCRIBE` or the daemon says.
pub fn run(context: &Context, args: &DescribeArgs) -> Result<(), CommandError> {
    let output = match Target::of(&args.key)? {
        Target::Contained(key) => Output {
            key: context.daemon()?.call(&Describe { key })?.key,
            state: None,
        },
        Target::Own(serial) => {
            let described = key::describe(serial)?;
            let file = ProcFile::read();
            let state = file.line(serial, &described).as_ref().map(proc_file::state);
            Output {
                key: key::to_info(serial, described, &file),
                state,
            }
        }
    };
    context.ui.print(&output, show)
}

fn show(out: &mut dyn Write, output: &Output) -> io::Result<()> {
    let key = &output.key;
    let mut rows = vec![
        ("key", format!("{} ({:#x})", key.serial, key.serial)),
        ("type", view::safe(&key.type_)),
        ("description", view::bytes(&key.description)),
        ("owner", format!("uid {}, gid {}", key.uid, key.gid)),
        (
            "mask",
            format!("{} ({:#010x})", view::mask(key.mask), key.mask),
        ),
    ];
    // KEYCTL_DESCRIBE alone does not tell the expiry; a key that /proc/keys does not show may have one.
    if key.container.is_some() || output.state.is_some() {
        rows.push((
            "expires",
            key.expires_in.map_or_else(
                || "never".to_owned(),
                |left| format!("in {}", view::seconds(left)),
            ),
        ));
    }
    if let Some(state) = output.state {
        rows.push(("state", state.to_owned()));
    }
    if let Some(container) = &key.container {
        rows.push((
            "container",
            format!("{} ({})", view::safe(container), view::safe(&key.origin)),
        ));
    }
    for grant in &key.grants {
        rows.push((
            "granted",
            format!(
                "{} to container “{}”",
                view::grant_rights(grant),
                view::safe(&grant.container)
            ),
        ));
    }
    fields(out, &rows)
}
