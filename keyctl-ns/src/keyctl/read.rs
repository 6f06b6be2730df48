//! Reading payloads: `read`, `print`, `pipe`.

use keyns_sys::KeySerial;
use keyns_sys::key;
use keyns_sys::secret::SecretBytes;
use keyns_sys::standard_stream::Stream;

use super::command::Call;
use super::key_id;
use super::output::{push_dump, push_hex, push_unsigned};
use super::stop::{Stop, failed};

/// Most payloads fit, and up to one page the kernel copies but once.
const FIRST: usize = 4096;

fn payload(call: &Call<'_>) -> Result<SecretBytes, Stop> {
    let [word] = call.words else {
        return Err(Stop::Usage);
    };
    payload_of(key_id::key(word)?)
}

fn payload_of(serial: KeySerial) -> Result<SecretBytes, Stop> {
    let mut size = FIRST;
    loop {
        let mut buffer = SecretBytes::zeroed(size);
        let length =
            key::read_into(serial, buffer.as_mut_slice()).map_err(failed("keyctl_read_alloc"))?;
        if length <= size {
            return Ok(buffer.truncated(length));
        }
        size = length;
    }
}

/// `read <key>`
pub(crate) fn read(call: &mut Call<'_>) -> Result<i32, Stop> {
    let payload = payload(call)?;
    if payload.is_empty() {
        call.out.push(b"No data in key\n");
        return Ok(0);
    }
    push_unsigned(call.out.buffer(), payload.len() as u64, 0);
    call.out.push(b" bytes of data in key:\n");
    push_dump(call.out.buffer(), payload.as_slice());
    Ok(0)
}

/// `print <key>`
pub(crate) fn print(call: &mut Call<'_>) -> Result<i32, Stop> {
    let payload = payload(call)?;
    let bytes = payload.as_slice();
    let to = call.out.buffer();
    to.reserve(bytes.len() * 2 + 8);
    if bytes.iter().all(|byte| (0x20..=0x7e).contains(byte)) {
        to.extend_from_slice(bytes);
    } else {
        to.extend_from_slice(b":hex:");
        push_hex(to, bytes);
    }
    to.push(b'\n');
    Ok(0)
}

/// `pipe <key>`: by one call, whose failure is told, unlike that of any other command.
pub(crate) fn pipe(call: &mut Call<'_>) -> Result<i32, Stop> {
    let payload = payload(call)?;
    if !payload.is_empty() {
        let mut rest = payload.as_slice();
        // The original stops after a short count; nobody is served by half a payload.
        while !rest.is_empty() {
            let written = Stream::Output.write(rest).map_err(failed("write"))?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
    Ok(0)
}
