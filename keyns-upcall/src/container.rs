//! From the authorisation key to a decision, when at least one container lives.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use keyns_sys::helper_process::{self, monotonic_now};
use keyns_sys::key;
use keyns_sys::requester::{self, ThreadDir};
use keyns_sys::routing_entry::RoutingEntry;
use keyns_sys::secret::SecretBytes;
use keyns_sys::upcall_wire::{Doubts, Request, RequesterFd};

use crate::auth_key::{self, AuthKey};
use crate::conversation::{Conversation, Ending};
use crate::invocation::Invocation;
use crate::membership;
use crate::oom::Protection;
use crate::origin;
use crate::original;
use crate::routing::Table;
use keyns_sys::request::Undecidable;
use keyns_sys::request::facts::{self, Credentials, Stat};
use keyns_sys::request::place::{self, Place};
use keyns_sys::request::settle;
use keyns_sys::request::target;

/// Serves one request to its end and returns the exit status.
pub(crate) fn serve(invocation: &Invocation, table: &Table) -> i32 {
    // First of all, and with as little as possible before: this is what most requests end with.
    match origin::is_plainly_of_host(invocation, table) {
        Ok(true) => return original::run(invocation),
        Ok(false) => {}
        Err(Undecidable) => return settle::undecidable(invocation.target),
    }
    let started = monotonic_now();
    match decide(invocation, table, started) {
        Ok(Ending::Original) => {
            helper_process::release_termination();
            original::run(invocation)
        }
        Ok(Ending::Settled) => 0,
        Ok(Ending::Refuse(refusal)) => settle::reject_or_fail(invocation.target, refusal),
        Err(Undecidable) => settle::undecidable(invocation.target),
    }
}

fn decide(
    invocation: &Invocation,
    table: &Table,
    started: Duration,
) -> Result<Ending, Undecidable> {
    let auth = auth_key::find(invocation.target)?;
    let thread = facts::open_thread(auth.tid)?;
    let place = Place::of(&thread)?;
    let Some(entry) = membership::route(&place, &thread, table)? else {
        return Ok(Ending::Original);
    };
    helper_process::fill_standard_descriptors();
    // Dropped with this function, so that the original program does not inherit it.
    let _protection = Protection::acquire();
    let stat = Stat::of(&thread)?;
    if stat.is_kernel_thread() {
        return Ok(Ending::Original);
    }
    let (type_name, description) = target::describe(invocation.target)?;
    let callout = SecretBytes::new(key::read(auth.serial)?);
    let _ = helper_process::forbid_dumps();
    let handle = Handle::open(auth, thread);
    let credentials = Credentials::of(&handle.thread, handle.pidfd(), auth.tid)?;
    let ids = (credentials.uids[3], credentials.gids[3]);
    let request = Request {
        target: invocation.target,
        auth: auth.serial,
        fsuid: invocation.fsuid,
        fsgid: invocation.fsgid,
        thread_keyring: invocation.thread,
        process_keyring: invocation.process,
        session_keyring: invocation.session,
        attempt: 0,
        waited_ms: 0,
        tid: auth.tid,
        tgid: credentials.tgid,
        start_time: stat.start_time,
        fd: handle.kind(),
        doubts: Doubts {
            not_waiting: !stat.is_waiting() && !facts::comes_to_wait(&handle.thread)?,
            other_ids: ids != (invocation.fsuid, invocation.fsgid),
        },
        uids: credentials.uids,
        gids: credentials.gids,
        permitted: credentials.permitted,
        net_ns: facts::net_ns(&handle.thread)?,
        pid_ns: place.pid_ns,
        user_ns: place.user_ns,
        cgroup: place::cgroup_of(&handle.thread)?,
        type_name,
        description,
        callout,
        comm: stat.comm,
        exe: facts::executable(&handle.thread),
    };
    converse(request, &handle, &entry, started)
}

fn converse(
    request: Request,
    handle: &Handle,
    entry: &RoutingEntry,
    started: Duration,
) -> Result<Ending, Undecidable> {
    let forged = target::is_reserved(&request.type_name, &request.description);
    let mut conversation = Conversation::new(request, handle.as_fd(), &entry.socket, started)?;
    Ok(if forged {
        conversation.report_forgery()
    } else {
        conversation.run()
    })
}

/// The thread, held by a pidfd where the kernel has them for threads.
struct Handle {
    thread: ThreadDir,
    pidfd: Option<OwnedFd>,
}

impl Handle {
    fn open(auth: AuthKey, thread: ThreadDir) -> Self {
        Self {
            thread,
            pidfd: requester::pidfd_of_thread(auth.tid).ok(),
        }
    }

    fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    const fn kind(&self) -> RequesterFd {
        if self.pidfd.is_some() {
            RequesterFd::Thread
        } else {
            RequesterFd::ProcDirectory
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd().unwrap_or_else(|| self.thread.as_fd())
    }
}
