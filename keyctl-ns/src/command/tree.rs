//! `tree`

use std::collections::BTreeSet;
use std::io::{self, Write};

use clap::Args;
use keyns::name::ContainerPath;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_interfaces::containers::{GetKeyring, List as ListContainers};
use keyns_interfaces::keys::{KeyInfo, List};
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::error::{CommandError, ErrorKind};
use crate::key;
use crate::proc_file::ProcFile;
use crate::style;
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

#[derive(Serialize)]
struct Output {
    trees: Vec<Node>,
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

/// The kernel refuses deeper nesting (`KEYRING_SEARCH_MAX_DEPTH`); a loop cannot be linked either.
const MAX_DEPTH: usize = 8;

/// Shows the tree.
///
/// # Errors
/// What `KEYCTL_READ` or the daemon says.
pub fn run(context: &Context, args: &TreeArgs) -> Result<(), CommandError> {
    let trees = if let Some(container) = &args.container {
        vec![contained(&mut context.daemon()?, &container.to_string())?]
    } else if args.all {
        let mut trees = vec![own(&KeySpec::Serial(KeySerial::SESSION))?];
        // A uid that never used its keyring has none.
        trees.extend(own(&KeySpec::Serial(KeySerial::USER)).ok());
        trees.extend(all_containers(context)?);
        trees
    } else {
        let fixed = if args.user {
            KeySerial::USER
        } else {
            KeySerial::SESSION
        };
        vec![own(args
            .keyring
            .as_ref()
            .unwrap_or(&KeySpec::Serial(fixed)))?]
    };
    context.ui.print(&Output { trees }, |out, done| {
        done.trees.iter().try_for_each(|tree| {
            draw(out, tree)?;
            branches(out, tree, "")
        })
    })
}

fn own(spec: &KeySpec) -> Result<Node, CommandError> {
    let file = ProcFile::read();
    let root = key::info_with(key::resolve(spec)?, &file)?;
    let mut node = follow(root, 0, &file, &mut BTreeSet::new());
    node.label = Some(spec.to_string());
    Ok(node)
}

fn follow(key: KeyInfo, depth: usize, file: &ProcFile, seen: &mut BTreeSet<i32>) -> Node {
    let serial = key.serial;
    let mut node = Node::leaf(key);
    if node.key.as_ref().is_none_or(|key| key.type_ != "keyring") {
        return node;
    }
    if !seen.insert(serial) {
        node.note = Some("shown above");
        return node;
    }
    if depth == MAX_DEPTH {
        node.note = Some("nested too deeply to follow");
        return node;
    }
    match key::members(KeySerial::new(serial), file) {
        Ok(members) => {
            node.hidden = members.hidden;
            node.children = members
                .keys
                .into_iter()
                .map(|key| follow(key, depth + 1, file, seen))
                .collect();
        }
        Err(_) => node.note = Some("you may not list it"),
    }
    node
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

fn draw(out: &mut dyn Write, node: &Node) -> io::Result<()> {
    let (bold, faint) = (style::HEADING, style::FAINT);
    if let Some(label) = &node.label {
        write!(out, "{bold}{label}{bold:#}")?;
    }
    if let Some(key) = &node.key {
        let gap = if node.label.is_some() { "  " } else { "" };
        write!(
            out,
            "{gap}{}  {faint}{}  uid {}{faint:#}  {}: {}",
            key.serial,
            view::mask(key.mask),
            key.uid,
            view::safe(&key.type_),
            view::short(&key.description)
        )?;
        if let Some(left) = key.expires_in {
            write!(out, "  {faint}expires in {}{faint:#}", view::seconds(left))?;
        }
        for grant in &key.grants {
            write!(
                out,
                "  {faint}granted: {}{faint:#}",
                view::grant_rights(grant)
            )?;
        }
    }
    if let Some(note) = node.note {
        write!(out, "  {faint}({note}){faint:#}")?;
    }
    writeln!(out)
}

fn branches(out: &mut dyn Write, node: &Node, indent: &str) -> io::Result<()> {
    let mut children = node.children.iter().peekable();
    while let Some(child) = children.next() {
        let last = children.peek().is_none() && node.hidden == 0;
        let (knot, rail) = if last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        write!(out, "{indent}{knot}")?;
        draw(out, child)?;
        branches(out, child, &format!("{indent}{rail}"))?;
    }
    if node.hidden > 0 {
        let keys = if node.hidden == 1 { "key" } else { "keys" };
        writeln!(out, "{indent}└─ {} {keys} you may not view", node.hidden)?;
    }
    Ok(())
}
