//! What the steps hand on to each other.

use std::collections::BTreeSet;
use std::time::Duration;

use keyns::takeover::TakeOver;
use keyns_interfaces::Method;
use keyns_interfaces::containers::{ContainerInfo, Show, Shown};
use keyns_interfaces::upcalls::{List, UpcallInfo};

use super::kernel::{self, Answer};
use super::machine::{Machine, Made};
use super::programs::Programs;
use super::server::Server;
use super::shell::{Line, PATIENCE, Running};
use super::step::Step;
use crate::error::CommandError;

/// The container of the demo.
pub const CONTAINER: &str = "demo";
/// The container nested in it.
pub const INNER: &str = "demo.inner";
/// The key that is granted, in the manager's own keyring.
pub const TOKEN: &str = "demo:token";
/// A key of the manager that is not granted.
pub const PRIVATE: &str = "demo:private";
/// A key in the container's store.
pub const STORED: &str = "demo:stored";

/// How long a request may take to be listed.
pub const ARRIVAL: Duration = Duration::from_secs(10);

/// What the steps hand on to each other.
#[derive(Debug)]
pub struct Story {
    /// The programs.
    pub programs: Programs,
    /// The daemon.
    pub server: Server,
    /// The machine before the first step.
    pub before: Machine,
    /// What the run has made.
    pub made: Made,
    /// `/sbin/request-key`, while it is taken over.
    pub taken: Option<TakeOver>,
    /// Whether rights of a container to a key are entries in a list of the kernel, not bits of a mask.
    pub lists: bool,
    /// The container.
    pub container: Option<ContainerInfo>,
    /// The token's serial.
    pub token: i32,
    /// The private key's serial.
    pub private: i32,
    /// Serial of the container's copy of the token.
    pub copy: i32,
    /// Every payload of the run: none of them may be in the daemon's log.
    pub payloads: BTreeSet<String>,
}

impl Story {
    /// Begins.
    #[must_use]
    pub fn new(programs: Programs, server: Server, before: Machine, instance: String) -> Self {
        Self {
            programs,
            server,
            before,
            made: Made {
                instance,
                ..Made::default()
            },
            taken: None,
            lists: false,
            container: None,
            token: 0,
            private: 0,
            copy: 0,
            payloads: BTreeSet::new(),
        }
    }

    /// Asks the daemon behind the scenes.
    ///
    /// # Errors
    /// What the daemon says.
    pub fn ask<M: Method>(&self, call: &M) -> Result<M::Reply, CommandError> {
        self.server.ask(call)
    }

    /// A payload that is used from here on.
    pub fn payload(&mut self, text: &str) -> String {
        self.payloads.insert(text.to_owned());
        text.to_owned()
    }

    /// Everything about a container; its ids and keyring count as made by this run.
    ///
    /// # Errors
    /// What the daemon says.
    pub fn look_at(&mut self, container: &str) -> Result<Shown, CommandError> {
        let shown = self.ask(&Show {
            container: container.to_owned(),
        })?;
        let info = &shown.container;
        if let (Some(base), Some(count)) = (info.uid_base, info.uid_count) {
            self.made.ids.insert((base, count));
        }
        self.made.serials.extend(info.keyring);
        Ok(shown)
    }

    /// The container of the demo.
    ///
    /// # Errors
    /// When the step that makes it was not played.
    pub fn container(&self) -> Result<&ContainerInfo, CommandError> {
        self.container
            .as_ref()
            .ok_or_else(|| CommandError::failure("there is no container"))
    }

    /// What comes with the right to search a key.
    #[must_use]
    pub fn implied(&self) -> &'static [&'static str] {
        if self.lists {
            &["read"]
        } else {
            &["read", "inval"]
        }
    }

    /// What the kernel should say of a key that is the container's with these rights of it, or with
    /// this mask where it has no lists.
    ///
    /// # Errors
    /// When the container has no process.
    pub fn permissions(&self, mask: &str, rights: &str) -> Result<String, CommandError> {
        if !self.lists {
            return Ok(format!("mask {mask}"));
        }
        let pid = self.container()?.init_pid.unwrap_or_default();
        let number = kernel::status(pid, "Container")?;
        Ok(format!("container #{number}: {rights}"))
    }

    /// Waits until a request with this description waits for an answer.
    ///
    /// # Errors
    /// When it does not arrive, or its process has ended instead.
    pub fn arrival(
        &self,
        step: &Step<'_>,
        requester: &mut Running,
        description: &str,
    ) -> Result<UpcallInfo, CommandError> {
        let what = format!("the arrival of a request for “{description}”");
        step.shell().until(&what, ARRIVAL, || {
            let waiting = self.ask(&List { history: 0 })?.upcalls;
            let found = waiting
                .into_iter()
                .find(|u| u.description.bytes() == description.as_bytes());
            if found.is_none() && requester.ended()?.is_some() {
                return Err(CommandError::failure(format!(
                    "the request for “{description}” has ended before it was listed"
                )));
            }
            Ok(found)
        })
    }
}

/// Has a process in a container request a key without asking anybody, and says what it got.
///
/// # Errors
/// When the process cannot be started.
pub fn search_inside(
    step: &Step<'_>,
    container: &str,
    description: &str,
) -> Result<Answer, CommandError> {
    let ran = step.run(&Line::inside(container, &["request", "user", description]))?;
    Answer::of(&ran)
}

/// The same with callout information: a key that is not found is asked for.
///
/// # Errors
/// When the process cannot be started.
pub fn request_inside(
    step: &Step<'_>,
    type_: &str,
    description: &str,
) -> Result<Answer, CommandError> {
    let ran = step.run(&Line::inside(
        CONTAINER,
        &["request", type_, description, ""],
    ))?;
    Answer::of(&ran)
}

/// Starts a process in the container that asks for a key and waits.
///
/// # Errors
/// When it cannot be started.
pub fn requester(
    step: &Step<'_>,
    description: &str,
    callout: &str,
) -> Result<Running, CommandError> {
    step.start(&Line::inside(
        CONTAINER,
        &["who", "request", "user", description, callout],
    ))
}

/// Ends a requester and says what it got.
///
/// # Errors
/// When it does not end.
pub fn answer_of(step: &Step<'_>, requester: Running) -> Result<Answer, CommandError> {
    Answer::of(&step.finish(requester, PATIENCE)?)
}
