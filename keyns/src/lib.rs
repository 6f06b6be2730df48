//! The domain of keyns: what keys, rights, subjects, containers and upcalls *are*, and the engines
//! that realise them on a kernel.
//!
//! Everything here works on values, not on connections: this crate does no IPC and reads no
//! configuration. Two ideas run through it.
//!
//! *A stock kernel speaks a coarser language than an ACL.* A key has four bytes of six bits, one
//! byte each for possessor, owner, group and everybody else, and most bits carry more than one
//! right: whoever may search a key may also destroy it, whoever possesses it may also read it.
//! [`acl`] holds what was asked for, [`expression`] computes which bits come closest without ever
//! giving more than was asked or knowingly accepted, and names the difference.
//!
//! *Text is never evidence.* Types, descriptions, callout information and keyring names are bytes
//! that any process may choose. They are parsed without assumptions about encoding, printed only
//! through [`text`], and no decision about identity is taken from them.
//!
//! Numbers that look alike are different types: a key serial, a mask and a set of rights cannot be
//! mixed up, a checked container name is not a string, and values that cross a process boundary
//! are checked again when they are deserialised.

pub mod acl;
pub mod classic;
pub mod description;
pub mod engine;
pub mod errno;
pub mod errno_text;
pub mod expression;
pub mod feature;
pub mod key_list;
pub mod key_users;
pub mod mask;
pub mod mountinfo;
pub mod name;
pub mod probe;
pub mod proc_keys;
pub mod quota;
pub mod request_key_conf;
pub mod rights;
pub mod routing;
pub mod serial;
pub mod spec;
pub mod subject;
pub mod takeover;
pub mod text;
