//! `tree`

use std::collections::BTreeSet;
use std::io::{self, Write};

use anstyle::Style;
use clap::Args;
use keyns::description::KeyDescription;
use keyns::mask::Mask;
use keyns::name::ContainerPath;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_interfaces::ByteText;
use keyns_interfaces::containers::{GetKeyring, List as ListContainers};
use keyns_interfaces::keys::{KeyInfo, List};
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::error::{CommandError, ErrorKind};
use crate::key;
use crate::own_tree::{Branches, Listener, Root, Visit};
use crate::proc_file::ProcFile;
use crate::style;
use crate::ui::SCHEMA_VERSION;
use crate::view;

/// Show keyrings and what they hold as a tree
///
/// Without arguments your session keyring.
#[derive(Debug, Args)]
pub struct TreeArgs {
    /// A keyring of your own (default: @s)
    #[arg(value_parser = args::key(), allow_negative_numbers = true, group = "what")]
    pub keyring: Option<KeySpec>,
    /// The keyring of this container, and the keys in its store
    #[arg(long, short, value_name = "CONTAINER", value_parser = args::container(), group = "what")]
    pub container: Option<ContainerPath>,
    /// Your user keyring (@u)
    #[arg(long, short, group = "what")]
    pub user: bool,
    /// Your session and user keyring, and every container
    #[arg(long, short, group = "what")]
    pub all: bool,
}

/// A key, and what it holds if it is a keyring.
#[derive(Serialize)]
struct Node {
    /// Where the tree begins, for its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(flatten)]
    key: Option<KeyInfo>,
    /// Keys in it that may not be viewed.
    #[serde(skip_serializing_if = "is_zero")]
    hidden: usize,
    /// Whether it was shown elsewhere in this tree already, and why it is not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<Self>,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Node {
    fn leaf(key: KeyInfo) -> Self {
        Self {
            label: None,
            key: Some(key),
            hidden: 0,
            note: None,
            children: Vec::new(),
        }
    }
}

/// Shows the tree.
///
/// # Errors
/// What `KEYCTL_READ` or the daemon says.
pub fn run(context: &Context, args: &TreeArgs) -> Result<(), CommandError> {
    // Whatever can fail comes first, so that nothing has been shown when it does.
    let (mut own, mut others) = (Vec::new(), Vec::new());
    if let Some(container) = &args.container {
        others.push(contained(&mut context.daemon()?, &container.to_string())?);
    } else if args.all {
        own.push(Own::new(&KeySpec::Serial(KeySerial::SESSION))?);
        // A uid that never used its keyring has none.
        own.extend(Own::new(&KeySpec::Serial(KeySerial::USER)).ok());
        others = all_containers(context)?;
    } else {
        let fixed = if args.user {
            KeySerial::USER
        } else {
            KeySerial::SESSION
        };
        let keyring = args.keyring.as_ref();
        own.push(Own::new(keyring.unwrap_or(&KeySpec::Serial(fixed)))?);
    }
    let file = if own.is_empty() {
        ProcFile::default()
    } else {
        ProcFile::read()
    };
    let ui = &context.ui;
    ui.stream(|out| {
        let shown = if ui.is_json() {
            json(out, &file, &own, &others)
        } else {
            text(out, &file, &own, &others, ui.is_coloured())
        };
        shown.map_err(|error| CommandError::output(&error))
    })
}

/// A keyring of the caller's own, as it was named.
struct Own {
    label: String,
    root: Root,
}

impl Own {
    fn new(spec: &KeySpec) -> Result<Self, CommandError> {
        Ok(Self {
            label: spec.to_string(),
            root: Root::new(key::resolve(spec)?)?,
        })
    }
}

/// When a key that was come to expires, as far as `file` shows it.
fn expires_in(visit: &Visit<'_>, file: &ProcFile) -> Option<u64> {
    let key = visit.key;
    file.expires_in(visit.serial, || {
        Some(KeyDescription {
            type_: key.type_.to_vec(),
            uid: (key.uid != -1).then_some(key.uid.cast_unsigned()),
            gid: (key.gid != -1).then_some(key.gid.cast_unsigned()),
            mask: Mask::from_raw(key.mask)?,
            description: key.description.to_vec(),
        })
    })
}

/// A key that was come to.
fn info(visit: &Visit<'_>, file: &ProcFile) -> KeyInfo {
    let key = visit.key;
    KeyInfo {
        serial: visit.serial.raw(),
        expires_in: expires_in(visit, file),
        type_: String::from_utf8_lossy(key.type_).into_owned(),
        // −1 is the kernel's “no id” in both forms.
        uid: key.uid.cast_unsigned(),
        gid: key.gid.cast_unsigned(),
        mask: key.mask,
        description: ByteText(key.description.to_vec()),
        container: None,
        origin: "own".to_owned(),
        grants: Vec::new(),
    }
}

fn text(
    out: &mut dyn Write,
    file: &ProcFile,
    own: &[Own],
    others: &[Node],
    colours: bool,
) -> io::Result<()> {
    let paint = Paint::new(colours);
    for Own { label, root } in own {
        root.tell(&mut Lines {
            out,
            file,
            paint,
            label,
            branches: Branches::default(),
        })?;
    }
    others.iter().try_for_each(|tree| {
        draw(out, tree, paint)?;
        branches(out, tree, "", paint)
    })
}

/// Lines for people.
struct Lines<'a> {
    out: &'a mut dyn Write,
    file: &'a ProcFile,
    paint: Paint,
    label: &'a str,
    branches: Branches,
}

impl Listener for Lines<'_> {
    fn begin(&mut self, visit: &Visit<'_>) -> io::Result<()> {
        self.branches.begin(visit, self.out)?;
        if visit.depth == 0 {
            let bold = self.paint.bold;
            write!(self.out, "{bold}{}{bold:#}  ", self.label)?;
        }
        let key = visit.key;
        let line = Line {
            serial: visit.serial.raw(),
            mask: key.mask,
            uid: key.uid.cast_unsigned(),
            type_: key.type_,
            description: key.description,
            expires_in: expires_in(visit, self.file),
        };
        line.draw(self.out, self.paint)?;
        note(self.out, visit.note, self.paint)?;
        writeln!(self.out)
    }

    fn end(&mut self, hidden: usize) -> io::Result<()> {
        self.branches.end(hidden, self.out)
    }
}

fn json(out: &mut dyn Write, file: &ProcFile, own: &[Own], others: &[Node]) -> io::Result<()> {
    write!(out, "{{\"schema_version\":{SCHEMA_VERSION},\"trees\":[")?;
    let mut gap = "";
    for Own { label, root } in own {
        out.write_all(gap.as_bytes())?;
        root.tell(&mut Records {
            out,
            file,
            label,
            children: Vec::new(),
        })?;
        gap = ",";
    }
    for tree in others {
        out.write_all(gap.as_bytes())?;
        serde_json::to_writer(&mut *out, tree)?;
        gap = ",";
    }
    writeln!(out, "]}}")
}

/// Nodes as JSON, each of which is closed when all that it holds is written.
struct Records<'a> {
    out: &'a mut dyn Write,
    file: &'a ProcFile,
    label: &'a str,
    /// How many children each node on the way to here has so far.
    children: Vec<usize>,
}

impl Listener for Records<'_> {
    fn begin(&mut self, visit: &Visit<'_>) -> io::Result<()> {
        if let Some(siblings) = self.children.last_mut() {
            let gap = if *siblings == 0 {
                ",\"children\":["
            } else {
                ","
            };
            self.out.write_all(gap.as_bytes())?;
            *siblings += 1;
        }
        let mut node = Node::leaf(info(visit, self.file));
        node.label = (visit.depth == 0).then(|| self.label.to_owned());
        node.note = visit.note;
        let mut text = serde_json::to_vec(&node)?;
        // Left open for what it holds.
        text.pop();
        self.out.write_all(&text)?;
        self.children.push(0);
        Ok(())
    }

    fn end(&mut self, hidden: usize) -> io::Result<()> {
        if self.children.pop() != Some(0) {
            self.out.write_all(b"]")?;
        }
        if hidden > 0 {
            write!(self.out, ",\"hidden\":{hidden}")?;
        }
        self.out.write_all(b"}")
    }
}

fn contained(daemon: &mut Daemon, container: &str) -> Result<Node, CommandError> {
    let keyring = daemon.call(&GetKeyring {
        container: container.to_owned(),
    })?;
    let store = daemon
        .call(&List {
            container: Some(container.to_owned()),
        })?
        .keys;
    let copies: BTreeSet<i32> = keyring.keys.iter().map(|key| key.serial).collect();
    let mut visible = Node::leaf(keyring.keyring);
    visible.label = Some("what its processes find".to_owned());
    visible.children = keyring.keys.into_iter().map(Node::leaf).collect();
    let stored = Node {
        label: Some("its store".to_owned()),
        key: None,
        hidden: 0,
        note: None,
        children: store
            .into_iter()
            .filter(|key| key.origin != "keyring" && !copies.contains(&key.serial))
            .map(Node::leaf)
            .collect(),
    };
    Ok(Node {
        label: Some(format!("container {}", view::safe(container))),
        key: None,
        hidden: 0,
        note: None,
        children: vec![visible, stored],
    })
}

fn all_containers(context: &Context) -> Result<Vec<Node>, CommandError> {
    let mut daemon = match context.daemon() {
        Err(error) if error.kind == ErrorKind::Unreachable => {
            context.ui.warn(&format!("only your own keys: {error}"));
            return Ok(Vec::new());
        }
        other => other?,
    };
    let listing = daemon.call(&ListContainers { dead: false })?;
    let mut trees = Vec::new();
    for container in &listing.containers {
        match contained(&mut daemon, &container.name) {
            // It ended since it was listed.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            tree => trees.push(tree?),
        }
    }
    Ok(trees)
}

/// Styles, or none.
#[derive(Clone, Copy)]
struct Paint {
    bold: Style,
    faint: Style,
}

impl Paint {
    fn new(colours: bool) -> Self {
        let only = |style| if colours { style } else { Style::new() };
        Self {
            bold: only(style::HEADING),
            faint: only(style::FAINT),
        }
    }
}

/// What is shown of every key.
struct Line<'a> {
    serial: i32,
    mask: u32,
    uid: u32,
    type_: &'a [u8],
    description: &'a [u8],
    expires_in: Option<u64>,
}

impl Line<'_> {
    fn draw(&self, out: &mut dyn Write, Paint { faint, .. }: Paint) -> io::Result<()> {
        let mask = view::mask(self.mask);
        write!(
            out,
            "{}  {faint}{mask}  uid {}{faint:#}  ",
            self.serial, self.uid
        )?;
        view::write_bytes(out, self.type_, usize::MAX)?;
        out.write_all(b": ")?;
        view::write_bytes(out, self.description, view::SHORT)?;
        match self.expires_in {
            Some(left) => write!(out, "  {faint}expires in {}{faint:#}", view::seconds(left)),
            None => Ok(()),
        }
    }
}

fn note(out: &mut dyn Write, note: Option<&str>, Paint { faint, .. }: Paint) -> io::Result<()> {
    match note {
        Some(note) => write!(out, "  {faint}({note}){faint:#}"),
        None => Ok(()),
    }
}

fn draw(out: &mut dyn Write, node: &Node, paint: Paint) -> io::Result<()> {
    let Paint { bold, faint } = paint;
    if let Some(label) = &node.label {
        write!(out, "{bold}{label}{bold:#}")?;
    }
    if let Some(key) = &node.key {
        if node.label.is_some() {
            out.write_all(b"  ")?;
        }
        let line = Line {
            serial: key.serial,
            mask: key.mask,
            uid: key.uid,
            type_: key.type_.as_bytes(),
            description: key.description.bytes(),
            expires_in: key.expires_in,
        };
        line.draw(out, paint)?;
        for grant in &key.grants {
            write!(
                out,
                "  {faint}granted: {}{faint:#}",
                view::grant_rights(grant)
            )?;
        }
    }
    note(out, node.note, paint)?;
    writeln!(out)
}

fn branches(out: &mut dyn Write, node: &Node, indent: &str, paint: Paint) -> io::Result<()> {
    let mut children = node.children.iter().peekable();
    while let Some(child) = children.next() {
        let last = children.peek().is_none() && node.hidden == 0;
        let (knot, rail) = if last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        write!(out, "{indent}{knot}")?;
        draw(out, child, paint)?;
        branches(out, child, &format!("{indent}{rail}"), paint)?;
    }
    if node.hidden > 0 {
        let keys = if node.hidden == 1 { "key" } else { "keys" };
        writeln!(out, "{indent}└─ {} {keys} you may not view", node.hidden)?;
    }
    Ok(())
}
