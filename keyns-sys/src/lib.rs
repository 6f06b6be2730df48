//! System calls, ioctls and wire structures.
//!
//! This is the only crate of keyns that contains unsafe code. Each module allows it for itself and
//! wraps every call so that its users cannot break memory safety: descriptors are `OwnedFd` and
//! `BorrowedFd`, buffers are slices, and `fork` needs proof that the process has one thread.

pub mod arena;
mod call;
pub mod container;
pub mod container_abi;
pub mod container_key;
pub mod cred;
pub mod execute;
pub mod handler;
pub mod helper_process;
pub mod inherited;
pub mod kernel_probe;
pub mod key;
pub mod key_crypto;
pub mod mount;
pub mod peer;
pub mod pidfd;
pub mod process;
pub mod request;
pub mod requester;
pub mod routing_entry;
pub mod secret;
pub mod serial;
pub mod standard_stream;
pub mod upcall_socket;
pub mod upcall_wire;
pub mod waiting_place;
pub mod watch_queue;

pub use serial::KeySerial;
