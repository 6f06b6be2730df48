//! A program at the other end of three pipes: the callout information goes in, the payload comes
//! out, and what it says on standard error is logged.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use keyns::errno_text::text_of;
use keyns_sys::handler;
use keyns_sys::helper_process::forbid_dumps;
use keyns_sys::process::Ending;
use keyns_sys::secret::SecretBytes;
use keyns_sys::{KeySerial, key};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_setfl};

use super::{Piped, Prepared, Request};
use crate::Failure;
use crate::report::Report;

/// The longest payload that is taken, in bytes. A key of type `user` holds one less.
const MAX_PAYLOAD: usize = 32_768;
/// The most that is read of a payload at once.
const CHUNK: usize = 4096;
/// The longest line of a program's complaints; longer ones are broken.
const MAX_COMPLAINT: usize = 512;

impl Request<'_> {
    /// Executes the program and gives the key what it writes.
    pub(super) fn pipe(&self, prepared: &Prepared<'_>) -> Result<Piped, Failure> {
        self.report.debug(&[
            b"pipe_to_program(",
            &self.key.callout,
            b" -> ",
            prepared.program.to_bytes(),
            b")",
        ]);
        let (its_input, input) = io::pipe()?;
        let (output, its_output) = io::pipe()?;
        let (complaints, its_complaints) = io::pipe()?;
        let descriptors = [
            its_input.as_fd(),
            its_output.as_fd(),
            its_complaints.as_fd(),
        ];
        let child = match handler::start(&prepared.program, &prepared.arguments, descriptors) {
            Ok(child) => child,
            Err(error) => {
                self.report.error(&prepared.not_executed(&error).0);
                return Ok(Piped::NotExecuted);
            }
        };
        drop((its_input, its_output, its_complaints));
        // From here on this process holds a payload.
        forbid_dumps()?;
        let mut talk = Conversation {
            report: self.report,
            input: Some(input),
            output: Some(output),
            complaints: Some(complaints),
            told: 0,
            payload: SecretBytes::zeroed(MAX_PAYLOAD + 1),
            length: 0,
            complaint: Vec::with_capacity(MAX_COMPLAINT),
        };
        talk.hold(&self.key.callout)?;
        let ending = child.wait()?;
        if ending != Ending::Exited(0) {
            return Ok(Piped::Ended(ending));
        }
        let payload = talk.payload.truncated(talk.length);
        let told = format!("instantiate with {} bytes", payload.len());
        self.report.debug(&[told.as_bytes()]);
        key::instantiate(self.key.serial, payload.as_slice(), KeySerial::NONE)
            .map_err(|error| format!("instantiate key failed: {}", text_of(&error)))?;
        self.report.debug(&[b"instantiation successful"]);
        Ok(Piped::Done)
    }
}

/// The three pipes, those that are open yet.
struct Conversation<'a> {
    report: &'a Report,
    input: Option<io::PipeWriter>,
    output: Option<io::PipeReader>,
    complaints: Option<io::PipeReader>,
    /// How much of the callout information was written.
    told: usize,
    /// The payload so far, and one byte more than it may have.
    payload: SecretBytes,
    length: usize,
    /// What was said of a line that has no end yet.
    complaint: Vec<u8>,
}

impl Conversation<'_> {
    /// Until both outputs of the program are closed, by it and by all that it has started.
    fn hold(&mut self, callout: &[u8]) -> Result<(), Failure> {
        if let Some(input) = &self.input {
            fcntl_setfl(input, OFlags::NONBLOCK).map_err(io::Error::from)?;
        }
        if callout.is_empty() {
            self.input = None;
        }
        while self.output.is_some() || self.complaints.is_some() {
            let [input, output, complaints] = self.ready()?;
            if input {
                self.write(callout)?;
            }
            if output {
                self.read_payload()?;
            }
            if complaints {
                self.read_complaints()?;
            }
        }
        Ok(())
    }

    /// Waits, and says on which of the three something can be done.
    fn ready(&self) -> io::Result<[bool; 3]> {
        let input = self
            .input
            .as_ref()
            .map(|pipe| (pipe.as_fd(), PollFlags::OUT));
        let output = self
            .output
            .as_ref()
            .map(|pipe| (pipe.as_fd(), PollFlags::IN));
        let complaints = self
            .complaints
            .as_ref()
            .map(|pipe| (pipe.as_fd(), PollFlags::IN));
        let pipes = [input, output, complaints];
        let mut entries: Vec<PollFd<'_>> = pipes.iter().flatten().map(entry).collect();
        loop {
            match poll(&mut entries, None) {
                Err(rustix::io::Errno::INTR) => {}
                other => {
                    other?;
                    break;
                }
            }
        }
        let mut events = entries.iter().map(|entry| !entry.revents().is_empty());
        Ok(pipes.map(|pipe| pipe.is_some() && events.next().unwrap_or(false)))
    }

    fn write(&mut self, callout: &[u8]) -> io::Result<()> {
        let rest = callout.get(self.told..).unwrap_or_default();
        let Some(input) = &mut self.input else {
            return Ok(());
        };
        match input.write(rest) {
            Ok(count) => {
                self.told += count;
                self.report.debug(&[format!("wrote {count}").as_bytes()]);
            }
            // It need not listen.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.report.debug(&[b"EPIPE"]);
                self.told = callout.len();
            }
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(error),
        }
        if self.told >= callout.len() {
            self.input = None;
        }
        Ok(())
    }

    fn read_payload(&mut self) -> Result<(), Failure> {
        let Some(output) = &mut self.output else {
            return Ok(());
        };
        let end = (self.length + CHUNK).min(MAX_PAYLOAD + 1);
        let space = self.payload.as_mut_slice().get_mut(self.length..end);
        match output.read(space.unwrap_or_default()) {
            Ok(count) => {
                self.report.debug(&[format!("read {count}").as_bytes()]);
                self.length += count;
                if count == 0 {
                    self.output = None;
                }
            }
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if self.length > MAX_PAYLOAD {
            return Err("Too much data read from query program".into());
        }
        Ok(())
    }

    fn read_complaints(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.complaints else {
            return Ok(());
        };
        let mut buffer = [0; MAX_COMPLAINT];
        let space = MAX_COMPLAINT - self.complaint.len();
        match pipe.read(buffer.get_mut(..space).unwrap_or_default()) {
            Ok(count) => {
                self.report.debug(&[format!("read err {count}").as_bytes()]);
                let said = buffer.get(..count).unwrap_or_default();
                self.complaint.extend_from_slice(said);
                self.forward(count == 0);
                if count == 0 {
                    self.complaints = None;
                }
            }
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Forwards whole lines, and the rest at the end or when there is no space for more.
    fn forward(&mut self, is_end: bool) {
        while let Some(end) = self.complaint.iter().position(|b| *b == b'\n') {
            let rest = self.complaint.split_off(end + 1);
            self.complaint.truncate(end);
            self.complain();
            self.complaint = rest;
        }
        if self.complaint.len() == MAX_COMPLAINT || (is_end && !self.complaint.is_empty()) {
            self.complain();
            self.complaint.clear();
        }
    }

    fn complain(&self) {
        self.report
            .error(&[b"Child: ", self.complaint.as_slice()].concat());
    }
}

fn entry<'a>((pipe, flags): &(BorrowedFd<'a>, PollFlags)) -> PollFd<'a> {
    PollFd::from_borrowed_fd(*pipe, *flags)
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
