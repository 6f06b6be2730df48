//! Notifications about keys: `watch`, `watch_add`, `watch_rm`, `watch_sync`.

use std::ffi::CStr;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use keyns_sys::helper_process;
use keyns_sys::watch_queue;

use super::command::Call;
use super::key_id;
use super::notification::{self, Notice, Record};
use super::number;
use super::options::{self, Order};
use super::output::push_unsigned;
use super::stop::{Stop, failed};

/// Records the queue holds.
const QUEUE_SIZE: u32 = 256;
/// The number of the watch whose end ends the program.
pub(super) const MAIN_WATCH: i32 = 1;
/// That of watches added later.
const ADDED_WATCH: i32 = 2;
const REMOVE: i32 = -1;

/// A queue that lets chosen kinds of events through.
pub(super) struct Queue {
    pub(super) read_end: OwnedFd,
    pub(super) write_end: OwnedFd,
}

impl Queue {
    pub(super) fn open(filter: u32) -> Result<Self, Stop> {
        let (read_end, write_end) = watch_queue::pipe().map_err(failed("pipe2"))?;
        watch_queue::set_size(write_end.as_fd(), QUEUE_SIZE)
            .map_err(failed("/dev/watch_queue(size)"))?;
        watch_queue::set_filter(write_end.as_fd(), filter)
            .map_err(failed("/dev/watch_queue(filter)"))?;
        Ok(Self {
            read_end,
            write_end,
        })
    }
}

/// The kinds that the values of `-f` choose together; all without any `-f`.
pub(super) fn filter_of(options: &[(u8, Option<&[u8]>)]) -> Result<u32, Stop> {
    let mut chosen = None;
    for (_, letters) in options.iter().filter(|(letter, _)| *letter == b'f') {
        let bits = notification::filter(letters.unwrap_or_default()).map_err(unknown_letter)?;
        chosen = Some(chosen.unwrap_or(0) | bits);
    }
    Ok(chosen.unwrap_or(notification::everything()))
}

fn unknown_letter(letter: u8) -> Stop {
    Stop::said(
        [b"Unknown filter character '", &[letter][..], b"'"].concat(),
        2,
    )
}

/// Where what is watched is written to.
pub(super) trait Log {
    /// A line about a key, or about the end of what was watched.
    fn line(&mut self, line: &[u8], is_end_of_key: bool);
    /// A record, before it is looked at.
    fn raw(&mut self, _: &Record) {}
    /// How much was read.
    fn size(&mut self, _: usize) {}
    /// The last line.
    fn terminated(&mut self);
}

/// Writes down what a queue reports until it ends, what is watched ends, or `SIGTERM` comes.
pub(super) fn monitor(
    queue: BorrowedFd<'_>,
    termination: BorrowedFd<'_>,
    log: &mut impl Log,
) -> Result<i32, Stop> {
    let mut buffer = [0; 4096];
    loop {
        let (has_records, is_terminated) = match watch_queue::either(queue, termination) {
            Ok(ready) => ready,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("poll")(error)),
        };
        if has_records {
            let size = match watch_queue::read(queue, &mut buffer) {
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(failed("read")(error)),
            };
            log.size(size);
            if size == 0 {
                log.line(b"-- END --\n", false);
                return Ok(0);
            }
            let mut rest = buffer.get(..size).unwrap_or_default();
            while let Some(record) =
                notification::take(&mut rest).map_err(notification::Malformed::stop)?
            {
                log.raw(&record);
                let is_end = matches!(record.notice, Notice::Removed { .. });
                let mut line = Vec::new();
                notification::push_line(&mut line, &record);
                if !line.is_empty() {
                    log.line(&line, is_end);
                }
                if is_end && i32::from(record.watch_id()) == MAIN_WATCH {
                    return Ok(0);
                }
            }
        } else if is_terminated {
            log.terminated();
            return Ok(0);
        }
    }
}

/// Everything to standard output, each line at once.
struct OnOutput<'a, 'b>(&'a mut Call<'b>);

impl Log for OnOutput<'_, '_> {
    fn line(&mut self, line: &[u8], _: bool) {
        self.0.out.push(line);
        self.0.out.flush();
    }

    fn terminated(&mut self) {
        self.line(b"Monitoring terminated\n", false);
    }
}

/// `watch [-f<filters>] <key>`
pub(crate) fn watch(call: &mut Call<'_>) -> Result<i32, Stop> {
    let order = if std::env::var_os("POSIXLY_CORRECT").is_some() {
        Order::First
    } else {
        Order::Permute
    };
    let parsed = options::parse(call.words, b"", b"f", order);
    let filter = filter_of(&parsed.options)?;
    if let Some(fault) = parsed.fault {
        return Err(fault.stop("watch"));
    }
    let [word] = parsed.operands[..] else {
        return Err(Stop::Usage);
    };
    let serial = key_id::key(word)?;
    // Before anything is watched, so that no signal falls between.
    let termination = helper_process::catch_termination().map_err(failed("sigaction"))?;
    let queue = Queue::open(filter)?;
    watch_queue::watch_key(serial, queue.write_end.as_raw_fd(), MAIN_WATCH)
        .map_err(failed("keyctl_watch_key"))?;
    monitor(
        queue.read_end.as_fd(),
        termination.as_fd(),
        &mut OnOutput(call),
    )
}

fn change(call: &Call<'_>, id: i32) -> Result<i32, Stop> {
    let [fd, word] = call.words else {
        return Err(Stop::Usage);
    };
    let fd = number::leading(fd.to_bytes());
    let serial = key_id::key(word)?;
    watch_queue::watch_key(serial, fd, id).map_err(failed("keyctl_watch_key"))?;
    Ok(0)
}

/// `watch_add <fd> <key>`
pub(crate) fn add(call: &mut Call<'_>) -> Result<i32, Stop> {
    change(call, ADDED_WATCH)
}

/// `watch_rm <fd> <key>`
pub(crate) fn remove(call: &mut Call<'_>) -> Result<i32, Stop> {
    change(call, REMOVE)
}

/// `watch_sync <fd>`: until everything has been read.
pub(crate) fn sync(call: &mut Call<'_>) -> Result<i32, Stop> {
    const ENOTTY: i32 = 25;
    const PAUSE: Duration = Duration::from_millis(200);
    let [fd] = call.words else {
        return Err(Stop::Usage);
    };
    let fd = number::leading(fd.to_bytes());
    if let Err(error) = watch_queue::sync(fd)
        && error.raw_os_error() != Some(ENOTTY)
    {
        return Err(failed("ioctl(PIPE_IOC_SYNC)")(error));
    }
    while watch_queue::waiting(fd).map_err(failed("ioctl(FIONREAD)"))? > 0 {
        std::thread::sleep(PAUSE);
    }
    Ok(0)
}

/// Appends what `-d` shows of a record.
pub(super) fn push_raw(to: &mut Vec<u8>, read: usize, record: &Record) {
    let hex = |to: &mut Vec<u8>, value: u32, digits: usize| {
        let mut text = Vec::new();
        super::output::push_hex(&mut text, &value.to_be_bytes());
        to.extend_from_slice(text.get(8 - digits..).unwrap_or_default());
    };
    to.extend_from_slice(b"NOTIFY[");
    hex(to, u32::try_from(read).unwrap_or(u32::MAX) & 0xfff, 3);
    to.extend_from_slice(b"]: ty=");
    hex(to, record.type_, 6);
    to.extend_from_slice(b" sy=");
    hex(to, record.subtype.into(), 2);
    to.extend_from_slice(b" i=");
    hex(to, record.info, 8);
    to.push(b'\n');
}

/// Appends what `-d` shows of a read.
pub(super) fn push_size(to: &mut Vec<u8>, size: usize) {
    to.extend_from_slice(b"read() = ");
    push_unsigned(to, size as u64, 0);
    to.push(b'\n');
}

/// The number of a descriptor for a program to find its queue at.
pub(super) fn target(word: &CStr) -> Result<i32, Stop> {
    let number = number::leading(word.to_bytes());
    if (3..=9).contains(&number) {
        Ok(number)
    } else {
        Err(Stop::said("The target fd must be between 3 and 9", 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[derive(Default)]
    struct Heard {
        lines: Vec<u8>,
        ends: Vec<u8>,
        terminated: bool,
    }

    impl Log for Heard {
        fn line(&mut self, line: &[u8], is_end_of_key: bool) {
            let to = if is_end_of_key {
                &mut self.ends
            } else {
                &mut self.lines
            };
            to.extend_from_slice(line);
        }

        fn terminated(&mut self) {
            self.terminated = true;
        }
    }

    fn record(type_: u32, subtype: u32, watch: u32, rest: [u32; 2]) -> Vec<u8> {
        [type_ | subtype << 24, 16 | watch << 8, rest[0], rest[1]]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect()
    }

    /// What is read is the same from any pipe; `signal` closes the one that stands for `SIGTERM`.
    fn heard(records: &[Vec<u8>], open: bool, signal: bool) -> (Result<i32, Stop>, Heard) {
        let (queue, mut write_end) = std::io::pipe().unwrap();
        let (termination, other) = std::io::pipe().unwrap();
        write_end.write_all(&records.concat()).unwrap();
        let kept = open.then_some(write_end);
        let waits = (!signal).then_some(other);
        let mut log = Heard::default();
        let result = monitor(queue.as_fd(), termination.as_fd(), &mut log);
        drop((kept, waits));
        (result, log)
    }

    #[test]
    fn the_end_of_what_is_watched_is_the_end() {
        let records = [
            record(1, 1, 1, [7, 0]),
            record(0, 0, 2, [8, 0]),
            record(0, 0, 1, [7, 0]),
            record(1, 1, 1, [9, 0]),
        ];
        let (result, log) = heard(&records, true, false);
        assert_eq!(result, Ok(0));
        assert_eq!(log.lines, b"7 upd\n");
        assert_eq!(log.ends, b"8 gc\n7 gc\n");
        assert!(!log.terminated);
    }

    #[test]
    fn what_was_reported_before_the_signal_is_written_down_first() {
        let (result, log) = heard(&[record(1, 2, 1, [7, 9])], true, true);
        assert_eq!(result, Ok(0));
        assert_eq!(log.lines, b"7 link 9\n");
        assert!(log.terminated);
    }

    #[test]
    fn the_end_of_the_queue_and_a_broken_record_are_told() {
        let (result, log) = heard(&[], false, false);
        assert_eq!((result, &log.lines[..]), (Ok(0), &b"-- END --\n"[..]));
        let (result, _) = heard(&[vec![0; 5]], true, false);
        assert_eq!(result, Err(Stop::said("Short message header: 5", 4)));
        let (result, _) = heard(&[vec![0; 8]], true, false);
        assert_eq!(result, Err(Stop::said("Bad message length: 0/8", 1)));
    }

    #[test]
    fn filters_add_up_and_none_means_all() {
        assert_eq!(filter_of(&[]), Ok(0xff));
        assert_eq!(filter_of(&[(b'f', Some(b""))]), Ok(0));
        assert_eq!(
            filter_of(&[(b'f', Some(b"i")), (b'f', Some(b"s"))]),
            Ok(0x81)
        );
        assert!(filter_of(&[(b'f', Some(b"ix"))]).is_err());
    }

    #[test]
    fn the_debugging_lines_have_fixed_widths() {
        let bytes = record(1, 2, 1, [7, 9]);
        let record = notification::take(&mut &bytes[..]).unwrap().unwrap();
        let mut text = Vec::new();
        push_size(&mut text, 16);
        push_raw(&mut text, 16, &record);
        let expected = "read() = 16\nNOTIFY[010]: ty=000001 sy=02 i=00000110\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
