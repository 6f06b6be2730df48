//! `keyns-upcall`, started by the kernel as `/sbin/request-key`; see the library of this package.

#![no_main]

keyns_sys::helper_entry!(keyns_upcall::run);
