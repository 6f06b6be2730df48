//! Whoever can be asked for keys and containers: the kernel for the caller's own, the daemon for all
//! else. Everything that may take time goes through one trait, and is asked for by value, so that
//! the state of the program never waits and a test can answer in its place.

pub mod daemon;
pub mod kernel;

use std::path::PathBuf;

use keyctl_ns::error::CommandError;
use keyns::key_users::KeyUser;
use keyns::serial::KeySerial;
use keyns_interfaces::Payload;
use keyns_interfaces::containers::{ContainerInfo, Shown};
use keyns_interfaces::keys::KeyInfo;
use keyns_interfaces::upcalls::{Listing, Rejection, UpcallInfo};

/// Why a request has no reply.
pub type Failure = CommandError;

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The kernel, by system calls of this process.
    Kernel,
    /// The daemon.
    Daemon,
}

/// What can be asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// The caller's own keyrings.
    Own,
    /// The keys linked in a keyring of the kernel.
    Members(KeySerial),
    /// A key as the kernel has it.
    Describe(KeySerial),
    /// Who has keys on this machine.
    Users,
    /// The keys of a user that may be viewed.
    UserKeys(u32),
    /// Have the link to the first one removed from the second.
    Unlink(KeySerial, KeySerial),
    /// Have it revoked.
    Revoke(KeySerial),
    /// Have it invalidated.
    Invalidate(KeySerial),
    /// The containers, dead ones included.
    Containers,
    /// Have a key in the store of a container invalidated, with all copies of it.
    InvalidateStored(String, KeySerial),
    /// Everything about a container.
    Contents(String),
    /// The requests for keys that wait, and the last ones that ended.
    Upcalls {
        /// How many of these, 0 to 256.
        history: u32,
    },
    /// A request for a key with all of its texts.
    Upcall(u64),
    /// Have a request for a key answered.
    Respond {
        /// The request.
        request: Asked,
        /// The answer.
        response: Response,
    },
}

/// A request for a key by what identifies it: a daemon that was started again gives the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Its number.
    pub id: u64,
    /// Serial of its key.
    pub key: i32,
    /// When it arrived, in milliseconds since 1970.
    pub time_ms: u64,
}

impl From<&UpcallInfo> for Asked {
    fn from(info: &UpcallInfo) -> Self {
        Self {
            id: info.id,
            key: info.key,
            time_ms: info.time_ms,
        }
    }
}

/// An answer to a request for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// A key with this payload.
    Payload(Payload),
    /// A key with the content of this file.
    File(PathBuf),
    /// A copy of the container's key of the same type and description.
    FromKeyring,
    /// An error.
    Reject(Rejection),
}

impl Request {
    /// Who answers it.
    #[must_use]
    pub const fn place(&self) -> Place {
        match self {
            Self::Own
            | Self::Members(_)
            | Self::Describe(_)
            | Self::Users
            | Self::UserKeys(_)
            | Self::Unlink(..)
            | Self::Revoke(_)
            | Self::Invalidate(_) => Place::Kernel,
            Self::Containers
            | Self::Contents(_)
            | Self::InvalidateStored(..)
            | Self::Upcalls { .. }
            | Self::Upcall(_)
            | Self::Respond { .. } => Place::Daemon,
        }
    }

    /// Whether it changes something. Then its outcome is said above the footer, and it is not asked
    /// with `--read-only`.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::Own
            | Self::Members(_)
            | Self::Describe(_)
            | Self::Users
            | Self::UserKeys(_)
            | Self::Containers
            | Self::Contents(_)
            | Self::Upcalls { .. }
            | Self::Upcall(_) => false,
            Self::Unlink(..)
            | Self::Revoke(_)
            | Self::Invalidate(_)
            | Self::InvalidateStored(..)
            | Self::Respond { .. } => true,
        }
    }
}

/// A keyring of the caller's own.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnKeyring {
    /// `@s`, `@u`, …
    pub name: &'static str,
    /// What it is called in a sentence.
    pub title: &'static str,
    /// The keyring.
    pub key: KeyInfo,
}

/// The keys in a keyring.
#[derive(Debug, Clone, PartialEq)]
pub struct Members {
    /// Those that may be viewed.
    pub keys: Vec<KeyInfo>,
    /// How many may not, or are gone meanwhile.
    pub hidden: usize,
}

/// A key, and what only `/proc/keys` tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// The key.
    pub key: KeyInfo,
    /// Its state in words, as far as it is shown.
    pub state: Option<&'static str>,
}

/// A container and what its processes find.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    /// The container, its processes, the keys in its store, its rules.
    pub shown: Shown,
    /// The copies in its keyring.
    pub copies: Vec<KeyInfo>,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To [`Request::Own`].
    Own(Vec<OwnKeyring>),
    /// To [`Request::Members`] and [`Request::UserKeys`].
    Members(Members),
    /// To [`Request::Describe`].
    Described(Box<Described>),
    /// To [`Request::Users`].
    Users(Vec<KeyUser>),
    /// To [`Request::Containers`].
    Containers(Vec<ContainerInfo>),
    /// To [`Request::Contents`].
    Contents(Box<Contents>),
    /// To [`Request::Upcalls`].
    Upcalls(Box<Listing>),
    /// To [`Request::Upcall`].
    Upcall(Box<UpcallInfo>),
    /// To everything that changes something: what was done, in a sentence.
    Done(String),
}

/// Somebody who can be asked. It lives on a thread of its own and may block there.
pub trait Client: Send {
    /// Answers a request of its [`Place`].
    ///
    /// # Errors
    /// Why it could not be done, in sentences.
    fn ask(&mut self, request: &Request) -> Result<Reply, Failure>;
}

/// A number that ties an answer to the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A question and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Of the question.
    pub ticket: Ticket,
    /// The question.
    pub request: Request,
    /// The reply.
    pub result: Result<Reply, Failure>,
}
