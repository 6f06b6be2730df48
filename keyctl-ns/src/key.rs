//! Keys that the caller reaches itself, by system calls of this process.

use std::fmt;
use std::io;

use keyns::description::KeyDescription;
use keyns::errno::{Errno, KeyOp, explain};
use keyns::expression::Object;
use keyns::mask::Mask;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_interfaces::ByteText;
use keyns_interfaces::keys::KeyInfo;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::error::{CommandError, ErrorKind};
use crate::proc_file::{self, ProcFile};
use crate::view;

/// Where a key is to be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Among the caller's own keys.
    Own(KeySerial),
    /// In a container; the text is for the daemon.
    Contained(ByteText),
}

impl Target {
    /// Finds out which; an own key is resolved to its serial.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn of(spec: &KeySpec) -> Result<Self, CommandError> {
        match spec {
            KeySpec::InContainer { .. } => Ok(Self::Contained(ByteText(spec.to_bytes()))),
            own => resolve(own).map(Self::Own),
        }
    }

    /// The key as the daemon wants it named.
    #[must_use]
    pub fn for_daemon(self) -> ByteText {
        match self {
            Self::Own(serial) => ByteText(serial.to_string().into_bytes()),
            Self::Contained(text) => text,
        }
    }
}

/// The serial of a key of the caller's own. A special keyring that is not there is not created.
///
/// # Errors
/// A usage error for a key in a container; what `KEYCTL_GET_KEYRING_ID` and request_key(2) say.
pub fn resolve(spec: &KeySpec) -> Result<KeySerial, CommandError> {
    match spec {
        KeySpec::Serial(serial) if serial.is_special() => sys::get_keyring_id(*serial, false)
            .map_err(|error| {
                let new = failed(
                    format!("cannot use keyring {spec}"),
                    KeyOp::GetKeyringId,
                    &error,
                );
                match error.raw_os_error() {
                    Some(126) => new.cause("you have no such keyring"),
                    _ => new,
                }
            }),
        KeySpec::Serial(serial) => Ok(*serial),
        // Without callout information: a search, never an upcall.
        KeySpec::Named(name) => {
            sys::request_key(name.type_(), name.description(), None, KeySerial::NONE).map_err(
                |error| {
                    let new = failed(format!("cannot find key {spec}"), KeyOp::Request, &error);
                    match error.raw_os_error() {
                        Some(126) => new
                            .cause("none of your keyrings holds a key of that type and description")
                            .hint("keyctl-ns tree shows the keys you have"),
                        _ => new,
                    }
                },
            )
        }
        KeySpec::InContainer { container, .. } => Err(CommandError::usage(format!(
            "cannot use key {spec} here"
        ))
        .cause(format!(
            "it belongs to container “{container}”; this needs a key or keyring of your own"
        ))),
    }
}

/// As [`resolve`], for what the daemon does not do with keys of containers; `hint` says what it does.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_own(spec: &KeySpec, hint: &str) -> Result<KeySerial, CommandError> {
    resolve(spec).map_err(|error| match spec {
        KeySpec::InContainer { .. } => error.hint(hint),
        _ => error,
    })
}

/// Where a key that is asked for or made is to be linked. A special keyring stays what it is: it is
/// made when it does not exist, and for whoever answers a request it is the requester's choice.
///
/// # Errors
/// As [`resolve`].
pub fn destination(spec: Option<&KeySpec>) -> Result<KeySerial, CommandError> {
    match spec {
        None => Ok(KeySerial::NONE),
        Some(KeySpec::Serial(serial)) => Ok(*serial),
        Some(other) => resolve(other),
    }
}

/// Describes a key.
///
/// # Errors
/// What `KEYCTL_DESCRIBE` says.
pub fn info(serial: KeySerial) -> Result<KeyInfo, CommandError> {
    describe(serial).map(|described| to_info(serial, described, &ProcFile::default()))
}

/// Describes a key, with its expiry as far as `file` shows it.
///
/// # Errors
/// As [`info`].
pub fn info_with(serial: KeySerial, file: &ProcFile) -> Result<KeyInfo, CommandError> {
    describe(serial).map(|described| to_info(serial, described, file))
}

/// What the kernel says about a key.
///
/// # Errors
/// What `KEYCTL_DESCRIBE` says.
pub fn describe(serial: KeySerial) -> Result<KeyDescription, CommandError> {
    let what = || format!("cannot describe key {serial}");
    let text = sys::describe(serial).map_err(|error| failed(what(), KeyOp::Describe, &error))?;
    KeyDescription::parse(&text)
        .map_err(|error| CommandError::failure(what()).cause(error.to_string()))
}

/// A description as the interfaces have it; an id that is not there is the kernel's −1.
#[must_use]
pub fn to_info(serial: KeySerial, described: KeyDescription, file: &ProcFile) -> KeyInfo {
    KeyInfo {
        serial: serial.raw(),
        expires_in: file.expires_in(serial, || Some(described.clone())),
        type_: String::from_utf8_lossy(&described.type_).into_owned(),
        uid: described.uid.unwrap_or(u32::MAX),
        gid: described.gid.unwrap_or(u32::MAX),
        mask: described.mask.raw(),
        description: ByteText(described.description),
        container: None,
        origin: "own".to_owned(),
        grants: Vec::new(),
    }
}

/// The other way round of [`to_info`]: what the kernel has described. None if no kernel has such a mask.
#[must_use]
pub fn to_description(key: &KeyInfo) -> Option<KeyDescription> {
    let id = |id: u32| (id != u32::MAX).then_some(id);
    Some(KeyDescription {
        type_: key.type_.clone().into_bytes(),
        uid: id(key.uid),
        gid: id(key.gid),
        mask: Mask::from_raw(key.mask)?,
        description: key.description.bytes().to_vec(),
    })
}

/// A key that something was done to; what the caller may not view is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRef {
    /// Serial.
    pub serial: i32,
    /// Type.
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// Description.
    pub description: Option<ByteText>,
    /// Full name of the container it belongs to.
    pub container: Option<String>,
}

impl KeyRef {
    /// A key of the caller's own, as far as it can be described.
    #[must_use]
    pub fn own(serial: KeySerial) -> Self {
        info(serial).map(Self::from).unwrap_or(Self {
            serial: serial.raw(),
            type_: None,
            description: None,
            container: None,
        })
    }
}

impl From<KeyInfo> for KeyRef {
    fn from(key: KeyInfo) -> Self {
        Self {
            serial: key.serial,
            type_: Some(key.type_),
            description: Some(key.description),
            container: key.container,
        }
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.serial)?;
        if let (Some(type_), Some(description)) = (&self.type_, &self.description) {
            write!(f, "  {}: {}", view::safe(type_), view::short(description))?;
        }
        match &self.container {
            Some(container) => write!(f, "  in container “{}”", view::safe(container)),
            None => Ok(()),
        }
    }
}

/// Whether a key is a keyring, and if so whether others may find it by its name.
#[must_use]
pub fn object(key: &KeyInfo) -> Object {
    match key.type_.as_str() {
        "keyring" => Object::Keyring {
            joinable: !key.description.bytes().starts_with(b"."),
        },
        _ => Object::Key,
    }
}

/// The keys linked in a keyring of the caller's own, those left out that are gone meanwhile or may
/// not be viewed (`hidden` counts them).
///
/// # Errors
/// What `KEYCTL_READ` says.
pub fn members(keyring: KeySerial, file: &ProcFile) -> Result<Members, CommandError> {
    let serials = serials(keyring)?;
    let keys: Vec<KeyInfo> = serials
        .iter()
        .filter_map(|serial| info_with(*serial, file).ok())
        .collect();
    let hidden = serials.len() - keys.len();
    Ok(Members { keys, hidden })
}

/// The numbers of the keys linked in a keyring of the caller's own.
///
/// # Errors
/// What `KEYCTL_READ` says; a failure for a key that is no keyring.
pub fn serials(keyring: KeySerial) -> Result<Vec<KeySerial>, CommandError> {
    let what = || format!("cannot list keyring {keyring}");
    if !is_keyring(keyring)? {
        return Err(CommandError::failure(what())
            .cause("it is a key, not a keyring")
            .hint(format!("keyctl-ns describe {keyring}")));
    }
    sys::read_keyring(keyring).map_err(|error| failed_on(keyring, what(), KeyOp::Read, &error))
}

/// Whether a key is a keyring. The payload of another key must never be taken for serials.
fn is_keyring(serial: KeySerial) -> Result<bool, CommandError> {
    let unknown = match describe(serial) {
        Ok(described) => return Ok(described.is_keyring()),
        Err(error) if error.kind == ErrorKind::Denied => error,
        Err(error) => return Err(error),
    };
    // A keyring that may be searched but not viewed: a search in anything else is ENOTDIR.
    match sys::search(serial, c"keyring", c"keyns", KeySerial::NONE) {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error().and_then(Errno::new) {
            Some(Errno::ENOKEY | Errno::EKEYEXPIRED | Errno::EKEYREVOKED) => Ok(true),
            Some(Errno::ENOTDIR) => Ok(false),
            _ => Err(unknown),
        },
    }
}

/// What a keyring holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Members {
    /// The keys that may be viewed, in the kernel's order.
    pub keys: Vec<KeyInfo>,
    /// How many may not.
    pub hidden: usize,
}

/// A failed key operation: `what` failed, and why in terms of keys.
#[must_use]
pub fn failed(what: String, operation: KeyOp, error: &io::Error) -> CommandError {
    let Some(errno) = error.raw_os_error().and_then(Errno::new) else {
        return CommandError::io(what, error);
    };
    let kind = match errno {
        Errno::EACCES | Errno::EPERM => ErrorKind::Denied,
        Errno::ENOKEY | Errno::EKEYEXPIRED | Errno::EKEYREVOKED => ErrorKind::NotFound,
        Errno::EDQUOT => ErrorKind::Quota,
        Errno::ETIMEDOUT => ErrorKind::TimedOut,
        _ => ErrorKind::Failure,
    };
    let uid = rustix::process::geteuid().as_raw();
    let mut new = CommandError::new(kind, what).cause(explain(operation, errno, Some(uid)));
    new.errno = Some(errno.raw());
    if errno == Errno::EDQUOT {
        new =
            new.hint("invalidate keys that are not needed; limits and use are in /proc/key-users");
    }
    new
}

/// As [`failed`], for an operation on a key by its serial.
///
/// A key that was invalidated or revoked is there until the kernel collects it, and until then most
/// operations answer that they are not permitted, because no search finds it any more.
#[must_use]
pub fn failed_on(
    serial: KeySerial,
    what: String,
    operation: KeyOp,
    error: &io::Error,
) -> CommandError {
    let new = failed(what, operation, error);
    if new.kind != ErrorKind::Denied {
        return new;
    }
    let gone = |cause: String| CommandError {
        kind: ErrorKind::NotFound,
        ..new.clone().cause(cause)
    };
    match describe(serial) {
        // Collected since.
        Err(error) if error.kind == ErrorKind::NotFound => gone(error.cause.unwrap_or_default()),
        Err(_) => new,
        Ok(described) => match ProcFile::read()
            .line(serial, &described)
            .as_ref()
            .map(proc_file::state)
        {
            Some(state @ ("invalidated" | "revoked" | "expired")) => {
                gone(format!("the key is {state}"))
            }
            _ => new,
        },
    }
}

/// What payloads a type takes, to follow a refusal of one of `length` bytes.
#[must_use]
pub fn payload_rule(type_: &str, length: usize) -> String {
    let rule = match type_ {
        "user" => "a user key holds 1 to 32767 bytes",
        "logon" => "a logon key holds 1 to 32767 bytes, and its description is SERVICE:NAME",
        "big_key" => "a big_key holds 1 to 1048575 bytes",
        "keyring" => "a keyring has no payload",
        other => {
            return format!(
                "see the documentation of type {} for its payload (this one has {length} bytes)",
                view::safe(other)
            );
        }
    };
    format!("{rule}; this payload has {length}")
}
