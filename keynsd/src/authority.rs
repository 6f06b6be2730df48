//! Who may do what: one function, and the callers it judges.
//!
//! A caller is what the kernel recorded about the peer when it connected, or what the bus recorded in
//! the same way. Nothing it sends, and nothing looked up by its process id, takes part in a decision.

pub(crate) mod polkit;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keyns_interfaces::frame::MAX_CALL;
use keyns_interfaces::{Error, ErrorKind};
use keyns_sys::requester::NsKind;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};

use self::polkit::{No, Polkit};
use crate::namespaces;

/// Largest call of a caller who may not change anything, in bytes.
const MAX_CALL_UNPRIVILEGED: usize = 64 << 10;

/// The peer of a connection, as the kernel recorded it when it connected.
#[derive(Debug)]
pub struct Caller {
    uid: u32,
    gid: Option<u32>,
    groups: Vec<u32>,
    pid: u32,
    pidfd: Option<OwnedFd>,
    root: bool,
    bus_name: Option<String>,
}

/// The kernel did not say who the peer is. Not a [`Caller`], so it can never be taken for uid 0.
#[derive(Debug, thiserror::Error)]
#[error("the kernel does not say who the peer is: {0}")]
pub struct NoCredentials(#[source] Errno);

impl Caller {
    /// The peer of `socket`.
    ///
    /// # Errors
    /// [`NoCredentials`] if any part of them cannot be had, e.g. because the peer has ended.
    pub fn of(socket: BorrowedFd<'_>) -> Result<Self, NoCredentials> {
        let ids = getsockopt(&socket, sockopt::PeerCredentials).map_err(NoCredentials)?;
        let pid = u32::try_from(ids.pid()).ok().filter(|pid| *pid > 0);
        // Without a peer the kernel reports pid 0 and ids of −1.
        let pid = pid.ok_or(NoCredentials(Errno::ENODATA))?;
        if ids.uid() == u32::MAX || ids.gid() == u32::MAX {
            return Err(NoCredentials(Errno::EOVERFLOW));
        }
        let groups = keyns_sys::peer::groups(socket).map_err(|error| {
            NoCredentials(
                error
                    .raw_os_error()
                    .map_or(Errno::UnknownErrno, Errno::from_raw),
            )
        })?;
        let pidfd = match getsockopt(&socket, sockopt::PeerPidfd) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::ENOPROTOOPT) => None,
            Err(errno) => return Err(NoCredentials(errno)),
        };
        let root = ids.uid() == 0
            && namespaces::are_ours(NsKind::User, pid, pidfd.as_ref().map(AsFd::as_fd));
        Ok(Self {
            uid: ids.uid(),
            gid: Some(ids.gid()),
            groups,
            pid,
            pidfd,
            root,
            bus_name: None,
        })
    }

    /// The client of a bus with the unique name `name`, by what the bus says about it.
    ///
    /// # Errors
    /// [`NoCredentials`] if the bus does not know uid or process.
    pub fn on_bus(
        uid: Option<u32>,
        pid: Option<u32>,
        groups: Vec<u32>,
        pidfd: Option<OwnedFd>,
        name: &str,
    ) -> Result<Self, NoCredentials> {
        let uid = uid.filter(|uid| *uid != u32::MAX);
        let uid = uid.ok_or(NoCredentials(Errno::ENODATA))?;
        let pid = pid.filter(|pid| *pid > 0);
        let pid = pid.ok_or(NoCredentials(Errno::ENODATA))?;
        let process = pidfd.as_ref().map(AsFd::as_fd);
        Ok(Self {
            uid,
            gid: None,
            groups,
            pid,
            root: uid == 0 && namespaces::are_ours(NsKind::User, pid, process),
            pidfd,
            bus_name: Some(name.to_owned()),
        })
    }

    /// Its name on the bus, if that is where it calls.
    #[must_use]
    pub fn bus_name(&self) -> Option<&str> {
        self.bus_name.as_deref()
    }

    /// Effective uid, as a uid of the daemon's user namespace. 0 is not enough to be
    /// [root](Self::is_root).
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether the caller is root in the daemon's user namespace. A child namespace may map its
    /// uids to any of the host's, also to 0: such a process has uid 0 without root's capabilities.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// Effective gid; absent for a client of a bus, which tells all groups in one list.
    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        self.gid
    }

    /// Supplementary groups; of a client of a bus, all groups.
    #[must_use]
    pub fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// Process id, for people to read: the process may have ended since.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process itself; absent before Linux 6.5.
    #[must_use]
    pub fn process(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }
}

/// What a method does, as far as it matters for who may call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Says something about the daemon and this kernel.
    Anyone,
    /// Shows keys, containers or requests, which may belong to others.
    SeesOthersKeys,
    /// Changes keys, grants, containers, processes or rules.
    ChangesKeysOrContainers,
    /// Decides what key a requester gets.
    AnswersRequests,
}

/// What a caller is about to do.
#[derive(Debug, Clone, Copy)]
pub struct Action<'a> {
    /// Interface and method.
    pub method: &'a str,
    /// Policy that the method was registered with.
    pub policy: Policy,
}

/// Whether a person may be asked for a password on the way to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Questions {
    /// Never.
    None,
    /// The caller has said so.
    Allowed,
}

/// A refusal.
#[derive(Debug)]
pub struct Denied {
    /// Of kind [`ErrorKind::NotPermitted`].
    pub error: Error,
    /// Whether a person could have been asked, had the caller allowed it.
    pub asks: bool,
}

/// Decides who may do what.
#[derive(Debug, Default)]
pub struct Authority {
    polkit: Polkit,
}

impl Authority {
    /// Decides whether `caller` may do `action`. Every method of every front door is judged here,
    /// before its parameters are parsed: root may, and whoever polkit says may. Whatever goes wrong on
    /// the way is a refusal.
    ///
    /// # Errors
    /// [`Denied`], naming the method and what to do.
    pub async fn authorise(
        &self,
        caller: &Caller,
        action: Action<'_>,
        questions: Questions,
    ) -> Result<(), Denied> {
        if Self::needs_no_answer(caller, action) {
            return Ok(());
        }
        // The place for what a caller may do as the owner of an object, once there are owners.
        match self.polkit.ask(caller, action.policy, questions).await {
            Ok(()) => Ok(()),
            Err(no) => Err(Denied {
                asks: matches!(no, No::Challenge(_)),
                error: refused(caller, action, &no),
            }),
        }
    }

    /// Whether the caller may, whatever anybody says.
    #[must_use]
    pub fn needs_no_answer(caller: &Caller, action: Action<'_>) -> bool {
        match action.policy {
            Policy::Anyone => true,
            Policy::SeesOthersKeys | Policy::ChangesKeysOrContainers | Policy::AnswersRequests => {
                caller.is_root()
            }
        }
    }

    /// Where polkit is asked.
    pub(crate) const fn polkit(&self) -> &Polkit {
        &self.polkit
    }
}

fn refused(caller: &Caller, action: Action<'_>, no: &No) -> Error {
    let message = match caller.uid() {
        0 => format!(
            "root of another user namespace may not call {}",
            action.method
        ),
        uid => format!("uid {uid} may not call {}", action.method),
    };
    let what = match action.policy {
        Policy::Anyone | Policy::SeesOthersKeys => "it shows keys and containers of others",
        _ => "it changes keys, containers or what requesters get",
    };
    Error::new(ErrorKind::NotPermitted, message)
        .cause(format!("{what}, and {no}"))
        .hint("run it as root of the host")
}

/// Whether descriptors are taken from `caller`.
///
/// All of the daemon runs on one thread, and to close a descriptor can take for ever: a file of a
/// FUSE server is asked at every close whether that is all right, and everybody may run one.
#[must_use]
pub fn may_send_descriptors(caller: &Caller) -> bool {
    caller.is_root()
}

/// The account that connections of `caller` are counted on.
#[must_use]
pub fn account(caller: &Caller) -> Account {
    if caller.is_root() {
        Account::Root
    } else {
        Account::Uid(caller.uid)
    }
}

/// Who shares connections with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Account {
    /// Root of the daemon's user namespace.
    Root,
    /// Everybody else with this uid, which may be 0 in a user namespace of others.
    Uid(u32),
}

/// The largest call, in bytes, that is read from `caller`.
#[must_use]
pub fn largest_call(caller: &Caller) -> usize {
    if caller.is_root() {
        MAX_CALL
    } else {
        MAX_CALL_UNPRIVILEGED
    }
}
