//! Standard output in one piece, and how numbers and payloads look on it.

use keyns_sys::standard_stream::Stream;

use super::errno_text;

/// From this size on the buffer is written out.
const FULL: usize = 64 * 1024;

/// Collects what goes to standard output until the command ends.
#[derive(Debug)]
pub struct Output {
    buffer: Vec<u8>,
    failure: Option<i32>,
}

impl Output {
    pub(crate) const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            failure: None,
        }
    }

    /// Where to append; to be followed by [`flush_if_full`](Self::flush_if_full) in loops.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bounds the buffer.
    pub(crate) fn flush_if_full(&mut self) {
        if self.buffer.len() >= FULL {
            self.flush();
        }
    }

    pub(crate) fn flush(&mut self) {
        if let Err(error) = Stream::Output.write_all(&self.buffer) {
            self.failure = self.failure.or(error.raw_os_error());
        }
        // It may have held payloads; what a growing vector left behind is not reached.
        self.buffer.fill(0);
        self.buffer.clear();
    }

    /// Prints to standard error. On a terminal, what was said before comes before.
    pub(crate) fn error(&mut self, text: &[u8]) {
        if !self.buffer.is_empty() && Stream::Output.is_terminal() {
            self.flush();
        }
        if !text.is_empty() {
            super::say(text);
        }
    }

    /// Writes what is left. A full device is reported, and fails the command if nothing else has;
    /// that nobody wants the output (a closed descriptor, a reader that has gone) is not.
    pub(crate) fn finish(&mut self, status: i32) -> i32 {
        if !self.buffer.is_empty() {
            self.flush();
        }
        const UNWANTED: [i32; 2] = [9, 32];
        match self.failure {
            Some(errno) if !UNWANTED.contains(&errno) => {
                let mut text = b"stdout: ".to_vec();
                errno_text::push(errno, &mut text);
                text.push(b'\n');
                super::say(&text);
                if status == 0 { 1 } else { status }
            }
            _ => status,
        }
    }
}

/// Appends `%‹width›d`.
pub fn push_signed(to: &mut Vec<u8>, number: i32, width: usize) {
    push_digits(to, number.unsigned_abs().into(), number < 0, width);
}

/// Appends `%‹width›u`.
pub fn push_unsigned(to: &mut Vec<u8>, number: u64, width: usize) {
    push_digits(to, number, false, width);
}

fn push_digits(to: &mut Vec<u8>, mut number: u64, negative: bool, width: usize) {
    let mut digits = [b' '; 24];
    let mut free = digits.len();
    let mut put = |digit: u8| {
        free = free.saturating_sub(1);
        if let Some(slot) = digits.get_mut(free) {
            *slot = digit;
        }
    };
    loop {
        put(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if negative {
        put(b'-');
    }
    let start = free.min(digits.len().saturating_sub(width));
    to.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// Appends `0x%08x`.
pub fn push_hex_serial(to: &mut Vec<u8>, serial: i32) {
    to.extend_from_slice(b"0x");
    push_hex(to, &serial.to_be_bytes());
}

/// Appends two lower-case digits for each byte.
pub fn push_hex(to: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'?');
    to.reserve(bytes.len() * 2);
    for byte in bytes {
        to.push(digit(byte >> 4));
        to.push(digit(byte & 0xf));
    }
}

/// Appends a payload as `read` shows it: lines of 32 bytes in groups of four.
pub fn push_dump(to: &mut Vec<u8>, bytes: &[u8]) {
    // Reserved at once, so that a payload leaves no copies in buffers that grew.
    to.reserve(bytes.len() * 2 + bytes.len() / 4 + 2);
    for line in bytes.chunks(32) {
        for (at, group) in line.chunks(4).enumerate() {
            if at > 0 {
                to.push(b' ');
            }
            push_hex(to, group);
        }
        to.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut to = Vec::new();
        push(&mut to);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_dump_has_no_blank_at_the_end_of_a_line() {
        let dump = |bytes: &[u8]| made(|to| push_dump(to, bytes));
        assert_eq!(dump(b""), "");
        assert_eq!(dump(b"\x01"), "01\n");
        assert_eq!(dump(b"abcd"), "61626364\n");
        assert_eq!(dump(b"abcde"), "61626364 65\n");
        let line = "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n";
        assert_eq!(dump(&[0; 32]), line);
        assert_eq!(dump(&[0; 33]), format!("{line}00\n"));
        assert_eq!(dump(&[0; 64]), format!("{line}{line}"));
    }

    #[test]
    fn serials_in_hexadecimal_have_eight_digits() {
        assert_eq!(made(|to| push_hex_serial(to, 1)), "0x00000001");
        assert_eq!(made(|to| push_hex_serial(to, -3)), "0xfffffffd");
    }

    proptest! {
        #[test]
        fn numbers_look_as_those_of_format(
            signed in proptest::num::i32::ANY, unsigned in proptest::num::u64::ANY, width in 0..20usize
        ) {
            prop_assert_eq!(made(|to| push_signed(to, signed, width)), format!("{signed:width$}"));
            prop_assert_eq!(
                made(|to| push_unsigned(to, unsigned, width)),
                format!("{unsigned:width$}")
            );
        }
    }
}
