//! Keyrings of the engine: registry, container keyrings, lent keys, copies.
//!
//! One thread of the daemon, the [key worker](worker), does everything here; no other thread
//! possesses any of it. What it works on hangs, with no process keeping it alive, below the user
//! keyring of a uid that nobody else uses:
//!
//! ```text
//! _uid.N                      the service uid's keyring; pinned by the initial user namespace
//! └ keyns:INSTANCE            registry                                        closed
//!   ├ container:ID:OWNER                                                      closed
//!   │ ├ _container            the container keyring, which denizens possess
//!   │ │ └ copies of granted keys
//!   │ ├ copies                the same copies, until they are ended              closed
//!   │ └ store                 the manager's keys; no denizen ever possesses it
//!   ├ sessions:ID             closed
//!   │ └ session:N             one slot for each session keyring started with the container
//!   ├ lent                    closed
//!   │ └ lent:SERIAL           one slot for each key that its owner lent
//!   └ drops                   closed
//!     └ drop:N                around one drop keyring
//! ```
//!
//! *Closed* keyrings give their possessor nothing, so that no search passes through them: a search
//! from the worker's session costs the same with a thousand containers as with none, and never
//! enters a keyring whose content a denizen chose. They give their owner (uid 0) what the worker
//! needs. For one operation at a time the worker links a keyring below a closed one into its thread
//! keyring and so possesses what is in it ([`possession`]).
//!
//! Every keyring is created in the [name shelter](shelter), where nobody can join it by its name.

pub mod container;
pub mod error;
pub mod facts;
mod ledger;
pub mod lending;
mod list;
mod possession;
pub mod projection;
pub mod refresh;
pub mod registry;
pub mod session;
pub mod shelter;
pub mod store;
pub mod worker;

pub use error::KeyError;
pub use facts::KeyFacts;
pub use lending::LentKey;
pub use projection::{Copy, CopyPlan};
pub use refresh::{CopyState, SourceState, Tended};
pub use registry::Keys;
pub use session::SessionPlan;
pub use store::{Home, KeyRef};
pub use worker::{KeyWorker, WorkerOptions};

/// The uid whose user keyring holds the registry unless configured otherwise: 2³¹ + 77.
pub const SERVICE_UID: u32 = 0x8000_004d;

/// First of the reserved kernel ids; the container's number is added. As a uid it owns the keyrings
/// of a container in which uid 0 of the host is somebody, as a gid it is the group of a container's
/// session keyrings.
pub const RESERVED_BASE: u32 = 0x8000_0100;

/// Masks of the engine's keyrings and keys. The bytes from the top: possessor, owner, group, other.
pub mod masks {
    /// The container keyring: denizens search it, nothing else; the owner (the daemon) may all.
    pub const CONTAINER: u32 = 0x083f_0000;
    /// A keyring no search passes through: view, read, write for uid 0.
    pub const CLOSED: u32 = 0x0007_0000;
    /// A keyring the worker possesses for one operation: uid 0 may view, read and link it.
    pub const SLOT: u32 = 0x3f13_0000;
    /// A slot into which a starting process of uid 0 links its session keyring.
    pub const SESSION_SLOT: u32 = 0x3f17_0000;
    /// A session keyring: as the kernel makes it, and its group, by which the daemon comes, may view and write.
    pub const SESSION: u32 = 0x3f03_0500;
    /// Same where uid 0 has to stay the owner.
    pub const SESSION_OF_ROOT: u32 = 0x3f07_0500;
    /// The keys of a store: possessor all, owner view.
    pub const STORE: u32 = 0x3f01_0000;
    /// A drop keyring: its owner, the lender, may only link into it.
    pub const DROP: u32 = 0x3f04_0000;
}
