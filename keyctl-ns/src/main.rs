//! `keyctl-ns`: keys, grants and upcalls of containers from the command line.

#![no_main]

keyns_sys::helper_entry!(keyctl_ns::start);
