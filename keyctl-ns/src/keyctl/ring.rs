//! What a keyring holds.

use std::io;

use keyns_sys::KeySerial;
use keyns_sys::key;

/// A first guess that fits 1,024 links; up to one page, the kernel copies but once.
const FIRST: usize = 4096;

/// The links of a keyring in the kernel's order, read by one call where they fit.
#[derive(Debug)]
pub(crate) struct Links(Vec<u8>);

impl Links {
    /// Reads a keyring. Any other key can be read too: its payload is taken for serials, and a rest
    /// of less than four bytes for none.
    ///
    /// # Errors
    /// `KEYCTL_READ`.
    pub(crate) fn read(ring: KeySerial) -> io::Result<Self> {
        let mut bytes = vec![0; FIRST];
        loop {
            let size = key::read_into(ring, &mut bytes)?;
            if size <= bytes.len() {
                bytes.truncate(size);
                return Ok(Self(bytes));
            }
            bytes = vec![0; size];
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len() / 4
    }

    pub(crate) fn get(&self, at: usize) -> Option<KeySerial> {
        let (serials, _) = self.0.as_chunks::<4>();
        serials.get(at).map(|bytes| serial(*bytes))
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = KeySerial> {
        let (serials, _) = self.0.as_chunks::<4>();
        serials.iter().map(|bytes| serial(*bytes))
    }
}

fn serial(bytes: [u8; 4]) -> KeySerial {
    KeySerial::new(i32::from_ne_bytes(bytes))
}
