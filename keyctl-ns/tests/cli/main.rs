//! The command line as a user meets it: the real binary, the real kernel.

mod arguments;
mod bad_input;
#[cfg(test)]
mod doctor;
mod help;
mod mask_grants;
mod output;
mod own_keys;
#[cfg(test)]
mod session;
