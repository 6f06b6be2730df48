//! `test-upcall [QUEUE]`: answers the requests for keys that `test-container` has queued, on a kernel
//! that can queue them.
//!
//! QUEUE is the serial number of a keyring, else the keyring `upcall` of this session. Each request is
//! printed and given to `/sbin/request-key`, in a process that has the authority over it and over
//! nothing else. Ends when the queue does.

use std::error::Error;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};

use keyns_sys::container_abi::ContainerAbi;
use keyns_sys::container_key::{self, QueuedRequest};
use keyns_sys::process::{self, Fork, ForkOptions, SingleThreaded};
use keyns_sys::{KeySerial, execute, key, watch_queue};

/// `NOTIFY_KEY_LINKED`.
const LINKED: u32 = 1 << 2;
/// Records that the kernel keeps for us. Lost ones do no harm: what is queued is found in the queue.
const RECORDS: u32 = 256;
const AUTHORISATION: &std::ffi::CStr = c".request_key_auth";

/// What goes wrong, and where.
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let alone = SingleThreaded::prove()?;
    let abi = ContainerAbi::read()?.ok_or("this kernel has no containers")?;
    let queue = match std::env::args().nth(1) {
        Some(serial) => KeySerial::new(serial.parse()?),
        None => step(
            "find the queue",
            key::search(KeySerial::SESSION, c"keyring", c"upcall", KeySerial::NONE),
        )?,
    };
    let (notices, watch) = step("make a notification pipe", watch_queue::pipe())?;
    step("size it", watch_queue::set_size(watch.as_fd(), RECORDS))?;
    step("filter it", watch_queue::set_filter(watch.as_fd(), LINKED))?;
    step(
        "watch the queue",
        watch_queue::watch_key(queue, watch.as_raw_fd(), 1),
    )?;
    println!("Waiting for requests in keyring {queue}");
    loop {
        // A record only wakes; what there is to do is in the queue, where it may have been before.
        while let Some(authorisation) = step(
            "look into the queue",
            container_key::find_lru(&abi, queue, AUTHORISATION),
        )? {
            match container_key::query_request(&abi, authorisation) {
                Ok(request) => serve(&alone, queue, authorisation, &request)?,
                // Somebody else was faster, or the requester has gone.
                Err(error) => println!("request {authorisation}: {error}"),
            }
        }
        reap();
        let mut entry = [rustix::event::PollFd::new(
            &notices,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut entry, None)?;
        let mut records = [0; 4096];
        let read = watch_queue::read(notices.as_fd(), &mut records)?;
        tell(records.get(..read).unwrap_or_default());
    }
}

/// Prints notices of keys (`struct key_notification` of linux/watch_queue.h): type and subtype, lengths
/// and numbers, the key that is watched, and what was done to it with which other.
fn tell(mut records: &[u8]) {
    const LENGTH: u32 = 0x7f;

    let word = |record: &[u8], index: usize| {
        let bytes = record.get(4 * index..4 * index + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    while let (Some(kind), Some(info)) = (word(records, 0), word(records, 1)) {
        let length = usize::try_from(info & LENGTH).unwrap_or(0).max(8);
        let (kind, change) = (kind & 0x00ff_ffff, kind >> 24);
        println!("NOTIFY ty={kind:04x} sy={change:04x} i={info:08x}");
        if let (Some(key), Some(other)) = (word(records, 2), word(records, 3)) {
            println!("KEY {key} change={change} aux={other}");
        }
        records = records.get(length..).unwrap_or_default();
    }
}

fn serve(
    alone: &SingleThreaded,
    queue: KeySerial,
    authorisation: KeySerial,
    request: &QueuedRequest,
) -> Outcome<()> {
    let operation = String::from_utf8_lossy(&request.operation).into_owned();
    let callout = step("read the callout information", key::read(authorisation))?;
    println!(
        "Authentication key {authorisation}\n\
         - {operation} {}\n\
         - uid={} gid={}\n\
         - rings={},{},{}\n\
         - callout='{}'\n\
         - container={}",
        request.target,
        request.fsuid,
        request.fsgid,
        request.thread,
        request.process,
        request.session,
        keyns::text::escape(&callout),
        request.container,
    );
    match process::fork(alone, ForkOptions::default())? {
        Fork::Parent { .. } => Ok(()),
        Fork::Child => {
            // The thread keyring survives the new session, and the session is what the program keeps.
            step(
                "take the authority",
                key::move_key(authorisation, queue, KeySerial::THREAD, 0),
            )?;
            step("make a session keyring", key::join_session_keyring(None))?;
            step(
                "keep the authority",
                key::move_key(authorisation, KeySerial::THREAD, KeySerial::SESSION, 0),
            )?;
            let numbers = [
                request.target.to_string(),
                request.fsuid.to_string(),
                request.fsgid.to_string(),
                request.thread.to_string(),
                request.process.to_string(),
                request.session.to_string(),
            ];
            let mut words = vec![c"request-key".into(), CString::new(operation)?];
            for number in numbers {
                words.push(CString::new(number)?);
            }
            let words: Vec<_> = words.iter().map(CString::as_c_str).collect();
            Err(execute::file(c"/sbin/request-key", &words).into())
        }
    }
}

/// Lets go of the programs that have ended.
fn reap() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|s| s != WaitStatus::StillAlive) {}
}

/// Names the step that failed.
fn step<T>(what: &str, done: std::io::Result<T>) -> Outcome<T> {
    done.map_err(|error| format!("cannot {what}: {error}").into())
}
