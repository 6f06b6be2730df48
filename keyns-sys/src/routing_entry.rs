//! The routing table that `keyns-upcall` reads: one small file per pinned namespace.
//!
//! The directory [`DIRECTORY`] (mode 0700, owner root) says which requests belong to a container and
//! which daemon answers for it, so that no daemon has to be asked about requests of the host and
//! several daemons can live side by side.
//!
//! # Names
//! | name | matches a requester |
//! |---|---|
//! | `pid-<inode>` | in that PID namespace or one below it |
//! | `user-<inode>` | in that user namespace or one below it |
//! | `cgroup/<16 hex digits>` | in the cgroup whose path has this hash, or one below it |
//! | `any-id/<instance>:<container>` | nobody by itself: says that a container lives whose processes may have ids outside [`CONTAINER_IDS`] |
//!
//! The directories exist only while they have entries: a reader that finds one missing is done.
//! Inodes are decimal. The hash is the 64-bit FNV-1a of the path in the cgroup2 hierarchy; the name
//! can so be computed from the requester's own path, the directory need not be searched, and an
//! entry whose content cannot be read still names its members. Names beginning with a dot are files
//! being written; all others mean nothing.
//!
//! # Content
//! ```text
//! version=1
//! instance=<name>
//! container=<decimal id>
//! socket=<absolute path>
//! cgroup=<path>            cgroup entries only
//! ```
//! Lines end in a newline; each key appears once, in any order. An entry of any other form is
//! *undecidable*: its members belong to some container, so their requests are rejected and never
//! reach the host's program.

use std::error::Error;
use std::ffi::{CStr, OsStr};
use std::fmt;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where the table is.
pub const DIRECTORY: &str = "/run/keyns/live";
/// The same for system calls.
pub const DIRECTORY_C: &CStr = c"/run/keyns/live";
/// The directory within, for entries that match by cgroup.
pub const CGROUPS: &str = "cgroup";
/// The directory within, for containers whose processes may have any id.
pub const ANY_ID: &str = "any-id";
/// Kernel ids that only processes in containers have; those of a container without an entry in
/// [`ANY_ID`] have no others. Above what distributions give to users and to systemd.
pub const CONTAINER_IDS: Range<u32> = 0x7100_0000..0x7f00_0000;
/// The version of the content.
pub const VERSION: &str = "1";
/// The longest content of an entry in bytes.
pub const MAX_ENTRY: usize = 8192;
/// The longest path of a socket in bytes (`sun_path` without its NUL).
pub const MAX_SOCKET_PATH: usize = 107;

/// What an entry matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RoutingKey {
    /// A PID namespace, by inode.
    Pid(u64),
    /// A user namespace, by inode.
    User(u64),
    /// A cgroup, by its path: absolute, not the root, without a final slash.
    Cgroup(Vec<u8>),
    /// Nobody; see [`ANY_ID`].
    AnyId {
        /// The daemon's instance.
        instance: String,
        /// The container's id within the instance.
        container: u64,
    },
}

impl RoutingKey {
    /// The directory within the table that holds entries of this kind, if it is not the table itself.
    #[must_use]
    pub const fn directory(&self) -> Option<&'static str> {
        match self {
            Self::Pid(_) | Self::User(_) => None,
            Self::Cgroup(_) => Some(CGROUPS),
            Self::AnyId { .. } => Some(ANY_ID),
        }
    }

    /// The name of the file.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self {
            Self::Pid(inode) => format!("pid-{inode}"),
            Self::User(inode) => format!("user-{inode}"),
            Self::Cgroup(path) => format!("{CGROUPS}/{:016x}", fnv1a(path)),
            Self::AnyId {
                instance,
                container,
            } => format!("{ANY_ID}/{instance}:{container}"),
        }
    }
}

/// Whether a name in the directory is that of an entry.
#[must_use]
pub fn is_entry_name(name: &str) -> bool {
    let decimal = |n: &str| n.parse::<u64>().is_ok_and(|v| v.to_string() == n);
    let hash = |n: &str| n.len() == 16 && n.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let container = |n: &str| {
        n.rsplit_once(':')
            .is_some_and(|(instance, id)| is_instance_name(instance) && decimal(id))
    };
    name.strip_prefix("pid-").is_some_and(decimal)
        || name.strip_prefix("user-").is_some_and(decimal)
        || name.strip_prefix("cgroup/").is_some_and(hash)
        || name.strip_prefix("any-id/").is_some_and(container)
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingEntry {
    /// The daemon's instance: 1 to 64 of `A–Z a–z 0–9 . _ -`, not beginning with a dot.
    pub instance: String,
    /// The container's id within the instance.
    pub container: u64,
    /// The socket of the daemon.
    pub socket: PathBuf,
    /// The cgroup, for entries that match by cgroup.
    pub cgroup: Option<Vec<u8>>,
}

/// Why an entry is undecidable: the line or value that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedEntry(pub &'static str);

impl fmt::Display for MalformedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the routing entry has a wrong or missing {}", self.0)
    }
}

impl Error for MalformedEntry {}

impl RoutingEntry {
    /// Whether every field can be written and read back.
    ///
    /// # Errors
    /// [`MalformedEntry`] names the first one that cannot.
    pub fn check(&self) -> Result<(), MalformedEntry> {
        if !is_instance_name(&self.instance) {
            return Err(MalformedEntry("instance"));
        }
        let socket = self.socket.as_os_str().as_bytes();
        if !is_clean_path(socket) || socket.len() > MAX_SOCKET_PATH {
            return Err(MalformedEntry("socket"));
        }
        if self
            .cgroup
            .as_ref()
            .is_some_and(|c| !is_clean_path(c) || c.len() > 4096)
        {
            return Err(MalformedEntry("cgroup"));
        }
        Ok(())
    }

    /// The content of the file.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn encode(&self) -> Result<Vec<u8>, MalformedEntry> {
        self.check()?;
        let mut text = format!(
            "version={VERSION}\ninstance={}\ncontainer={}\nsocket=",
            self.instance, self.container
        )
        .into_bytes();
        text.extend_from_slice(self.socket.as_os_str().as_bytes());
        text.push(b'\n');
        if let Some(cgroup) = &self.cgroup {
            text.extend_from_slice(b"cgroup=");
            text.extend_from_slice(cgroup);
            text.push(b'\n');
        }
        Ok(text)
    }

    /// Reads the content of a file.
    ///
    /// # Errors
    /// [`MalformedEntry`]; never panics, whatever the bytes are.
    pub fn decode(text: &[u8]) -> Result<Self, MalformedEntry> {
        let text = text.strip_suffix(b"\n").ok_or(MalformedEntry("end"))?;
        let (mut version, mut instance, mut container) = (None, None, None);
        let (mut socket, mut cgroup) = (None, None);
        for line in text.split(|b| *b == b'\n') {
            let equals = line
                .iter()
                .position(|b| *b == b'=')
                .ok_or(MalformedEntry("line"))?;
            let (key, value) = line.split_at(equals);
            let value = value.strip_prefix(b"=").ok_or(MalformedEntry("line"))?;
            let field = match key {
                b"version" => &mut version,
                b"instance" => &mut instance,
                b"container" => &mut container,
                b"socket" => &mut socket,
                b"cgroup" => &mut cgroup,
                _ => return Err(MalformedEntry("key")),
            };
            if field.replace(value).is_some() {
                return Err(MalformedEntry("key (it appears twice)"));
            }
        }
        if version != Some(VERSION.as_bytes()) {
            return Err(MalformedEntry("version"));
        }
        let text = |bytes: Option<&[u8]>, what| {
            let bytes = bytes.ok_or(MalformedEntry(what))?;
            String::from_utf8(bytes.to_vec()).map_err(|_| MalformedEntry(what))
        };
        let number = text(container, "container")?;
        let entry = Self {
            instance: text(instance, "instance")?,
            container: number.parse().map_err(|_| MalformedEntry("container"))?,
            socket: Path::new(OsStr::from_bytes(socket.ok_or(MalformedEntry("socket"))?)).into(),
            cgroup: cgroup.map(<[u8]>::to_vec),
        };
        entry.check()?;
        Ok(entry)
    }
}

/// 1 to 64 of `A–Z a–z 0–9 . _ -`, not beginning with a dot.
fn is_instance_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// Absolute, not the root, no final slash, no control characters.
fn is_clean_path(path: &[u8]) -> bool {
    path.len() > 1
        && path.starts_with(b"/")
        && !path.ends_with(b"/")
        && !path.iter().any(|b| *b < b' ' || *b == 0x7f)
}

/// 64-bit FNV-1a.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> RoutingEntry {
        RoutingEntry {
            instance: "main".into(),
            container: 7,
            socket: "/run/keyns/main/upcall.sock".into(),
            cgroup: None,
        }
    }

    #[test]
    fn both_forms_of_the_directory_are_one() {
        assert_eq!(DIRECTORY_C.to_str(), Ok(DIRECTORY));
    }

    #[test]
    fn the_content_is_frozen() {
        let text = b"version=1\ninstance=main\ncontainer=7\nsocket=/run/keyns/main/upcall.sock\n";
        assert_eq!(entry().encode().unwrap(), text);
        assert_eq!(RoutingEntry::decode(text).unwrap(), entry());
    }

    #[test]
    fn the_names_are_frozen() {
        assert_eq!(RoutingKey::Pid(4_026_532_000).file_name(), "pid-4026532000");
        assert_eq!(RoutingKey::User(1).file_name(), "user-1");
        // The published test vector of FNV-1a: "foobar".
        assert_eq!(
            RoutingKey::Cgroup(b"foobar".to_vec()).file_name(),
            "cgroup/85944171f73967e8"
        );
        let marker = RoutingKey::AnyId {
            instance: "main".into(),
            container: 7,
        };
        assert_eq!(marker.file_name(), "any-id/main:7");
        for name in [
            "pid-1",
            "user-4026532000",
            "cgroup/85944171f73967e8",
            "any-id/main:7",
        ] {
            assert!(is_entry_name(name), "{name}");
        }
        for name in [
            ".pid-1",
            "pid-",
            "pid-01",
            "pid--1",
            "pid-1~",
            "cgroup/1",
            "cgroup",
            "net-1",
            "",
            "any-id/main",
            "any-id/main:",
            "any-id/:7",
            "any-id/.a:7",
            "any-id/a/b:7",
        ] {
            assert!(!is_entry_name(name), "{name}");
        }
    }

    #[test]
    fn every_flaw_is_undecidable() {
        for text in [
            "",
            "\n",
            "version=1",
            "version=1\n",
            "version=2\ninstance=a\ncontainer=1\nsocket=/s\n",
            "version=1\ninstance=a\ncontainer=1\nsocket=/s",
            "version=1\ninstance=a\ncontainer=1\nsocket=/s\nsocket=/t\n",
            "version=1\ninstance=a\ncontainer=1\nsocket=s\n",
            "version=1\ninstance=a\ncontainer=-1\nsocket=/s\n",
            "version=1\ninstance=a\ncontainer=1\nsocket=/s\nfuture=1\n",
            "version=1\ninstance=a/b\ncontainer=1\nsocket=/s\n",
            "version=1\ninstance=\ncontainer=1\nsocket=/s\n",
            "version=1\ninstance=a\ncontainer=1\nsocket=/s\ncgroup=/\n",
        ] {
            assert!(RoutingEntry::decode(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = RoutingEntry::decode(&text);
        }

        #[test]
        fn an_entry_comes_back_as_it_was(
            container in any::<u64>(), instance in "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,63}",
            socket in "(/[a-z .=]{1,8}){1,6}", cgroup in prop::option::of("(/[^/\\p{Cc}]{1,20}){1,6}"),
        ) {
            let entry = RoutingEntry {
                instance, container, socket: socket.into(), cgroup: cgroup.map(String::into_bytes),
            };
            prop_assert_eq!(RoutingEntry::decode(&entry.encode().unwrap()).unwrap(), entry);
        }
    }
}
