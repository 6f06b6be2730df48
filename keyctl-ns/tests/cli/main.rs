//! The command line as a user meets it: the real binary, the real kernel.

mod abbreviations;
mod arguments;
mod attributes;
mod bad_input;
mod construction;
#[cfg(test)]
mod crypto;
#[cfg(test)]
mod doctor;
mod help;
mod housekeeping;
mod links;
mod mask_grants;
mod output;
mod own_keys;
#[cfg(test)]
mod payloads;
#[cfg(test)]
mod session;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod show;
#[cfg(test)]
mod watching;
