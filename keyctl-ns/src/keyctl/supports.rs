//! `supports`: what the kernel can do with keys.

use keyns_sys::KeySerial;
use keyns_sys::key;
use keyns_sys::key_crypto::{self, DhKeys};

use super::command::Call;
use super::output::push_hex;
use super::stop::{Stop, failed};

/// Names, and where `KEYCTL_CAPABILITIES` has the bit.
const CAPABILITIES: [(&[u8], usize, u8); 11] = [
    (b"capabilities", 0, 0x01),
    (b"persistent_keyrings", 0, 0x02),
    (b"dh_compute", 0, 0x04),
    (b"public_key", 0, 0x08),
    (b"big_key_type", 0, 0x10),
    (b"key_invalidate", 0, 0x20),
    (b"restrict_keyring", 0, 0x40),
    (b"move_key", 0, 0x80),
    (b"ns_keyring_name", 1, 0x01),
    (b"ns_key_tag", 1, 0x02),
    (b"notify", 1, 0x04),
];

/// What the kernel says, or what it lets find out if it is older than Linux 5.4.
fn capabilities() -> Result<Vec<u8>, Stop> {
    match key::capabilities() {
        Err(error) if is_unsupported(&error) => Ok(vec![probed()]),
        other => other.map_err(failed("keyctl_capabilities")),
    }
}

fn is_unsupported(error: &std::io::Error) -> bool {
    const EOPNOTSUPP: i32 = 95;
    error.raw_os_error() == Some(EOPNOTSUPP)
}

/// The first byte, from operations on no key: each fails, but not as one that is not there. The
/// type `big_key` does not show this way.
fn probed() -> u8 {
    let none = KeySerial::NONE;
    let keys = DhKeys {
        private: none,
        prime: none,
        base: none,
    };
    let mut bits = 0;
    let mut probe = |bit, result: std::io::Result<()>| {
        if !result.is_err_and(|error| is_unsupported(&error)) {
            bits |= bit;
        }
    };
    probe(0x02, key::get_persistent(None, none).map(drop));
    probe(0x04, key_crypto::dh_compute(keys).map(drop));
    probe(0x08, key_crypto::pkey_query(none, c"").map(drop));
    probe(0x20, key::invalidate(none));
    probe(0x40, key::restrict_keyring(none, None, None));
    probe(0x80, key::move_key(none, none, none, 0));
    bits
}

/// `supports [<cap> | --raw]`
pub(crate) fn supports(call: &mut Call<'_>) -> Result<i32, Stop> {
    let capabilities = capabilities()?;
    let has = |byte: usize, bit| capabilities.get(byte).is_some_and(|bits| bits & bit != 0);
    match call.words.first().map(|word| word.to_bytes()) {
        None => {
            for (name, byte, bit) in CAPABILITIES {
                call.out.push(b"have_");
                call.out.push(name);
                call.out
                    .push(if has(byte, bit) { b"=1\n" } else { b"=0\n" });
            }
            Ok(0)
        }
        Some(b"--raw") => {
            push_hex(call.out.buffer(), &capabilities);
            call.out.push(b"\n");
            // As if it were the name of something unknown.
            Ok(3)
        }
        Some(wanted) => Ok(CAPABILITIES
            .iter()
            .find(|(name, _, _)| *name == wanted)
            .map_or(3, |(_, byte, bit)| i32::from(!has(*byte, *bit)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_out_is_what_the_kernel_says() {
        let said = key::capabilities().unwrap()[0];
        // Neither that it says it nor `big_key` can be found out.
        assert_eq!(probed(), said & !0x11);
    }
}
