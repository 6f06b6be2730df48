//! Executes a program as a service manager does: with descriptors from 3 on, and its own process id in
//! `LISTEN_PID`.
//!
//!     hand-over PROGRAM [ARGUMENT…]
//!
//! The descriptors come in one message over the socket that is standard input. `LISTEN_FDNAMES` is as
//! it is; `LISTEN_FDS` and `LISTEN_PID` too, where they are set, for they may be wrong on purpose.

use std::error::Error;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use keyns_sys::process::{SingleThreaded, close_all_but};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or("usage: hand-over PROGRAM")?;
    // What came by accident would take the first numbers.
    close_all_but(&SingleThreaded::prove()?, 3, &[])?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut pieces = [IoSliceMut::new(&mut byte)];
    // Without CMSG_CLOEXEC: they are to be inherited.
    recvmsg(
        std::io::stdin(),
        &mut pieces,
        &mut control,
        RecvFlags::empty(),
    )?;
    let mut count = 0;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for descriptor in descriptors {
                assert_eq!(descriptor.into_raw_fd(), 3 + count);
                count += 1;
            }
        }
    }
    let mut command = Command::new(program);
    for (name, value) in [
        ("LISTEN_FDS", count.to_string()),
        ("LISTEN_PID", std::process::id().to_string()),
    ] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    Err(command.args(arguments).exec().into())
}
