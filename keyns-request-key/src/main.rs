//! `keyns-request-key`, started as `/sbin/request-key`; see the library of this package.

#![no_main]

keyns_sys::helper_entry!(keyns_request_key::run);
