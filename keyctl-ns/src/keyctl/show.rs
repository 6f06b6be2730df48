//! `show`: a keyring and what hangs below it, as a tree.

use keyns_sys::KeySerial;
use keyns_sys::key;

use super::command::Call;
use super::description::{Described, Viewer};
use super::key_id;
use super::output::{Output, push_hex_serial, push_signed};
use super::ring::Links;
use super::stop::{Stop, errno, failed};

/// What is deeper is left out without a word.
const DEEPEST: usize = 8;

/// `show [-x] [<keyring>]`
pub(crate) fn show(call: &mut Call<'_>) -> Result<i32, Stop> {
    let root = match call.words {
        [] => {
            call.out.push(b"Session Keyring\n");
            KeySerial::SESSION
        }
        [word, ..] => {
            let root = key_id::key(word)?;
            call.out.push(b"Keyring\n");
            root
        }
    };
    let root = key::get_keyring_id(root, false).map_err(failed("Unable to dump key"))?;
    let mut tree = Tree {
        out: call.out,
        hex: call.flag,
        viewer: Viewer::default(),
        buffer: [0; key::DESCRIPTION_BUFFER],
        indent: Vec::new(),
    };
    tree.key(root, 0, true)?;
    Ok(0)
}

struct Tree<'a> {
    out: &'a mut Output,
    hex: bool,
    viewer: Viewer,
    buffer: [u8; key::DESCRIPTION_BUFFER],
    /// A blank, and four columns for each keyring between the root and the line.
    indent: Vec<u8>,
}

impl Tree<'_> {
    /// Prints the line of a key and, of a keyring, the lines of all below it.
    fn key(&mut self, serial: KeySerial, depth: usize, is_last: bool) -> Result<(), Stop> {
        let text = match key::describe_into(serial, &mut self.buffer) {
            Ok(size) => self.buffer.get(..size.saturating_sub(1)),
            Err(error) => {
                inaccessible(self.out, serial, errno(&error), 0);
                return Ok(());
            }
        };
        let described = text
            .and_then(Described::parse)
            .ok_or_else(|| unparsable(serial))?;
        let line = self.out.buffer();
        if self.hex {
            push_hex_serial(line, serial.raw());
        } else {
            push_signed(line, serial.raw(), 10);
        }
        line.push(b' ');
        self.viewer.push_presumed(line, &described);
        line.extend_from_slice(b"  ");
        push_signed(line, described.uid, 5);
        line.push(b' ');
        push_signed(line, described.gid, 5);
        line.extend_from_slice(b"  ");
        if depth > 0 {
            line.push(b' ');
            line.extend_from_slice(&self.indent);
            line.extend_from_slice(b"\\_ ");
        }
        line.extend_from_slice(described.type_);
        line.extend_from_slice(b": ");
        line.extend_from_slice(described.description);
        line.push(b'\n');
        let is_keyring = described.is_keyring();
        self.out.flush_if_full();
        if is_keyring && depth < DEEPEST {
            self.links(serial, depth, is_last)?;
        }
        Ok(())
    }

    fn links(&mut self, ring: KeySerial, depth: usize, is_last: bool) -> Result<(), Stop> {
        let links = Links::read(ring).map_err(failed("keyctl_read_alloc"))?;
        let outer = self.indent.len();
        if depth > 0 {
            let bar: &[u8] = if is_last { b"    " } else { b"|   " };
            self.indent.extend_from_slice(bar);
        }
        let count = links.count();
        for (at, key) in links.iter().enumerate() {
            self.key(key, depth + 1, at + 1 == count)?;
        }
        self.indent.truncate(outer);
        Ok(())
    }
}

/// The line of a key that cannot be described.
pub(super) fn inaccessible(out: &mut Output, serial: KeySerial, errno: i32, width: usize) {
    let line = out.buffer();
    push_signed(line, serial.raw(), width);
    line.extend_from_slice(b": key inaccessible (");
    super::errno_text::push(errno, line);
    line.extend_from_slice(b")\n");
}

/// The kernel described a key in a way it never does.
pub(super) fn unparsable(serial: KeySerial) -> Stop {
    let mut line = b"Unparsable description obtained for key ".to_vec();
    push_signed(&mut line, serial.raw(), 0);
    Stop::said(line, 3)
}
