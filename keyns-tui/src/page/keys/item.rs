//! What stands in the tree of keys.

use keyns::key_users::KeyUser;
use keyns::serial::KeySerial;
use keyns_interfaces::ByteText;
use keyns_interfaces::containers::ContainerInfo;
use keyns_interfaces::keys::KeyInfo;

use crate::app::shared::Shared;
use crate::filter::{Field, Fields};
use crate::page::tree_view::{Cells, Shown};
use crate::text;
use crate::tree::{Below, Item};

/// Where a key lies, which decides who can do something with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// It is where a tree begins.
    Root,
    /// Linked in a keyring that this process reaches.
    Ring(KeySerial),
    /// Shown by `/proc/keys` alone.
    Listed,
    /// In the store of a container.
    Store(String),
    /// Lent to the daemon by its owner for a grant to this container.
    Lent(String),
    /// A copy in the keyring of a container.
    Copy(String),
}

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyItem {
    /// A keyring of the caller's own.
    Own {
        /// `@s`, …
        name: &'static str,
        /// In words.
        title: &'static str,
        /// The keyring.
        key: KeyInfo,
    },
    /// A key.
    Key {
        /// The key.
        key: KeyInfo,
        /// Where it lies.
        place: Place,
    },
    /// Above all users.
    Users,
    /// A user with keys.
    User(KeyUser),
    /// A container.
    Container(ContainerInfo),
    /// Above the copies that a container's processes find.
    Found(String),
    /// Above the keys in a container's store.
    Store(String),
    /// Keys that may not be viewed.
    Hidden(usize),
    /// Why there is nothing.
    Failed(String),
    /// There is nothing.
    Nothing,
}

/// What tells nodes below the same one apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Id {
    /// A keyring of the caller's own.
    Own(&'static str),
    /// A key.
    Key(i32),
    /// A user.
    User(u32),
    /// A container.
    Container(u64),
    /// One of those of which there is one.
    Only(u8),
}

impl Item for KeyItem {
    type Id = Id;

    fn id(&self) -> Id {
        match self {
            Self::Own { name, .. } => Id::Own(name),
            Self::Key { key, .. } => Id::Key(key.serial),
            Self::User(user) => Id::User(user.uid),
            Self::Container(container) => Id::Container(container.id),
            Self::Users => Id::Only(0),
            Self::Found(_) => Id::Only(1),
            Self::Store(_) => Id::Only(2),
            Self::Hidden(_) => Id::Only(3),
            Self::Failed(_) => Id::Only(4),
            Self::Nothing => Id::Only(5),
        }
    }
}

impl KeyItem {
    /// The key, if it is one.
    #[must_use]
    pub fn key(&self) -> Option<&KeyInfo> {
        match self {
            Self::Own { key, .. } | Self::Key { key, .. } => Some(key),
            _ => None,
        }
    }

    /// As [`Self::key`], to be changed.
    pub fn key_mut(&mut self) -> Option<&mut KeyInfo> {
        match self {
            Self::Own { key, .. } | Self::Key { key, .. } => Some(key),
            _ => None,
        }
    }

    /// The container it is, or belongs to.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Container(container) => Some(&container.name),
            Self::Found(name) | Self::Store(name) => Some(name),
            Self::Key {
                place: Place::Store(name) | Place::Lent(name) | Place::Copy(name),
                ..
            } => Some(name),
            _ => None,
        }
    }

    /// The serial by which the kernel can be asked about it from this process.
    #[must_use]
    pub fn reachable(&self) -> Option<KeySerial> {
        match self {
            Self::Own { key, .. }
            | Self::Key {
                key,
                place: Place::Root | Place::Ring(_) | Place::Listed,
            } => Some(KeySerial::new(key.serial)),
            _ => None,
        }
    }

    /// The key as the daemon wants it named, if the daemon may know it: a copy it knows by its source
    /// alone.
    #[must_use]
    pub fn for_daemon(&self) -> Option<ByteText> {
        let serial = self.key()?.serial;
        let text = match self {
            Self::Key {
                place: Place::Copy(_),
                ..
            } => return None,
            Self::Key {
                place: Place::Store(container),
                ..
            } => format!("{container}/{serial}"),
            _ => serial.to_string(),
        };
        Some(ByteText(text.into_bytes()))
    }

    /// What may be below it.
    #[must_use]
    pub fn below(&self) -> Below {
        match self {
            Self::Key {
                place: Place::Store(_) | Place::Lent(_) | Place::Copy(_),
                ..
            }
            | Self::Hidden(_)
            | Self::Failed(_)
            | Self::Nothing => Below::Nothing,
            Self::Key { key, .. } if key.type_ != "keyring" => Below::Nothing,
            _ => Below::Unread,
        }
    }
}

/// `user: description`, safe and at most so wide.
#[must_use]
pub fn title(key: &KeyInfo, width: usize) -> String {
    let type_ = text::line(&key.type_, 31);
    let room = width.saturating_sub(text::width(&type_) + 2);
    text::fit(
        &format!(
            "{type_}: {}",
            text::line(key.description.bytes(), room.max(1))
        ),
        width,
    )
}

impl Shown for KeyItem {
    fn cells(&self, width: usize, shared: &Shared) -> Cells {
        let theme = &shared.theme;
        let plain = |name: String, style| Cells {
            name,
            style,
            right: Vec::new(),
        };
        match self {
            Self::Own { name, title, key } => Cells {
                name: format!(
                    "{name}  {title}  {}",
                    text::line(key.description.bytes(), 24)
                ),
                style: theme.heading,
                right: right(key, shared),
            },
            Self::Key { key, .. } => Cells {
                name: title(key, width),
                style: if key.type_ == "keyring" {
                    theme.accent
                } else {
                    theme.base
                },
                right: right(key, shared),
            },
            Self::Users => plain("users with keys on this machine".to_owned(), theme.heading),
            Self::User(user) => {
                let keys = match user.keys {
                    1 => "1 key".to_owned(),
                    number => format!("{number} keys"),
                };
                Cells {
                    name: shared.users.show(user.uid),
                    style: theme.heading,
                    right: vec![(keys, 10)],
                }
            }
            Self::Container(container) => Cells {
                name: format!("container {}", text::line(&container.name, 80)),
                style: theme.heading,
                right: vec![(keyctl_ns::view::state(container.state).to_owned(), 8)],
            },
            Self::Found(_) => plain("what its processes find".to_owned(), theme.accent),
            Self::Store(_) => plain("its store".to_owned(), theme.accent),
            Self::Hidden(1) => plain("1 key you may not view".to_owned(), theme.faint),
            Self::Hidden(number) => plain(format!("{number} keys you may not view"), theme.faint),
            Self::Failed(why) => plain(why.clone(), theme.warning),
            Self::Nothing => plain("no keys".to_owned(), theme.faint),
        }
    }
}

fn right(key: &KeyInfo, shared: &Shared) -> Vec<(String, u16)> {
    let expiry = key
        .expires_in
        .map(keyctl_ns::view::seconds)
        .unwrap_or_default();
    let mut right = vec![
        (keyctl_ns::view::mask(key.mask), 24),
        (shared.users.name(key.uid), 8),
        (expiry, 7),
        (key.serial.to_string(), 10),
    ];
    // Only keys that the daemon holds can be granted.
    if matches!(key.origin.as_str(), "added" | "lent") {
        let granted = if key.grants.is_empty() { "" } else { "granted" };
        right.insert(2, (granted.to_owned(), 7));
    }
    right
}

impl Fields for KeyItem {
    fn each(&self, tell: &mut dyn FnMut(Field, &str)) {
        if let Some(name) = self.container() {
            tell(Field::Container, name);
        }
        match self {
            Self::Own { name, title, .. } => {
                tell(Field::Description, name);
                tell(Field::Description, title);
            }
            Self::User(user) => tell(Field::Owner, &user.uid.to_string()),
            Self::Container(container) => {
                tell(Field::State, keyctl_ns::view::state(container.state));
            }
            _ => {}
        }
        let Some(key) = self.key() else { return };
        tell(Field::Type, &key.type_);
        tell(
            Field::Description,
            &String::from_utf8_lossy(key.description.bytes()),
        );
        tell(Field::Serial, &key.serial.to_string());
        tell(Field::Owner, &key.uid.to_string());
    }
}
