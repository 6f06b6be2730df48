//! The protocol between `keyns-upcall` and the daemon (placeholder until written).
