//! What a kernel with container objects says of itself: `/proc/sys/kernel/containers/abi`.
//!
//! One item a line, `NAME VALUE`; the first is `abi 1`. Numbers of calls and operations are taken
//! from there and from nowhere else: on other kernels they are other calls. A line that is missing
//! is a feature that is missing, lines nobody knows are ignored, and a file that contradicts itself
//! is not believed at all.

use std::fmt;
use std::fs;
use std::io;

/// Where the kernel says it.
pub const PATH: &str = "/proc/sys/kernel/containers/abi";

/// A file longer than this is none.
const MAX_LENGTH: usize = 16 * 1024;

/// System calls that Linux 6.12 has not assigned, below those of x32. A number outside would be
/// another call, whose arguments are not what is passed here.
const CALLS: std::ops::RangeInclusive<i64> = 463..=511;
/// Operations of `keyctl(2)` that Linux 6.12 has not assigned.
const OPERATIONS: std::ops::RangeInclusive<i64> = 33..=255;
/// Identifiers of special keyrings that Linux 6.12 has not assigned.
const SPECIAL_KEYRINGS: std::ops::RangeInclusive<i64> = -255..=-9;

/// The numbers of one kernel; `None`: it has no such thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerAbi {
    pub(crate) create: Option<i64>,
    pub(crate) fork: Option<i64>,
    pub(crate) socket: Option<i64>,
    pub(crate) wait: Option<i64>,
    pub(crate) kill: Option<i64>,
    pub(crate) flag_mask: u32,
    pub(crate) fsconfig_set_container: Option<i64>,
    pub(crate) move_mount_root: Option<i64>,
    pub(crate) grant_permission: Option<i64>,
    pub(crate) get_container_keyring: Option<i64>,
    pub(crate) set_container_keyring: Option<i64>,
    pub(crate) intercept: Option<i64>,
    pub(crate) query_request: Option<i64>,
    pub(crate) find_lru: Option<i64>,
    pub(crate) get_acl: Option<i64>,
    pub(crate) container_keyring: Option<i64>,
}

/// A feature of such a kernel, of one or several lines of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Containers can be made, entered by fork, waited for and killed.
    Containers,
    /// Sockets can be made in a container's network.
    Sockets,
    /// File systems can be made for a container, and its root can be set from outside.
    Mounts,
    /// Keys have access control lists with containers in them.
    KeyAcls,
    /// Containers have a keyring.
    ContainerKeyring,
    /// Requests for keys can be intercepted and queued.
    Interception,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Containers,
        Self::Sockets,
        Self::Mounts,
        Self::KeyAcls,
        Self::ContainerKeyring,
        Self::Interception,
    ];

    /// A short name in kebab case.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Sockets => "container-sockets",
            Self::Mounts => "container-mounts",
            Self::KeyAcls => "key-acls",
            Self::ContainerKeyring => "container-keyrings",
            Self::Interception => "request-interception",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Containers => "container objects",
            Self::Sockets => "sockets in containers",
            Self::Mounts => "mounts into containers",
            Self::KeyAcls => "access control lists of keys",
            Self::ContainerKeyring => "container keyrings",
            Self::Interception => "interception of key requests",
        })
    }
}

/// Why a file is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AbiError {
    /// The first line is not `abi 1`.
    Version,
    /// A line that is not `NAME VALUE`; its number, from 1.
    Line(usize),
    /// A value that cannot be meant; the item.
    Value(&'static str),
    /// An item that is there twice.
    Twice(&'static str),
    /// Longer than any such file is.
    Length,
}

impl fmt::Display for AbiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => f.write_str("its first line is not “abi 1”"),
            Self::Line(number) => write!(f, "its line {number} is not a name and a number"),
            Self::Value(item) => write!(f, "its {item} is a number of something else"),
            Self::Twice(item) => write!(f, "it names {item} twice"),
            Self::Length => f.write_str("it is too long"),
        }
    }
}

impl std::error::Error for AbiError {}

impl ContainerAbi {
    /// Reads the running kernel's file; `None`: the kernel has no containers.
    ///
    /// # Errors
    /// `InvalidData` with an [`AbiError`]; those of reading a file but its absence.
    pub fn read() -> io::Result<Option<Self>> {
        match fs::read(PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(text) => match Self::parse(&text) {
                Ok(abi) => Ok(Some(abi)),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
        }
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, AbiError> {
        if text.len() > MAX_LENGTH {
            return Err(AbiError::Length);
        }
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let mut lines = text.split(|byte| *byte == b'\n');
        if lines.next() != Some(b"abi 1") {
            return Err(AbiError::Version);
        }
        let mut abi = Self::default();
        let mut seen = Seen::default();
        for (line, number) in lines.zip(2..) {
            let (name, value) = item(line).ok_or(AbiError::Line(number))?;
            abi.take(name, value, &mut seen)?;
        }
        Ok(abi)
    }

    fn take(&mut self, name: &[u8], value: i64, seen: &mut Seen) -> Result<(), AbiError> {
        let (item, place, range) = match name {
            b"abi" => return Err(AbiError::Twice("abi")),
            b"container.flag_mask" => {
                seen.once("container.flag_mask")?;
                self.flag_mask =
                    u32::try_from(value).map_err(|_| AbiError::Value("container.flag_mask"))?;
                return Ok(());
            }
            b"syscall.container_create" => ("container_create", &mut self.create, CALLS),
            b"syscall.fork_into_container" => ("fork_into_container", &mut self.fork, CALLS),
            b"syscall.container_socket" => ("container_socket", &mut self.socket, CALLS),
            b"syscall.container_wait" => ("container_wait", &mut self.wait, CALLS),
            b"syscall.container_kill" => ("container_kill", &mut self.kill, CALLS),
            b"fsconfig.set_container" => (
                "fsconfig.set_container",
                &mut self.fsconfig_set_container,
                9..=255,
            ),
            b"move_mount.t_container_root" => (
                "move_mount.t_container_root",
                &mut self.move_mount_root,
                0x80..=0x8000_0000,
            ),
            b"keyctl.grant_permission" => {
                ("grant_permission", &mut self.grant_permission, OPERATIONS)
            }
            b"keyctl.get_container_keyring" => (
                "get_container_keyring",
                &mut self.get_container_keyring,
                OPERATIONS,
            ),
            b"keyctl.set_container_keyring" => (
                "set_container_keyring",
                &mut self.set_container_keyring,
                OPERATIONS,
            ),
            b"keyctl.container_intercept" => {
                ("container_intercept", &mut self.intercept, OPERATIONS)
            }
            b"keyctl.query_request_key_auth" => (
                "query_request_key_auth",
                &mut self.query_request,
                OPERATIONS,
            ),
            b"keyctl.find_lru" => ("find_lru", &mut self.find_lru, OPERATIONS),
            b"keyctl.get_acl" => ("get_acl", &mut self.get_acl, OPERATIONS),
            b"key_spec.container_keyring" => (
                "key_spec.container_keyring",
                &mut self.container_keyring,
                SPECIAL_KEYRINGS,
            ),
            _ => return Ok(()),
        };
        seen.once(item)?;
        if !range.contains(&value) {
            return Err(AbiError::Value(item));
        }
        *place = Some(value);
        Ok(())
    }

    /// Whether the kernel has all of a feature.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        let all = |items: &[Option<i64>]| items.iter().all(Option::is_some);
        match feature {
            Feature::Containers => all(&[self.create, self.fork, self.wait, self.kill]),
            Feature::Sockets => self.socket.is_some(),
            Feature::Mounts => all(&[self.fsconfig_set_container, self.move_mount_root]),
            Feature::KeyAcls => all(&[self.grant_permission, self.get_acl]),
            Feature::ContainerKeyring => all(&[
                self.get_container_keyring,
                self.set_container_keyring,
                self.container_keyring,
            ]),
            Feature::Interception => all(&[self.intercept, self.query_request, self.find_lru]),
        }
    }
}

/// The items met so far.
#[derive(Default)]
struct Seen(Vec<&'static str>);

impl Seen {
    fn once(&mut self, item: &'static str) -> Result<(), AbiError> {
        if self.0.contains(&item) {
            return Err(AbiError::Twice(item));
        }
        self.0.push(item);
        Ok(())
    }
}

/// `NAME VALUE`: a name of `[a-z0-9_.]`, one blank, a number in decimal or `0x` hexadecimal.
fn item(line: &[u8]) -> Option<(&[u8], i64)> {
    let blank = line.iter().position(|byte| *byte == b' ')?;
    let (name, value) = (line.get(..blank)?, line.get(blank + 1..)?);
    let named = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_' || *b == b'.';
    if name.is_empty() || !name.iter().all(named) {
        return None;
    }
    let value = std::str::from_utf8(value).ok()?;
    let (digits, radix, negative) = match (value.strip_prefix("0x"), value.strip_prefix('-')) {
        (Some(digits), _) => (digits, 16, false),
        (None, Some(digits)) => (digits, 10, true),
        (None, None) => (value, 10, false),
    };
    // What else `from_str_radix` takes: a sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = i64::from_str_radix(digits, radix).ok()?;
    Some((name, if negative { -magnitude } else { magnitude }))
}

#[cfg(test)]
#[path = "container_abi_tests.rs"]
mod tests;
