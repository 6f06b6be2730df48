//! The arguments the kernel gives.

use std::ffi::CStr;

use keyns_sys::KeySerial;
use keyns_sys::helper_process::Arguments;

/// `create <target> <fsuid> <fsgid> <thread> <process> <session>` (`call_sbin_request_key`).
pub(crate) struct Invocation {
    pub(crate) target: KeySerial,
    pub(crate) fsuid: u32,
    pub(crate) fsgid: u32,
    pub(crate) thread: KeySerial,
    pub(crate) process: KeySerial,
    pub(crate) session: KeySerial,
    /// As they came, for the original program.
    pub(crate) arguments: Arguments,
}

impl Invocation {
    /// Reads all eight arguments, the program's name included; anything else is not the kernel's.
    pub(crate) fn parse(arguments: Arguments) -> Option<Self> {
        if arguments.count() != 8 || arguments.get(1)? != c"create" {
            return None;
        }
        let target = serial(arguments.get(2)?).filter(|s| s.raw() > 0)?;
        let (fsuid, fsgid) = (id(arguments.get(3)?)?, id(arguments.get(4)?)?);
        let (thread, process, session) = (
            serial(arguments.get(5)?)?,
            serial(arguments.get(6)?)?,
            serial(arguments.get(7)?)?,
        );
        Some(Self {
            target,
            fsuid,
            fsgid,
            thread,
            process,
            session,
            arguments,
        })
    }
}

fn serial(text: &CStr) -> Option<KeySerial> {
    text.to_str()
        .ok()?
        .parse()
        .ok()
        .filter(|raw| *raw >= 0)
        .map(KeySerial::new)
}

/// The kernel prints ids with `%d`, so those from 2³¹ on arrive as negative numbers.
fn id(text: &CStr) -> Option<u32> {
    let text = text.to_str().ok()?;
    text.parse()
        .ok()
        .or_else(|| text.parse().ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    fn parse(words: &[&str]) -> Option<Invocation> {
        let words = words.iter().map(|w| CString::new(*w).unwrap()).collect();
        Invocation::parse(Arguments::leak(words))
    }

    #[test]
    fn the_kernels_arguments_are_read() {
        let words = [
            "/sbin/request-key",
            "create",
            "77",
            "1000",
            "100",
            "0",
            "8",
            "9",
        ];
        let read = parse(&words).unwrap();
        assert_eq!((read.target.raw(), read.fsuid, read.fsgid), (77, 1000, 100));
        assert_eq!(
            (read.thread.raw(), read.process.raw(), read.session.raw()),
            (0, 8, 9)
        );
        assert_eq!(read.arguments.count(), 8);
    }

    #[test]
    fn ids_from_two_to_the_31_are_printed_negative() {
        let words = ["x", "create", "1", "-2147483648", "-2", "0", "0", "1"];
        let read = parse(&words).unwrap();
        assert_eq!((read.fsuid, read.fsgid), (1 << 31, u32::MAX - 1));
    }

    #[test]
    fn anything_else_is_refused() {
        for words in [
            &[][..],
            &["x"],
            &["x", "create", "1", "0", "0", "0", "0"],
            &["x", "create", "1", "0", "0", "0", "0", "1", "1"],
            &["x", "negate", "1", "0", "0", "0", "0", "1"],
            &["x", "create", "0", "0", "0", "0", "0", "1"],
            &["x", "create", "-3", "0", "0", "0", "0", "1"],
            &["x", "create", "1", "4294967296", "0", "0", "0", "1"],
            &["x", "create", "1", "0", "", "0", "0", "1"],
            &["x", "create", "1", "0", "0", "0", "0", "2147483648"],
        ] {
            assert!(parse(words).is_none(), "{words:?}");
        }
    }
}
