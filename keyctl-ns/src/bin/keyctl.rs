//! `keyctl`: the personality of that name by itself, see [`keyctl_ns::keyctl`].
//!
//! It links neither the other commands nor their start-up: starting is most of what it does.

#![no_main]

use keyns_sys::arena::Arena;

#[global_allocator]
static MEMORY: Arena = Arena::new();

keyns_sys::helper_entry!(keyctl_ns::keyctl::run);
