//! The command line of keyns.
//!
//! One file per command under `command`: the doc comment of its arguments is its help text, and a
//! function beside them does the work. What a person owns already is reached by system calls of
//! this process, with its own possession and ids; everything about containers goes through the
//! daemon. Nothing is decided here that the kernel or the daemon decides: commands translate, call
//! and show.
//!
//! While a command line is being typed, `completion` says what may follow.
//!
//! `error` is the only place where a failure becomes an exit code, `ui` the only one that prints.
//!
//! Called by the name `keyctl`, the program is another one: see [`keyctl`]. All but that module is
//! behind the feature `commands`, so that it can be built by itself.

#[cfg(feature = "commands")]
mod abbreviation;
#[cfg(feature = "commands")]
pub mod args;
#[cfg(feature = "commands")]
pub mod aside;
#[cfg(feature = "commands")]
pub mod cli;
#[cfg(feature = "commands")]
pub mod command;
#[cfg(feature = "commands")]
pub mod completion;
#[cfg(feature = "commands")]
pub mod context;
#[cfg(feature = "commands")]
pub mod daemon;
#[cfg(feature = "commands")]
pub mod error;
#[cfg(feature = "commands")]
pub mod hex;
#[cfg(feature = "commands")]
pub mod key;
#[cfg(feature = "commands")]
pub mod key_list;
pub mod keyctl;
#[cfg(feature = "commands")]
pub mod mask_change;
#[cfg(feature = "commands")]
pub mod own_tree;
#[cfg(feature = "commands")]
pub mod payload;
#[cfg(feature = "commands")]
pub mod proc_file;
#[cfg(feature = "commands")]
pub mod reveal;
#[cfg(feature = "commands")]
mod run;
#[cfg(feature = "commands")]
pub mod style;
#[cfg(feature = "commands")]
pub mod table;
#[cfg(feature = "commands")]
pub mod terminal;
#[cfg(feature = "commands")]
pub mod ui;
#[cfg(feature = "commands")]
pub mod usage;
#[cfg(feature = "commands")]
pub mod view;

#[cfg(feature = "commands")]
pub use run::{run, start};
