//! What stands in the tree of containers.

use keyns_interfaces::containers::{ContainerInfo, ProcessInfo, State};
use keyns_interfaces::keys::{Grant, KeyInfo};
use keyns_interfaces::upcalls::Rule;

use crate::app::shared::Shared;
use crate::client::Named;
use crate::filter::{Field, Fields};
use crate::page::keys::item::title;
use crate::page::tree_view::{Cells, Shown};
use crate::text;
use crate::tree::{Below, Item};

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub enum ContainerItem {
    /// A container.
    Container(ContainerInfo),
    /// A process that was started in it.
    Process(Named, ProcessInfo),
    /// A key in its store, or granted to it from elsewhere.
    Key {
        /// The container.
        container: Named,
        /// The key.
        key: KeyInfo,
        /// What it may do with it, if anything.
        grant: Option<Grant>,
    },
    /// A rule for its requests.
    Rule(Named, Rule),
    /// Why there is nothing.
    Failed(String),
}

/// What tells nodes below the same one apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "as in ContainerItem")]
pub enum Id {
    Container(u64),
    Process(u64),
    Key(i32),
    Rule(u64),
    Failed,
}

impl Item for ContainerItem {
    type Id = Id;

    fn id(&self) -> Id {
        match self {
            Self::Container(container) => Id::Container(container.id),
            Self::Process(_, process) => Id::Process(process.process),
            Self::Key { key, .. } => Id::Key(key.serial),
            Self::Rule(_, rule) => Id::Rule(rule.id),
            Self::Failed(_) => Id::Failed,
        }
    }
}

impl ContainerItem {
    /// The container it is or belongs to.
    #[must_use]
    pub fn container(&self) -> Option<Named> {
        match self {
            Self::Container(container) => Some(container.into()),
            Self::Process(container, _)
            | Self::Rule(container, _)
            | Self::Key { container, .. } => Some(container.clone()),
            Self::Failed(_) => None,
        }
    }

    /// What may be below it.
    #[must_use]
    pub const fn below(&self) -> Below {
        match self {
            Self::Container(_) => Below::Unread,
            _ => Below::Nothing,
        }
    }
}

/// Program and arguments of a process, safe and at most so wide.
#[must_use]
pub fn command(process: &ProcessInfo, width: usize) -> String {
    let mut shown = String::new();
    for word in &process.command {
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown += &text::line(word.bytes(), width);
        if text::width(&shown) > width {
            break;
        }
    }
    text::fit(&shown, width)
}

impl Shown for ContainerItem {
    fn cells(&self, width: usize, shared: &Shared) -> Cells {
        let theme = &shared.theme;
        match self {
            Self::Container(container) => {
                let is_alive = matches!(container.state, State::Created | State::Running);
                let namespaces = keyctl_ns::view::namespaces(&container.namespaces);
                Cells {
                    name: format!("container {}", text::line(&container.name, width)),
                    style: if is_alive { theme.heading } else { theme.faint },
                    right: vec![
                        (format!("namespaces {namespaces}"), 40),
                        (keyctl_ns::view::state(container.state).to_owned(), 8),
                    ],
                }
            }
            Self::Process(_, process) => {
                let state = match process.exit {
                    Some(exit) => keyctl_ns::view::exit(exit),
                    None => format!("pid {}", process.pid),
                };
                Cells {
                    name: format!("process {}: {}", process.process, command(process, width)),
                    style: match process.exit {
                        Some(_) => theme.faint,
                        None => theme.base,
                    },
                    right: vec![(state, 22)],
                }
            }
            Self::Key { key, grant, .. } => {
                let state = match grant {
                    Some(grant) => keyctl_ns::view::rights(&grant.kernel),
                    None => "not granted".to_owned(),
                };
                Cells {
                    name: format!("key {}", title(key, width)),
                    style: match grant {
                        Some(_) => theme.base,
                        None => theme.faint,
                    },
                    right: vec![(key.serial.to_string(), 10), (state, 24)],
                }
            }
            Self::Rule(_, rule) => {
                let deadline = keyctl_ns::view::milliseconds(u64::from(rule.deadline_ms));
                Cells {
                    name: format!(
                        "requests for {} go to {}",
                        type_words(&rule.type_),
                        keyctl_ns::view::target(&rule.target)
                    ),
                    style: theme.accent,
                    right: vec![(format!("within {deadline}"), 13)],
                }
            }
            Self::Failed(why) => Cells {
                name: why.clone(),
                style: theme.warning,
                right: Vec::new(),
            },
        }
    }
}

/// The types of a rule.
#[must_use]
pub fn type_words(type_: &str) -> String {
    match type_ {
        "*" => "all other types".to_owned(),
        type_ => format!("type {}", text::line(type_, 31)),
    }
}

impl Fields for ContainerItem {
    fn each(&self, tell: &mut dyn FnMut(Field, &str)) {
        if let Some(container) = self.container() {
            tell(Field::Container, &container.name);
        }
        match self {
            Self::Container(container) => {
                tell(Field::State, keyctl_ns::view::state(container.state));
            }
            Self::Process(_, process) => {
                for word in &process.command {
                    tell(Field::Program, &String::from_utf8_lossy(word.bytes()));
                }
                tell(Field::Serial, &process.pid.to_string());
            }
            Self::Key { key, .. } => {
                tell(Field::Type, &key.type_);
                let description = String::from_utf8_lossy(key.description.bytes());
                tell(Field::Description, &description);
                tell(Field::Serial, &key.serial.to_string());
                tell(Field::Owner, &key.uid.to_string());
            }
            Self::Rule(_, rule) => {
                tell(Field::Type, &rule.type_);
                tell(Field::Handler, &keyctl_ns::view::target(&rule.target));
            }
            Self::Failed(_) => {}
        }
    }
}
