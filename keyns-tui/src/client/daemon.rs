//! Containers and their keys, through keynsd.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keyctl_ns::daemon::Daemon as Connection;
use keyctl_ns::error::ErrorKind;
use keyctl_ns::{payload, view};
use keyns_interfaces::containers::{GetKeyring, List as ListContainers, Show};
use keyns_interfaces::keys::Invalidate;
use keyns_interfaces::upcalls::{self, Answer, List as ListUpcalls, Query};
use keyns_interfaces::{ByteText, Method, Payload};

use super::{Asked, Client, Contents, Failure, Reply, Request, Response};

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

impl Daemon {
    /// Answers a request by hand.
    fn respond(&mut self, request: Asked, response: &Response) -> Result<Reply, Failure> {
        let id = request.id;
        let response = match response {
            Response::Payload(payload) => upcalls::Response::Payload(payload.clone()),
            Response::File(path) => upcalls::Response::Payload(content(path)?),
            Response::FromKeyring => upcalls::Response::FromKeyring,
            Response::Reject(rejection) => upcalls::Response::Reject(*rejection),
        };
        // The number may be that of somebody else's request by now, if the daemon was started again.
        let current = self.call(&Query { id })?.upcall;
        if Asked::from(&current) != request {
            return Err(Failure::failure(format!("cannot answer request {id}"))
                .cause("another daemon has given this number to another request")
                .hint("choose it again"));
        }
        let done = self.call(&Answer { id, response })?;
        let took = view::milliseconds(done.milliseconds);
        Ok(Reply::Done(match done.outcome {
            0 => format!("request {id} is answered after {took}: the requester has its key"),
            errno => {
                let outcome = view::outcome(errno);
                format!("request {id} is rejected after {took} with {outcome}")
            }
        }))
    }
}

/// The content of a file. Others than regular ones could keep everybody who asks the daemon waiting.
fn content(path: &Path) -> Result<Payload, Failure> {
    use std::os::unix::ffi::OsStrExt as _;
    let shown = keyns::text::Escaped::new(path.as_os_str().as_bytes())
        .cut(120)
        .to_string();
    let doing = format!("cannot read the payload from “{shown}”");
    let metadata = std::fs::metadata(path).map_err(|error| Failure::io(&doing, &error))?;
    if !metadata.is_file() {
        return Err(Failure::usage(doing).cause("it is no regular file"));
    }
    Ok(Payload::new(payload::from_file(path)?.to_vec()))
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
            Request::Upcalls { history } => {
                let listing = self.call(&ListUpcalls { history: *history })?;
                Ok(Reply::Upcalls(Box::new(listing)))
            }
            Request::Upcall(id) => {
                let found = self.call(&Query { id: *id })?;
                Ok(Reply::Upcall(Box::new(found.upcall)))
            }
            Request::Respond { request, response } => self.respond(*request, response),
            other => Err(Failure::failure(format!(
                "the daemon cannot answer {other:?}"
            ))),
        }
    }
}
