//! The name shelter: where the engine's keyrings are born.
//!
//! Whoever creates a keyring publishes its name in its own user namespace, and a process of that
//! namespace that may search the keyring can join it by that name as its session keyring, which
//! gives full possession (`find_keyring_by_name` in security/keys/keyring.c). The shelter is one
//! process in a user namespace of its own, into which no id is mapped. It creates keyrings, as
//! kernel uid 0 as before, and does nothing else; the key worker links them to where they belong.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::process::Child;
use std::time::Duration;

use keyns_sys::process::{SingleThreaded, close_all_but, take_inherited};
use keyns_sys::{KeySerial, key};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use crate::engine::channel::Channel;
use crate::engine::error::EngineError;
use crate::engine::failure::Failure;
use crate::engine::program::SealedProgram;

/// How long the shelter may take for an answer before it is replaced.
const PATIENCE: Duration = Duration::from_secs(5);

/// Possessor all, owner view and link: enough for the worker to take it over.
const NEWBORN: u32 = 0x3f11_0000;

#[derive(Serialize, Deserialize)]
enum Request {
    /// Create a keyring of this description and hold it.
    Create(String),
    /// Let go of what was created.
    Release,
}

type Answer = Result<i32, Failure>;

/// The worker's side: starts the shelter when it is needed and again when it died.
#[derive(Debug)]
pub(super) struct Shelter {
    program: SealedProgram,
    running: Option<(Channel, Child)>,
}

impl Shelter {
    pub(super) fn new(program: SealedProgram) -> Self {
        Self {
            program,
            running: None,
        }
    }

    /// A new keyring, linked only in the shelter's process keyring until [`Self::release`].
    pub(super) fn create(&mut self, description: &str) -> Result<KeySerial, EngineError> {
        let request = Request::Create(description.to_owned());
        // A shelter that was killed is noticed only when it is asked; one that is started anew and
        // fails as well has a reason worth reporting.
        let was_running = self.running.is_some();
        match self.ask(&request) {
            Err(EngineError::Helper { .. }) if was_running => self.ask(&request),
            other => other,
        }
        .map(KeySerial::new)
    }

    /// Drops the shelter's own link to what it created last.
    pub(super) fn release(&mut self) -> Result<(), EngineError> {
        match self.ask(&Request::Release) {
            // A dead shelter holds nothing.
            Ok(_) | Err(EngineError::Helper { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<i32, EngineError> {
        let broken = |reason: String| EngineError::Helper {
            operation: "create keyrings".into(),
            reason,
        };
        let (channel, _) = match &mut self.running {
            Some(running) => running,
            none => none.insert(
                start(&self.program).map_err(EngineError::system("start the name shelter"))?,
            ),
        };
        match channel.call::<_, Answer>(request, &[]) {
            Ok((answer, _)) => Ok(answer?),
            Err(error) => {
                self.stop();
                Err(broken(error.to_string()))
            }
        }
    }

    fn stop(&mut self) {
        if let Some((channel, mut child)) = self.running.take() {
            // The end of its socket ends it; a hanging one is killed.
            drop(channel);
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Process id of the running shelter.
    #[must_use]
    pub(super) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|(_, child)| child.id())
    }
}

impl Drop for Shelter {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(program: &SealedProgram) -> std::io::Result<(Channel, Child)> {
    let (ours, theirs) = Channel::pair()?;
    ours.set_timeout(Some(PATIENCE))?;
    let child = program.start(&[], theirs.as_fd())?;
    Ok((ours, child))
}

/// The shelter itself: standard input is its socket to the worker. Returns when that ends.
///
/// # Errors
/// A step of its preparation failed.
pub fn serve() -> Result<(), Failure> {
    // First of all: the worker's session keyring, inherited over fork and exec, is left.
    key::join_session_keyring(None).map_err(Failure::of("leave the session keyring"))?;
    keyns_sys::helper_process::forbid_dumps().map_err(Failure::of("forbid core dumps"))?;
    let proof = SingleThreaded::prove().map_err(Failure::of("count the threads"))?;
    close_all_but(&proof, 3, &[]).map_err(Failure::of("close inherited descriptors"))?;
    let socket = take_inherited(&proof, 0).map_err(Failure::of("take over the socket"))?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(Failure::of("enter a new user namespace"))?;
    let channel = Channel::from(socket);
    while let Ok((request, _)) = channel.receive::<Request>() {
        let answer = match request {
            Request::Create(description) => create(description),
            Request::Release => release().map(|()| 0),
        };
        if channel.send(&answer, &[]).is_err() {
            break;
        }
    }
    Ok(())
}

fn create(description: String) -> Answer {
    release()?;
    let description = CString::new(description)
        .map_err(|_| Failure::because("create a keyring with NUL in its name"))?;
    let serial = key::add_key(c"keyring", &description, &[], KeySerial::PROCESS)
        .map_err(Failure::of("create a keyring"))?;
    key::set_perm(serial, NEWBORN).map_err(Failure::of("set a new keyring's mask"))?;
    Ok(serial.raw())
}

fn release() -> Result<(), Failure> {
    key::clear(KeySerial::PROCESS).map_err(Failure::of("let go of a keyring"))
}
