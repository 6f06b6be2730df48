//! Containers and their keys, through keynsd.

use std::path::PathBuf;
use std::time::Duration;

use keyctl_ns::daemon::Daemon as Connection;
use keyctl_ns::error::ErrorKind;
use keyctl_ns::view;
use keyns_interfaces::containers::{GetKeyring, List as ListContainers, Show};
use keyns_interfaces::keys::Invalidate;
use keyns_interfaces::{ByteText, Method};

use super::{Client, Contents, Failure, Reply, Request};

/// How long a call may take. What hangs longer is shown as stale, and asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon, connected to when it is asked.
pub struct Daemon {
    addresses: Vec<PathBuf>,
    connection: Option<Connection>,
}

impl Daemon {
    /// A daemon behind the first of these sockets that answers.
    #[must_use]
    pub fn new(addresses: Vec<PathBuf>) -> Self {
        Self {
            addresses,
            connection: None,
        }
    }

    /// Calls a method, on a new connection if there is none: an idle one is closed after a minute.
    fn call<M: Method>(&mut self, call: &M) -> Result<M::Reply, Failure> {
        if let Some(connection) = &mut self.connection {
            match connection.call(call) {
                Err(error) if error.kind == ErrorKind::Unreachable => self.connection = None,
                Err(error) => {
                    if error.kind == ErrorKind::TimedOut {
                        self.connection = None;
                    }
                    return Err(error);
                }
                done => return done,
            }
        }
        let mut connection = Connection::connect_with(&self.addresses, PATIENCE)?;
        let result = connection.call(call);
        let lost =
            |error: &Failure| matches!(error.kind, ErrorKind::Unreachable | ErrorKind::TimedOut);
        self.connection = match &result {
            Err(error) if lost(error) => None,
            _ => Some(connection),
        };
        result
    }
}

impl Client for Daemon {
    fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        match request {
            Request::Containers => {
                let listing = self.call(&ListContainers { dead: true })?;
                Ok(Reply::Containers(listing.containers))
            }
            Request::Contents(container) => {
                let shown = self.call(&Show {
                    container: container.clone(),
                })?;
                // A dead container has none any more.
                let copies = match shown.container.keyring {
                    Some(_) => {
                        let call = GetKeyring {
                            container: shown.container.id.to_string(),
                        };
                        self.call(&call)
                            .map(|keyring| keyring.keys)
                            .unwrap_or_default()
                    }
                    None => Vec::new(),
                };
                Ok(Reply::Contents(Box::new(Contents { shown, copies })))
            }
            Request::InvalidateStored(container, serial) => {
                let key = ByteText(format!("{container}/{serial}").into_bytes());
                self.call(&Invalidate { key })?;
                Ok(Reply::Done(format!(
                    "key {serial} of container “{}” and all copies of it are gone",
                    view::safe(container)
                )))
            }
            other => Err(Failure::failure(format!(
                "the daemon cannot answer {other:?}"
            ))),
        }
    }
}
