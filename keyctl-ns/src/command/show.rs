//! `show`

use std::io::{self, Write};

use clap::Args;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_interfaces::ByteText;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key;
use crate::keyctl::description::Viewer;
use crate::own_tree::{Branches, Listener, Root, Visit};
use crate::style;
use crate::ui::SCHEMA_VERSION;
use crate::view;

/// Show keyrings of your own and what they hold, quickly
///
/// One line for each key: its number, the rights you have by its mask if you possess it (alswrv: set
/// attributes, link, search, write, read, view), its owner and group, type and description. Only the
/// kernel is asked, once for each key, and lines appear as it answers, so that keyrings with many
/// thousand keys are no trouble. tree tells more: whole masks, expiry, containers.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns show -x %:build")]
pub struct ShowArgs {
    /// A keyring of your own, or another key
    #[arg(
        value_parser = args::key(),
        allow_negative_numbers = true,
        default_value = "@s"
    )]
    pub keyring: KeySpec,
    /// Show the numbers of keys in hexadecimal, as /proc/keys does
    #[arg(long, short = 'x')]
    pub hex: bool,
}

/// Shows the tree.
///
/// # Errors
/// What `KEYCTL_DESCRIBE` says of the keyring.
pub fn run(context: &Context, args: &ShowArgs) -> Result<(), CommandError> {
    let hint = match &args.keyring {
        KeySpec::InContainer { container, .. } => format!("keyctl-ns tree --container {container}"),
        _ => String::new(),
    };
    let root = Root::new(key::resolve_own(&args.keyring, &hint)?)?;
    let ui = &context.ui;
    ui.stream(|out| {
        let told = if ui.is_json() {
            let mut records = Records {
                out,
                viewer: Viewer::default(),
                is_first: true,
                hidden: 0,
            };
            root.tell(&mut records).and_then(|()| records.finish())
        } else {
            let mut lines = Lines {
                out,
                viewer: Viewer::default(),
                branches: Branches::default(),
                hex: args.hex,
                colours: ui.is_coloured(),
            };
            lines.heading().and_then(|()| root.tell(&mut lines))
        };
        told.map_err(|error| CommandError::output(&error))
    })
}

/// Lines for people.
struct Lines<'a> {
    out: &'a mut dyn Write,
    viewer: Viewer,
    branches: Branches,
    hex: bool,
    colours: bool,
}

impl Lines<'_> {
    fn heading(&mut self) -> io::Result<()> {
        let bold = if self.colours {
            style::HEADING
        } else {
            anstyle::Style::new()
        };
        writeln!(
            self.out,
            "{bold}{:>10}  RIGHTS {:>6} {:>6}  TYPE: DESCRIPTION{bold:#}",
            "KEY", "UID", "GID"
        )
    }
}

impl Listener for Lines<'_> {
    fn begin(&mut self, visit: &Visit<'_>) -> io::Result<()> {
        let serial = visit.serial.raw();
        if self.hex {
            write!(self.out, "0x{serial:08x}  ")?;
        } else {
            write!(self.out, "{serial:>10}  ")?;
        }
        let mut rights = Vec::with_capacity(8);
        self.viewer.push_presumed(&mut rights, visit.key);
        // Without the two dashes in front, where two rights once were.
        self.out.write_all(rights.get(2..).unwrap_or_default())?;
        for id in [visit.key.uid, visit.key.gid] {
            match id {
                -1 => write!(self.out, " {:>6}", "-")?,
                id => write!(self.out, " {:>6}", id.cast_unsigned())?,
            }
        }
        self.out.write_all(b"  ")?;
        self.branches.begin(visit, self.out)?;
        view::write_bytes(self.out, visit.key.type_, usize::MAX)?;
        self.out.write_all(b": ")?;
        view::write_bytes(self.out, visit.key.description, usize::MAX)?;
        if let Some(note) = visit.note {
            let faint = if self.colours {
                style::FAINT
            } else {
                anstyle::Style::new()
            };
            write!(self.out, "  {faint}({note}){faint:#}")?;
        }
        self.out.write_all(b"\n")
    }

    fn end(&mut self, hidden: usize) -> io::Result<()> {
        if hidden > 0 {
            // The columns before the tree.
            write!(self.out, "{:34}", "")?;
        }
        self.branches.end(hidden, self.out)
    }
}

/// One JSON object with an element for each key.
struct Records<'a> {
    out: &'a mut dyn Write,
    viewer: Viewer,
    is_first: bool,
    hidden: usize,
}

#[derive(Serialize)]
struct Record<'a> {
    serial: i32,
    #[serde(rename = "type")]
    type_: std::borrow::Cow<'a, str>,
    description: ByteText,
    /// Absent if the kernel does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    mask: u32,
    /// The six bits that the caller has if it possesses the key.
    rights: u32,
    depth: usize,
    /// The keyring in which it was found; absent for the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    keyring: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

impl Records<'_> {
    fn finish(self) -> io::Result<()> {
        writeln!(self.out, "],\"hidden\":{}}}", self.hidden)
    }
}

impl Listener for Records<'_> {
    fn begin(&mut self, visit: &Visit<'_>) -> io::Result<()> {
        if self.is_first {
            write!(self.out, "{{\"schema_version\":{SCHEMA_VERSION},\"keys\":[")?;
            self.is_first = false;
        } else {
            self.out.write_all(b",")?;
        }
        let id = |id: i32| (id != -1).then_some(id.cast_unsigned());
        let record = Record {
            serial: visit.serial.raw(),
            type_: String::from_utf8_lossy(visit.key.type_),
            description: ByteText(visit.key.description.to_vec()),
            uid: id(visit.key.uid),
            gid: id(visit.key.gid),
            mask: visit.key.mask,
            rights: self.viewer.presumed(visit.key),
            depth: visit.depth,
            keyring: (visit.keyring != KeySerial::NONE).then_some(visit.keyring.raw()),
            note: visit.note,
        };
        serde_json::to_writer(&mut *self.out, &record).map_err(io::Error::from)
    }

    fn end(&mut self, hidden: usize) -> io::Result<()> {
        self.hidden += hidden;
        Ok(())
    }
}
