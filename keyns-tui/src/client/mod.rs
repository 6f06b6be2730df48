//! Whoever can be asked for keys and containers: the kernel for the caller's own, the daemon for all
//! else. Everything that may take time goes through one trait, and is asked for by value, so that
//! the state of the program never waits and a test can answer in its place.

pub mod daemon;
pub mod kernel;
mod machine;

use std::path::PathBuf;

use keyctl_ns::command::grant::GrantArgs;
use keyctl_ns::error::CommandError;
use keyctl_ns::proc_file::Expiring;
use keyns::key_users::KeyUser;
use keyns::quota::KeyLimits;
use keyns::serial::KeySerial;
use keyns::subject::Subject;
use keyns_interfaces::containers::{ContainerInfo, Namespace, Root, Shown};
use keyns_interfaces::keys::{Acl, KeyInfo};
use keyns_interfaces::manager::{Feature, Status};
use keyns_interfaces::upcalls::{Listing, Rejection, Target, UpcallInfo};
use keyns_interfaces::{ByteText, Payload};

/// Why a request has no reply.
pub type Failure = CommandError;

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The kernel, by system calls of this process.
    Kernel,
    /// The kernel too, by `/proc/keys`. To print it the kernel looks for every key in every keyring that
    /// is possessed, and nobody who only wants to see keys waits for that.
    Listing,
    /// The kernel too, about the machine: what it can do takes a while to try, and nobody's keys wait
    /// for that.
    Machine,
    /// The daemon.
    Daemon,
}

/// What can be asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// The caller's own keyrings; whether they expire is asked for apart.
    Own,
    /// The keys linked in a keyring of the kernel; whether they expire is asked for apart.
    Members(KeySerial),
    /// A key as the kernel has it.
    Describe(KeySerial),
    /// Who has keys on this machine.
    Users,
    /// The keys of a user that may be viewed.
    UserKeys(u32),
    /// Which keys expire, and when.
    Expiring,
    /// The payload of a key.
    Reveal(KeySerial),
    /// Have the link to the first one removed from the second.
    Unlink(KeySerial, KeySerial),
    /// Have the first one linked into the second.
    Link(KeySerial, KeySerial),
    /// Have it moved.
    Move(Move),
    /// Have it revoked.
    Revoke(KeySerial),
    /// Have it invalidated.
    Invalidate(KeySerial),
    /// Have it expire after so many seconds, or never with 0.
    Timeout(KeySerial, u32),
    /// The containers, dead ones included.
    Containers,
    /// Everything about a container.
    Contents(String),
    /// Who may do what with a key that the daemon knows.
    Acl(ByteText),
    /// The payload of a key in the store of a container.
    RevealStored(ByteText),
    /// Have a key in the store of a container invalidated, with all copies of it.
    InvalidateStored(String, KeySerial),
    /// Have a key moved from the store of a container to that of another.
    MoveStored {
        /// `CONTAINER/SERIAL`.
        key: ByteText,
        /// The other container.
        to: String,
        /// Whether it replaces one of its type and description there.
        replace: bool,
    },
    /// Rights on a key, or what they would come to.
    Grant(Box<GrantArgs>),
    /// Have them taken back.
    Ungrant {
        /// `CONTAINER/SERIAL` or `SERIAL`.
        key: ByteText,
        /// The container that has them.
        container: String,
    },
    /// Have a container created.
    Create {
        /// Full name.
        name: String,
        /// Namespaces of its own.
        namespaces: Vec<Namespace>,
        /// Root directory.
        root: Root,
    },
    /// Have it killed with everything in it.
    Kill(Named),
    /// Have a dead or unused one removed.
    Remove(Named),
    /// A shell in it, for which this program leaves the terminal.
    Shell(Named),
    /// Have its requests of a type routed.
    Intercept(Box<NewRule>),
    /// Have a rule removed.
    Unintercept {
        /// The container.
        container: Named,
        /// Type of key, or `*`.
        type_: String,
    },
    /// The requests for keys that wait, and the last ones that ended.
    Upcalls {
        /// How many of these, 0 to 256.
        history: u32,
    },
    /// A request for a key with all of its texts.
    Upcall(u64),
    /// The machine, and since when the daemon runs on it.
    Machine {
        /// The daemon's process.
        daemon: Option<u32>,
    },
    /// What the kernel has.
    KernelFeatures,
    /// What kernel and daemon enforce together.
    Features,
    /// How much the daemon has to do.
    Status,
    /// Have a request for a key given to somebody else.
    Reroute {
        /// The request.
        request: Asked,
        /// A queue or agents.
        target: Target,
        /// How long it may wait from its arrival on, in milliseconds.
        deadline_ms: Option<u32>,
    },
    /// Have a request for a key answered.
    Respond {
        /// The request.
        request: Asked,
        /// The answer.
        response: Response,
    },
}

/// A move between keyrings of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The key.
    pub key: KeySerial,
    /// The keyring that holds it.
    pub from: KeySerial,
    /// The one that is to hold it.
    pub to: KeySerial,
    /// Whether it replaces one of its type and description there.
    pub replace: bool,
}

/// A container by what identifies it: another one may have the name by the time that it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its number.
    pub id: u64,
    /// Its name, for people.
    pub name: String,
}

impl From<&ContainerInfo> for Named {
    fn from(container: &ContainerInfo) -> Self {
        Self {
            id: container.id,
            name: container.name.clone(),
        }
    }
}

/// A rule that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    /// Whose requests.
    pub container: Named,
    /// Type of key, or `*`.
    pub type_: String,
    /// Where they go.
    pub target: Target,
    /// How long one may wait, in milliseconds.
    pub deadline_ms: Option<u32>,
    /// Requests per second.
    pub rate: Option<u32>,
    /// Requests at once.
    pub pending: Option<u32>,
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
    pub fn place(&self) -> Place {
        match self {
            Self::Describe(_) | Self::UserKeys(_) | Self::Expiring => Place::Listing,
            Self::Own
            | Self::Members(_)
            | Self::Users
            | Self::Reveal(_)
            | Self::Unlink(..)
            | Self::Link(..)
            | Self::Move(_)
            | Self::Revoke(_)
            | Self::Timeout(..)
            | Self::Invalidate(_) => Place::Kernel,
            Self::Machine { .. } | Self::KernelFeatures => Place::Machine,
            // Bits of the mask are set by the caller's own right.
            Self::Grant(grant) if !matches!(grant.subject, Subject::Container(_)) => Place::Kernel,
            Self::Containers
            | Self::Contents(_)
            | Self::Acl(_)
            | Self::RevealStored(_)
            | Self::InvalidateStored(..)
            | Self::MoveStored { .. }
            | Self::Grant(_)
            | Self::Ungrant { .. }
            | Self::Create { .. }
            | Self::Kill(_)
            | Self::Remove(_)
            | Self::Shell(_)
            | Self::Intercept(_)
            | Self::Unintercept { .. }
            | Self::Upcalls { .. }
            | Self::Upcall(_)
            | Self::Features
            | Self::Status
            | Self::Reroute { .. }
            | Self::Respond { .. } => Place::Daemon,
        }
    }

    /// Whether it changes something. Then its outcome is said above the footer, and it is not asked
    /// with `--read-only`.
    #[must_use]
    pub fn changes(&self) -> bool {
        match self {
            Self::Own
            | Self::Members(_)
            | Self::Describe(_)
            | Self::Users
            | Self::UserKeys(_)
            | Self::Expiring
            | Self::Reveal(_)
            | Self::Containers
            | Self::Contents(_)
            | Self::Acl(_)
            | Self::RevealStored(_)
            | Self::Upcalls { .. }
            | Self::Upcall(_)
            | Self::Machine { .. }
            | Self::KernelFeatures
            | Self::Features
            | Self::Status => false,
            Self::Grant(grant) => !grant.dry_run,
            Self::Unlink(..)
            | Self::Link(..)
            | Self::Move(_)
            | Self::Revoke(_)
            | Self::Invalidate(_)
            | Self::Timeout(..)
            | Self::InvalidateStored(..)
            | Self::MoveStored { .. }
            | Self::Ungrant { .. }
            | Self::Create { .. }
            | Self::Kill(_)
            | Self::Remove(_)
            | Self::Shell(_)
            | Self::Intercept(_)
            | Self::Unintercept { .. }
            | Self::Reroute { .. }
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

/// What a grant would come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// What the subject could do: what was asked for and what comes with it.
    pub rights: String,
    /// Of this, what nobody asked for; empty if there is nothing.
    pub implied: String,
    /// The mask that would give it.
    pub mask: String,
    /// Whether processes get a copy of the key, rather than the key itself.
    pub is_copy: bool,
}

/// The machine, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Release of the kernel.
    pub release: Option<String>,
    /// Limits of its keys.
    pub limits: Option<KeyLimits>,
    /// For how many seconds the process that was asked for has been running.
    pub running: Option<u64>,
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
    /// To [`Request::Expiring`].
    Expiring(Expiring),
    /// To [`Request::Containers`].
    Containers(Vec<ContainerInfo>),
    /// To [`Request::Contents`].
    Contents(Box<Contents>),
    /// To [`Request::Acl`].
    Acl(Box<Acl>),
    /// To [`Request::Grant`] that is a dry run.
    Preview(Box<Preview>),
    /// To [`Request::Reveal`] and [`Request::RevealStored`].
    Payload(Payload),
    /// To [`Request::Upcalls`].
    Upcalls(Box<Listing>),
    /// To [`Request::Upcall`].
    Upcall(Box<UpcallInfo>),
    /// To [`Request::Machine`].
    Machine(Box<Machine>),
    /// To [`Request::KernelFeatures`] and [`Request::Features`].
    Features(Vec<Feature>),
    /// To [`Request::Status`].
    Status(Box<Status>),
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
