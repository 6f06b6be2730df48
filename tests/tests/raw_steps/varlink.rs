//! Varlink over a Unix socket, by hand: JSON and a NUL.

use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the daemon.
pub(crate) struct Connection {
    stream: UnixStream,
    rest: Vec<u8>,
}

/// The parameters of a reply, or the last part of the error's name and its parameters.
pub(crate) type Reply = Result<Value, (String, Value)>;

impl Connection {
    pub(crate) fn open(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            rest: Vec::new(),
        })
    }

    /// Calls a method of `org.keyns` and waits for its reply.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Reply {
        self.call_with(method, parameters, &[])
    }

    /// The same with descriptors.
    pub(crate) fn call_with(
        &mut self,
        method: &str,
        parameters: Value,
        descriptors: &[BorrowedFd<'_>],
    ) -> Reply {
        let call = json!({"method": format!("org.keyns.{method}"), "parameters": parameters});
        self.send(&call, descriptors);
        self.receive()
    }

    /// Asks for a stream of replies, each of which [`Self::receive`] returns.
    pub(crate) fn subscribe(&mut self, method: &str, parameters: Value) {
        let method = format!("org.keyns.{method}");
        self.send(
            &json!({"method": method, "parameters": parameters, "more": true}),
            &[],
        );
    }

    fn send(&mut self, call: &Value, descriptors: &[BorrowedFd<'_>]) {
        let mut frame = call.to_string().into_bytes();
        frame.push(0);
        let raw: Vec<i32> = descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let socket = self.stream.as_raw_fd();
        let sent = sendmsg::<()>(
            socket,
            &[IoSlice::new(&frame)],
            control,
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        self.stream.write_all(&frame[sent..]).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Reply {
        let frame = loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == 0) {
                let after = self.rest.split_off(end + 1);
                let mut frame = std::mem::replace(&mut self.rest, after);
                frame.pop();
                break frame;
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the daemon has hung up");
            self.rest.extend_from_slice(&buffer[..count]);
        };
        let reply: Value = serde_json::from_slice(&frame).unwrap();
        let parameters = reply.get("parameters").cloned().unwrap_or_default();
        match reply.get("error").and_then(Value::as_str) {
            None => Ok(parameters),
            Some(error) => Err((error.rsplit('.').next().unwrap().to_owned(), parameters)),
        }
    }
}

/// The daemon, one connection a call.
pub(crate) struct Daemon {
    pub(crate) socket: PathBuf,
}

impl Daemon {
    pub(crate) fn open(&self) -> Connection {
        Connection::open(&self.socket).unwrap()
    }

    /// Calls a method that must succeed.
    pub(crate) fn call(&self, method: &str, parameters: Value) -> Value {
        self.open()
            .call(method, parameters.clone())
            .unwrap_or_else(|(error, details)| panic!("{method}{parameters}: {error} {details}"))
    }
}

/// RFC 4648, as payloads travel.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (u32::from(chunk[0]) << 16)
            | (u32::from(chunk.get(1).copied().unwrap_or(0)) << 8)
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        for n in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * n)) as usize & 63];
            text.push(if n <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

#[test]
fn base64_is_that_of_the_rfc() {
    for (plain, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(plain.as_bytes()), text);
    }
}
