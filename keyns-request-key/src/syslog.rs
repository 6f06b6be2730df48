//! One message to the log of the system.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Where the daemon listens, whichever it is.
const SOCKET: &str = "/dev/log";
const IDENT: &[u8] = b"request-key: ";
/// `LOG_AUTHPRIV` of `syslog(3)`.
const FACILITY: u8 = 10 << 3;
/// Nobody is kept waiting longer by a log that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// How important a message is (`syslog(3)`).
#[derive(Clone, Copy)]
pub(crate) enum Level {
    Error = 3,
    Debug = 7,
}

/// Sends the message. Where there is no log there is nobody to tell.
pub(crate) fn send(level: Level, message: &[u8]) {
    let priority = format!("<{}>", FACILITY | level as u8);
    let datagram = [priority.as_bytes(), IDENT, message].concat();
    let _ = UnixDatagram::unbound().and_then(|socket| {
        socket.connect(SOCKET)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send(&datagram)
    });
}
