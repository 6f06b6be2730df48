//! `describe`, `rdescribe`, `list`, `rlist`: what a key is, and what a keyring holds.

use keyns_sys::KeySerial;
use keyns_sys::key;

use super::command::Call;
use super::description::{Described, Viewer, push_mask};
use super::key_id;
use super::output::push_signed;
use super::ring::Links;
use super::show::{inaccessible, unparsable};
use super::stop::{Stop, errno, failed};

/// `describe <keyring>`
pub(crate) fn describe(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word] = call.words else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    let mut buffer = [0; key::DESCRIPTION_BUFFER];
    let text = text_of(serial, &mut buffer, "keyctl_describe_alloc")?;
    let described = Described::parse(text).ok_or_else(|| unparsable(serial))?;
    let line = call.out.buffer();
    // The number as it was given: a special one stays special.
    push_signed(line, serial.raw(), 9);
    line.extend_from_slice(b": ");
    push_mask(line, described.mask);
    push_rest(line, &described);
    Ok(0)
}

/// ` %5d %5d type: description`
fn push_rest(line: &mut Vec<u8>, described: &Described<'_>) {
    line.push(b' ');
    push_signed(line, described.uid, 5);
    line.push(b' ');
    push_signed(line, described.gid, 5);
    line.push(b' ');
    line.extend_from_slice(described.type_);
    line.extend_from_slice(b": ");
    line.extend_from_slice(described.description);
    line.push(b'\n');
}

fn text_of<'a>(serial: KeySerial, buffer: &'a mut [u8], label: &str) -> Result<&'a [u8], Stop> {
    let size = key::describe_into(serial, buffer).map_err(failed(label))?;
    buffer
        .get(..size.saturating_sub(1))
        .ok_or_else(|| unparsable(serial))
}

/// `rdescribe <keyring> [sep]`
pub(crate) fn rdescribe(call: &mut Call<'_>) -> Result<i32, Stop> {
    let (word, separator) = match call.words {
        [word] => (word, None),
        [word, separator] => {
            // Of a separator of several bytes the first one serves.
            let first = separator.to_bytes().first().ok_or(Stop::Usage)?;
            (word, Some(*first))
        }
        _ => return Err(Stop::Usage),
    };
    let serial = key_id::key(word)?;
    let mut buffer = [0; key::DESCRIPTION_BUFFER];
    let text = text_of(serial, &mut buffer, "keyctl_describe")?;
    let line = call.out.buffer();
    match separator {
        // Those of the description too.
        Some(separator) => line.extend(
            text.iter()
                .map(|byte| if *byte == b';' { separator } else { *byte }),
        ),
        None => line.extend_from_slice(text),
    }
    line.push(b'\n');
    Ok(0)
}

/// `list <keyring>`
pub(crate) fn list(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word] = call.words else {
        return Err(Stop::Usage);
    };
    let links = Links::read(key_id::key(word)?).map_err(failed("keyctl_read_alloc"))?;
    match links.count() {
        0 => {
            call.out.push(b"keyring is empty\n");
            return Ok(0);
        }
        1 => call.out.push(b"1 key in keyring:\n"),
        count => {
            super::output::push_unsigned(call.out.buffer(), count as u64, 0);
            call.out.push(b" keys in keyring:\n");
        }
    }
    let viewer = Viewer::default();
    let mut buffer = [0; key::DESCRIPTION_BUFFER];
    for serial in links.iter() {
        let text = match key::describe_into(serial, &mut buffer) {
            Ok(size) => buffer.get(..size.saturating_sub(1)),
            Err(error) => {
                inaccessible(call.out, serial, errno(&error), 9);
                continue;
            }
        };
        let described = text
            .and_then(Described::parse)
            .ok_or_else(|| unparsable(serial))?;
        let line = call.out.buffer();
        push_signed(line, serial.raw(), 9);
        line.extend_from_slice(b": ");
        viewer.push_presumed(line, &described);
        push_rest(line, &described);
        call.out.flush_if_full();
    }
    Ok(0)
}

/// `rlist <keyring>`
pub(crate) fn rlist(call: &mut Call<'_>) -> Result<i32, Stop> {
    let [word] = call.words else {
        return Err(Stop::Usage);
    };
    let links = Links::read(key_id::key(word)?).map_err(failed("keyctl_read_alloc"))?;
    for (at, serial) in links.iter().enumerate() {
        let line = call.out.buffer();
        if at > 0 {
            line.push(b' ');
        }
        push_signed(line, serial.raw(), 0);
        call.out.flush_if_full();
    }
    call.out.push(b"\n");
    Ok(0)
}
