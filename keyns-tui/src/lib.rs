//! The dashboard of keyns: keys, containers and upcalls on one screen.
//!
//! One thread owns all state ([`app::App`]) and draws it. Others wait: for the terminal ([`input`]),
//! for signals, for the daemon's events ([`feed`]), for the kernel and the daemon to answer
//! ([`worker`], [`client`]). What they have to say comes as a [`message::Message`] through one
//! bounded channel; what the state wants done leaves as a [`message::Effect`]. So the screen never
//! waits for anybody, and the state can be tested without any of them.
//!
//! What a key does stands in one table ([`action`]), from which keys are dispatched, the help and the
//! footer are written, and the command line knows its words. Text of somebody else becomes characters
//! on the screen in one place ([`text`]).

pub mod action;
pub mod app;
pub mod cli;
pub mod client;
pub mod config;
pub mod dialog;
pub mod edit;
pub mod feed;
pub mod filter;
pub mod input;
pub mod keymap;
pub mod message;
pub mod page;
pub mod run;
pub mod shell;
pub mod signals;
pub mod terminal;
pub mod text;
pub mod theme;
pub mod tree;
pub mod worker;
