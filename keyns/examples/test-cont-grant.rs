//! `test-cont-grant KEY [KEYRING]`: lets the container `foo-test` find a key, by the container's name.
//!
//! KEY and KEYRING are serial numbers; without KEYRING the key is linked into the keyring `_container`
//! of this session, which `test-container` has made. No descriptor of the container is needed, only
//! the right to change the key: its rights, and links to it.

use std::error::Error;

use keyns_sys::container_abi::ContainerAbi;
use keyns_sys::container_key::{self, Subject, rights};
use keyns_sys::{KeySerial, key};

/// What goes wrong, and where.
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1);
    let granted = words.next().ok_or("usage: test-cont-grant KEY [KEYRING]")?;
    let granted = KeySerial::new(granted.parse()?);
    let abi = ContainerAbi::read()?.ok_or("this kernel has no containers")?;
    let keyring = match words.next() {
        Some(serial) => KeySerial::new(serial.parse()?),
        None => step(
            "find the container keyring",
            key::search(
                KeySerial::SESSION,
                c"keyring",
                c"_container",
                KeySerial::NONE,
            ),
        )?,
    };
    step(
        "grant the key",
        container_key::grant_permission(
            &abi,
            granted,
            Subject::ContainerName(c"foo-test"),
            rights::SEARCH,
        ),
    )?;
    step("link the key", key::link(granted, keyring))
}

/// Names the step that failed.
fn step<T>(what: &str, done: std::io::Result<T>) -> Outcome<T> {
    done.map_err(|error| format!("cannot {what}: {error}").into())
}
