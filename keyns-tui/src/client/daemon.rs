//! Containers and their keys, through keynsd.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keyctl_ns::command::grant::{GrantArgs, lend};
use keyctl_ns::daemon::Daemon as Connection;
use keyctl_ns::error::ErrorKind;
use keyctl_ns::key::Target;
use keyctl_ns::{payload, view};
use keyns::subject::Subject;
use keyns_interfaces::containers::{
    Create, GetKeyring, Kill, List as ListContainers, Remove, Show,
};
use keyns_interfaces::keys::{GetAcl, Invalidate, Move, Read, Ungrant};
use keyns_interfaces::manager::{GetFeatures, GetStatus};
use keyns_interfaces::upcalls::{
    self, Answer, Intercept, List as ListUpcalls, Query, Reroute, Unintercept,
};
use keyns_interfaces::{ByteText, Method, Payload};

use super::{Asked, Client, Contents, Failure, Preview, Reply, Request, Response};

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
    /// Refuses a request whose number may be that of somebody else's by now, if the daemon was started
    /// again.
    fn demand(&mut self, request: Asked, doing: &str) -> Result<(), Failure> {
        let id = request.id;
        let current = self.call(&Query { id })?.upcall;
        if Asked::from(&current) == request {
            return Ok(());
        }
        Err(Failure::failure(format!("cannot {doing} request {id}"))
            .cause("another daemon has given this number to another request")
            .hint("choose it again"))
    }

    fn reroute(
        &mut self,
        request: Asked,
        target: &upcalls::Target,
        deadline_ms: Option<u32>,
    ) -> Result<String, Failure> {
        self.demand(request, "reroute")?;
        let done = self.call(&Reroute {
            id: request.id,
            target: target.clone(),
            deadline_ms,
        })?;
        Ok(view::rerouted(&done.upcall, target))
    }

    fn respond(&mut self, request: Asked, response: &Response) -> Result<String, Failure> {
        let id = request.id;
        let response = match response {
            Response::Payload(payload) => upcalls::Response::Payload(payload.clone()),
            Response::File(path) => upcalls::Response::Payload(content(path)?),
            Response::FromKeyring => upcalls::Response::FromKeyring,
            Response::Reject(rejection) => upcalls::Response::Reject(*rejection),
        };
        self.demand(request, "answer")?;
        let done = self.call(&Answer { id, response })?;
        let took = view::milliseconds(done.milliseconds);
        Ok(match done.outcome {
            0 => format!("request {id} is answered after {took}: the requester has its key"),
            errno => {
                let outcome = view::outcome(errno);
                format!("request {id} is rejected after {took} with {outcome}")
            }
        })
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
            Request::Upcalls { history } => {
                let listing = self.call(&ListUpcalls { history: *history })?;
                Ok(Reply::Upcalls(Box::new(listing)))
            }
            Request::Status => Ok(Reply::Status(Box::new(self.call(&GetStatus {})?))),
            Request::Features => {
                let reply = self.call(&GetFeatures {})?;
                Ok(Reply::Features(reply.features))
            }
            Request::Upcall(id) => {
                let found = self.call(&Query { id: *id })?;
                Ok(Reply::Upcall(Box::new(found.upcall)))
            }
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
            Request::Grant(wish) => self.grant(wish),
            Request::Acl(key) => {
                let acl = self.call(&GetAcl { key: key.clone() })?;
                Ok(Reply::Acl(Box::new(acl)))
            }
            Request::RevealStored(key) => {
                let read = self.call(&Read { key: key.clone() })?;
                Ok(Reply::Payload(read.payload))
            }
            change => self.change(change).map(Reply::Done),
        }
    }
}

impl Daemon {
    /// Changes something and says what was done.
    fn change(&mut self, request: &Request) -> Result<String, Failure> {
        match request {
            Request::InvalidateStored(container, serial) => {
                let key = ByteText(format!("{container}/{serial}").into_bytes());
                self.call(&Invalidate { key })?;
                Ok(format!(
                    "key {serial} of container “{}” and all copies of it are gone",
                    view::safe(container)
                ))
            }
            Request::MoveStored { key, to, replace } => {
                let moved = self.call(&Move {
                    key: key.clone(),
                    to: to.clone(),
                    replace: *replace,
                })?;
                Ok(format!(
                    "key {} is in the store of container “{}” now",
                    moved.key.serial,
                    view::safe(to)
                ))
            }
            Request::Ungrant { key, container } => {
                let done = self.call(&Ungrant {
                    key: key.clone(),
                    container: container.clone(),
                })?;
                let given_back = match done.given_back {
                    true => "; the key was lent and is given back",
                    false => "",
                };
                Ok(format!(
                    "container “{}” has no rights on key {} any more{given_back}",
                    view::safe(container),
                    view::bytes(key)
                ))
            }
            Request::Create {
                name,
                namespaces,
                root,
            } => {
                let created = self.call(&Create {
                    name: name.clone(),
                    namespaces: namespaces.clone(),
                    root: root.clone(),
                    kill_on_close: false,
                })?;
                let caveat = match created.container.caveats.first() {
                    Some(caveat) => format!(": {}", view::safe(caveat)),
                    None => String::new(),
                };
                Ok(format!(
                    "container “{}” is created{caveat}",
                    view::safe(name)
                ))
            }
            Request::Kill(container) => {
                let killed = self.call(&Kill {
                    container: container.id.to_string(),
                    signal: None,
                    process: None,
                })?;
                let rejected = match killed.upcalls_rejected {
                    0 => String::new(),
                    1 => ", 1 key request was rejected".to_owned(),
                    n => format!(", {n} key requests were rejected"),
                };
                Ok(format!(
                    "container “{}” is dead after {}{rejected}",
                    view::safe(&container.name),
                    view::milliseconds(killed.milliseconds)
                ))
            }
            Request::Remove(container) => {
                self.call(&Remove {
                    container: container.id.to_string(),
                })?;
                Ok(format!(
                    "container “{}” is removed",
                    view::safe(&container.name)
                ))
            }
            Request::Intercept(rule) => {
                let done = self.call(&Intercept {
                    container: rule.container.id.to_string(),
                    type_: rule.type_.clone(),
                    target: rule.target.clone(),
                    deadline_ms: rule.deadline_ms,
                    rate: rule.rate,
                    burst: None,
                    pending: rule.pending,
                })?;
                let former = match done.replaced {
                    true => ", in place of the former rule",
                    false => "",
                };
                Ok(format!(
                    "requests of container “{}” for {} go to {}{former}",
                    view::safe(&rule.container.name),
                    view::safe(&rule.type_),
                    view::target(&done.rule.target)
                ))
            }
            Request::Unintercept { container, type_ } => {
                self.call(&Unintercept {
                    container: container.id.to_string(),
                    type_: type_.clone(),
                })?;
                Ok(format!(
                    "container “{}” has no rule for {} any more",
                    view::safe(&container.name),
                    view::safe(type_)
                ))
            }
            Request::Respond { request, response } => self.respond(*request, response),
            Request::Reroute {
                request,
                target,
                deadline_ms,
            } => self.reroute(*request, target, *deadline_ms),
            other => Err(Failure::failure(format!(
                "the daemon cannot answer {other:?}"
            ))),
        }
    }

    /// Grants, or says what a grant would come to.
    fn grant(&self, wish: &GrantArgs) -> Result<Reply, Failure> {
        let Subject::Container(container) = &wish.subject else {
            return Err(Failure::usage("a mask is changed by the kernel"));
        };
        let target = Target::of(&wish.key)?;
        // What is lent for it stays lent as long as the connection.
        let mut connection = Connection::connect_with(&self.addresses, PATIENCE)?;
        let done = lend::ask(&mut connection, target, wish, container)?;
        let rights = view::rights(&done.grant.kernel);
        if done.applied {
            return Ok(Reply::Done(format!(
                "container “{container}” has {rights} on key {} {}",
                done.key.serial,
                view::key_name(&done.key)
            )));
        }
        let implied = match done.grant.implied.as_slice() {
            [] => String::new(),
            some => view::rights(some),
        };
        Ok(Reply::Preview(Box::new(Preview {
            rights,
            implied,
            mask: view::mask_in_container(done.grant.mask),
            is_copy: true,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_a_file_is_taken_byte_for_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("payload");
        std::fs::write(&path, b"secret\n\0").unwrap();
        assert_eq!(content(&path).unwrap().bytes(), b"secret\n\0");
    }

    #[test]
    fn what_could_keep_everybody_waiting_is_no_payload() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path(), Path::new("/dev/zero")] {
            let error = content(path).unwrap_err();
            assert!(error.cause.unwrap().contains("no regular file"));
        }
        let error = content(&directory.path().join("a\u{1b}b")).unwrap_err();
        assert!(error.message.contains("a\\x1bb"), "{error}");
    }
}
