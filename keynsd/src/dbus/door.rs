//! From a message to its method, and back.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use keyns_interfaces::{Error, ErrorKind, bus};
use serde_json::value::RawValue;
use zbus::Variant;
use zbus::message::{Flags, Message};

use super::clients::{Client, Clients, Turn};
use super::link::Link;
use super::methods::{self, Kind, Prepared, Row, Wrong};
use super::objects::{self, Object};
use super::value::without_nul;
use super::{agents, signals};
use crate::authority::{self, Action, Caller, Denied, Questions};
use crate::daemon::Daemon;
use crate::front::Front;
use crate::front::call::{self, Begun, Refusal};
use crate::front::context::{Context, Outgoing};
use crate::front::gate::Place;
use crate::front::service::ServiceError;

/// The door on one connection to the bus.
pub(super) struct Door {
    pub(super) front: Rc<Front<Daemon>>,
    pub(super) link: Rc<Link>,
    pub(super) clients: Clients,
    rows: Vec<Row>,
}

/// Why there is no proper reply.
#[derive(Debug)]
pub(super) enum Failure {
    /// A refusal or failure of the contract.
    Contract(Error),
    /// A refusal that a person could have turned into a permission.
    Unasked(Error),
    /// One of the bus’s own errors, and its text.
    Standard(&'static str, String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Contract(error)
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        if denied.asks {
            Self::Unasked(denied.error)
        } else {
            Self::Contract(denied.error)
        }
    }
}

fn standard(name: &'static str, text: impl Into<String>) -> Failure {
    Failure::Standard(name, text.into())
}

pub(super) const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";
const UNKNOWN_INTERFACE: &str = "org.freedesktop.DBus.Error.UnknownInterface";
const UNKNOWN_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";
const UNKNOWN_PROPERTY: &str = "org.freedesktop.DBus.Error.UnknownProperty";
const READ_ONLY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";
const INVALID: &str = "org.freedesktop.DBus.Error.InvalidArgs";
const LIMITS: &str = "org.freedesktop.DBus.Error.LimitsExceeded";

impl Door {
    pub(super) fn new(front: Rc<Front<Daemon>>, link: Rc<Link>) -> Rc<Self> {
        Rc::new(Self {
            front,
            link,
            clients: Clients::default(),
            rows: methods::rows(),
        })
    }

    pub(super) fn daemon(&self) -> &Rc<Daemon> {
        &self.front.router.state
    }

    /// Answers a call. What needs no waiting is answered at once: a read of a property by somebody who
    /// is known already takes no task of its own.
    pub(super) fn call(self: &Rc<Self>, message: Message) {
        let header = message.header();
        let Some(sender) = header.sender().map(ToString::to_string) else {
            return;
        };
        drop(header);
        let client = self.clients.get(&sender, || self.front.next_connection());
        let reply = match client.known().map(|caller| self.at_once(caller, &message)) {
            Some(Some(reply)) => reply,
            _ => {
                let Some(turn) = self.clients.enter(&client) else {
                    if client.known().is_none() {
                        self.clients.gone(&sender);
                    }
                    let error = standard(LIMITS, "too many calls are under way");
                    return self.answer_at_once(&message, Err(error));
                };
                let door = Rc::clone(self);
                tokio::task::spawn_local(async move { door.serve(client, turn, message).await });
                return;
            }
        };
        self.answer_at_once(&message, reply);
    }

    fn answer_at_once(self: &Rc<Self>, message: &Message, reply: Result<Message, Failure>) {
        let Some(reply) = outgoing(message, reply) else {
            return;
        };
        if let Some(reply) = self.link.try_send(reply) {
            let link = Rc::clone(&self.link);
            tokio::task::spawn_local(async move { link.send(reply).await });
        }
    }

    /// The reply to what only reads, to a caller about whom nobody has to be asked.
    fn at_once(&self, caller: &Caller, message: &Message) -> Option<Result<Message, Failure>> {
        let header = message.header();
        let interface = header.interface()?.as_str();
        if interface != "org.freedesktop.DBus.Properties" || header.unix_fds().is_some() {
            return None;
        }
        let object = Object::at(header.path()?.as_str())?;
        let action = self.action(object.shown_by());
        if !authority::Authority::needs_no_answer(caller, action) {
            return None;
        }
        Some(self.properties(object, message))
    }

    fn action(&self, method: &'static str) -> Action<'static> {
        // A method that is not there is one that nobody may call.
        let policy = self
            .front
            .router
            .policy(method)
            .unwrap_or(authority::Policy::ChangesKeysOrContainers);
        Action { method, policy }
    }

    async fn serve(self: Rc<Self>, client: Rc<Client>, turn: Turn, message: Message) {
        let reply = tokio::select! {
            biased;
            () = client.life.gone() => None,
            identified = client.identify(&self.link) => match identified {
                Ok(caller) => Some(Ok(Rc::clone(caller))),
                Err(error) => {
                    // Nobody tells of the end of somebody who was never there.
                    self.clients.gone(&client.name);
                    Some(Err(error))
                }
            },
        };
        let reply = match reply {
            None => return,
            Some(Err(error)) => Err(error.into()),
            Some(Ok(caller)) => match self.dispatch(&client, &caller, &message).await {
                Some(reply) => reply,
                None => return,
            },
        };
        drop(turn);
        if let Some(reply) = outgoing(&message, reply) {
            self.link.send(reply).await;
        }
    }

    /// The reply; `None` when the caller has gone.
    async fn dispatch(
        self: &Rc<Self>,
        client: &Rc<Client>,
        caller: &Rc<Caller>,
        message: &Message,
    ) -> Option<Result<Message, Failure>> {
        let place = match self.front.enter(authority::account(caller)) {
            Ok(place) => place,
            Err(error) => return Some(Err(error.into())),
        };
        let header = message.header();
        let member = header.member().map_or("", |member| member.as_str());
        let interface = header.interface().map(|interface| interface.as_str());
        // Before anything of it is parsed.
        if message.body().len() > authority::largest_call(caller) {
            return Some(Err(standard(LIMITS, "the call is too large")));
        }
        if header.unix_fds().is_some_and(|fds| fds > 0) && !authority::may_send_descriptors(caller)
        {
            return Some(Err(standard(
                INVALID,
                "descriptors are taken from root only; pass the payload itself",
            )));
        }
        let path = header.path().map_or("", |path| path.as_str());
        let Some(object) = Object::at(path) else {
            return Some(Err(unknown_object(path)));
        };
        let questions = if header
            .primary()
            .flags()
            .contains(Flags::ALLOW_INTERACTIVE_AUTH)
        {
            Questions::Allowed
        } else {
            Questions::None
        };
        match interface {
            Some("org.freedesktop.DBus.Peer") => return Some(peer(member, message)),
            Some("org.freedesktop.DBus.Introspectable") => {
                return Some(self.introspect(object, caller, member, message).await);
            }
            Some("org.freedesktop.DBus.Properties") => {
                if let Err(error) = self.may(caller, object.shown_by(), questions).await {
                    return Some(Err(error.into()));
                }
                return Some(self.properties(object, message));
            }
            Some("org.freedesktop.DBus.ObjectManager") if object == Object::Manager => {
                return Some(self.managed(caller, member, questions, message).await);
            }
            _ => {}
        }
        let own = object.interface();
        if let Some(interface) = interface
            && own != Some(interface)
        {
            let text = format!("there is no interface {interface} at {path}");
            return Some(Err(standard(UNKNOWN_INTERFACE, text)));
        }
        let row = self
            .rows
            .iter()
            .find(|row| Some(row.interface) == own && row.member == member);
        let Some(row) = row else {
            let text = format!("there is no method {member} at {path}");
            return Some(Err(standard(UNKNOWN_METHOD, without_nul(text))));
        };
        let call = Call {
            client,
            caller,
            message,
            object,
            row,
            questions,
        };
        call.run(self, place).await
    }

    /// Whether `caller` may do what `method` of the contract does.
    async fn may(
        &self,
        caller: &Rc<Caller>,
        method: &'static str,
        questions: Questions,
    ) -> Result<(), Denied> {
        let action = self.action(method);
        self.front
            .authority
            .authorise(caller, action, questions)
            .await
    }

    fn properties(&self, object: Object, message: &Message) -> Result<Message, Failure> {
        let header = message.header();
        let member = header.member().map_or("", |member| member.as_str());
        let body = message.body();
        let reply = Message::method_return(&header);
        let own = object.interface();
        let known = |interface: &str| {
            if own == Some(interface) || STANDARD_INTERFACES.contains(&interface) {
                return Ok(());
            }
            let text = format!(
                "there is no interface {}",
                without_nul(interface.to_owned())
            );
            Err(standard(UNKNOWN_INTERFACE, text))
        };
        let all = || {
            object
                .properties(self.daemon())
                .ok_or_else(|| unknown_object(header.path().map_or("", |path| path.as_str())))
        };
        let types = || standard(INVALID, "wrong arguments");
        match member {
            "Get" => {
                let (interface, name): (&str, &str) = body.deserialize().map_err(|_| types())?;
                known(interface)?;
                let value = all()?.remove(name).filter(|_| own == Some(interface));
                let value = value.ok_or_else(|| {
                    let text = format!("there is no property {}", without_nul(name.to_owned()));
                    standard(UNKNOWN_PROPERTY, text)
                })?;
                reply.build(&value).map_err(unbuilt)
            }
            "GetAll" => {
                let interface: &str = body.deserialize().map_err(|_| types())?;
                known(interface)?;
                let mut properties = all()?;
                if own != Some(interface) {
                    properties.clear();
                }
                reply.build(&properties).map_err(unbuilt)
            }
            "Set" => {
                let (interface, name, _): (&str, &str, Variant<'_>) =
                    body.deserialize().map_err(|_| types())?;
                known(interface)?;
                if all()?.contains_key(name) && own == Some(interface) {
                    return Err(standard(READ_ONLY, format!("{name} cannot be set")));
                }
                let text = format!("there is no property {}", without_nul(name.to_owned()));
                Err(standard(UNKNOWN_PROPERTY, text))
            }
            _ => Err(unknown_method(member)),
        }
    }

    async fn introspect(
        &self,
        object: Object,
        caller: &Rc<Caller>,
        member: &str,
        message: &Message,
    ) -> Result<Message, Failure> {
        if member != "Introspect" {
            return Err(unknown_method(member));
        }
        // Whoever may not list objects is told what interfaces look like, and not which exist.
        let shown_by = match object {
            Object::Above(objects::Above::Upcalls) => Object::Upcall(0).shown_by(),
            Object::Above(_) | Object::Manager => Object::Container(0).shown_by(),
            Object::Container(_) | Object::Upcall(_) => object.shown_by(),
        };
        let visible = self.may(caller, shown_by, Questions::None).await.is_ok();
        if visible && !object.exists(self.daemon()) {
            return Err(unknown_object(
                message.header().path().map_or("", |path| path.as_str()),
            ));
        }
        let xml = objects::introspect(object, self.daemon(), visible);
        Message::method_return(&message.header())
            .build(&xml)
            .map_err(unbuilt)
    }

    async fn managed(
        &self,
        caller: &Rc<Caller>,
        member: &str,
        questions: Questions,
        message: &Message,
    ) -> Result<Message, Failure> {
        if member != "GetManagedObjects" {
            return Err(unknown_method(member));
        }
        for object in [Object::Container(0), Object::Upcall(0)] {
            self.may(caller, object.shown_by(), questions).await?;
        }
        let all = objects::managed(self.daemon());
        Message::method_return(&message.header())
            .build(&all)
            .map_err(unbuilt)
    }
}

const STANDARD_INTERFACES: [&str; 4] = [
    "org.freedesktop.DBus.Peer",
    "org.freedesktop.DBus.Introspectable",
    "org.freedesktop.DBus.Properties",
    "org.freedesktop.DBus.ObjectManager",
];

/// A call of one of our methods.
pub(super) struct Call<'a> {
    pub(super) client: &'a Rc<Client>,
    pub(super) caller: &'a Rc<Caller>,
    pub(super) message: &'a Message,
    pub(super) object: Object,
    pub(super) row: &'a Row,
    pub(super) questions: Questions,
}

impl Call<'_> {
    async fn run(self, door: &Rc<Door>, place: Place) -> Option<Result<Message, Failure>> {
        // Judged before the arguments are parsed, and again by the dispatch itself.
        for method in self.row.varlink {
            if let Err(error) = self.judged(door, method).await? {
                return Some(Err(error.into()));
            }
        }
        if !self.object.exists(door.daemon()) {
            let header = self.message.header();
            return Some(Err(unknown_object(
                header.path().map_or("", |path| path.as_str()),
            )));
        }
        let prepared = (self.row.prepare)(&self.message.body(), self.object.number());
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(wrong) => return Some(Err(self.wrong(wrong))),
        };
        match self.row.kind {
            Kind::Once => self.once(door, prepared).await,
            Kind::Register => agents::register(door, self, prepared, place).await,
            Kind::Unregister => {
                let done = agents::unregister(self.client, prepared.number);
                Some(done.map_err(Failure::from).and_then(|()| self.empty()))
            }
            Kind::Subscribe => signals::subscribe(door, self, place).await,
            Kind::Unsubscribe => {
                self.client.unsubscribe();
                Some(self.empty())
            }
        }
    }

    /// Whether the caller may; `None` when it has gone.
    async fn judged(&self, door: &Door, method: &'static str) -> Option<Result<(), Denied>> {
        tokio::select! {
            biased;
            judged = door.may(self.caller, method, self.questions) => Some(judged),
            () = self.client.life.gone() => None,
        }
    }

    async fn once(self, door: &Rc<Door>, prepared: Prepared) -> Option<Result<Message, Failure>> {
        let Prepared {
            parameters, fds, ..
        } = prepared;
        let method = self.row.varlink.first().copied().unwrap_or("");
        let begun = self.begin(door, method, &parameters, fds, None).await?;
        let once = match begun {
            Ok(Begun::Once(once)) => once,
            Ok(Begun::Stream(_)) => return Some(Err(unknown_method(self.row.member))),
            Err(failure) => return Some(Err(failure)),
        };
        let life = &self.client.life;
        let reply = once.unless(life, life.gone()).await?;
        Some(
            reply
                .map_err(Failure::from)
                .and_then(|reply| self.reply(reply)),
        )
    }

    /// Begins a call of the contract; `None` when the caller has gone.
    pub(super) async fn begin(
        &self,
        door: &Door,
        method: &str,
        parameters: &[u8],
        fds: Vec<OwnedFd>,
        queue: Option<usize>,
    ) -> Option<Result<Begun, Failure>> {
        begin(
            door,
            self.client,
            self.caller,
            method,
            parameters,
            fds,
            queue,
            self.questions,
        )
        .await
    }

    /// The reply of the contract as one of the bus.
    pub(super) fn reply(&self, reply: Outgoing) -> Result<Message, Failure> {
        (self.row.answer)(reply, &self.message.header()).map_err(Failure::from)
    }

    pub(super) fn empty(&self) -> Result<Message, Failure> {
        Message::method_return(&self.message.header())
            .build(&())
            .map_err(unbuilt)
    }

    fn wrong(&self, wrong: Wrong) -> Failure {
        let text = match wrong {
            Wrong::Types => format!(
                "{} takes arguments of the types “{}”",
                self.row.member, self.row.input
            ),
            Wrong::Option(name) => format!("the option “{}” is wrong", without_nul(name)),
            Wrong::Memory(why) => format!("the payload cannot be read: {why}"),
        };
        standard(INVALID, text)
    }
}

/// Begins a call of the contract for a client; `None` when it has gone.
#[allow(clippy::too_many_arguments)]
pub(super) async fn begin(
    door: &Door,
    client: &Rc<Client>,
    caller: &Rc<Caller>,
    method: &str,
    parameters: &[u8],
    fds: Vec<OwnedFd>,
    queue: Option<usize>,
    questions: Questions,
) -> Option<Result<Begun, Failure>> {
    let json = parameters.strip_suffix(b"\0").unwrap_or(parameters);
    let Ok(parameters) = serde_json::from_slice::<&RawValue>(json) else {
        return Some(Err(standard(INVALID, "wrong arguments")));
    };
    let context = Context {
        caller: Rc::clone(caller),
        connection: client.id,
        fds,
        life: Rc::clone(&client.life),
    };
    let begun = tokio::select! {
        biased;
        begun = call::begin(&door.front, context, method, Some(parameters), queue, questions) => begun,
        () = client.life.gone() => return None,
    };
    Some(begun.map_err(|refusal| match refusal {
        Refusal::Refused(error) => error.into(),
        Refusal::Unserved(ServiceError::InvalidParameter { parameter }) => standard(
            INVALID,
            format!("the parameter “{}” is wrong", without_nul(parameter)),
        ),
        Refusal::Unserved(_) => unknown_method(method),
    }))
}

fn unknown_object(path: &str) -> Failure {
    standard(UNKNOWN_OBJECT, format!("there is no object {path}"))
}

fn unknown_method(member: &str) -> Failure {
    standard(UNKNOWN_METHOD, format!("there is no method {member}"))
}

pub(super) fn unbuilt<E>(_: E) -> Failure {
    Error::new(
        ErrorKind::TooLarge,
        "the reply is too large for a message of the bus",
    )
    .into()
}

fn peer(member: &str, message: &Message) -> Result<Message, Failure> {
    let header = message.header();
    let reply = Message::method_return(&header);
    match member {
        "Ping" => reply.build(&()).map_err(unbuilt),
        "GetMachineId" => {
            let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
            if id.trim().is_empty() {
                return Err(standard(
                    "org.freedesktop.DBus.Error.Failed",
                    "this machine has no id (/etc/machine-id)",
                ));
            }
            reply.build(&id.trim()).map_err(unbuilt)
        }
        _ => Err(unknown_method(member)),
    }
}

/// The message that answers `call`; `None` if no answer is wanted.
fn outgoing(call: &Message, reply: Result<Message, Failure>) -> Option<Message> {
    if call
        .primary_header()
        .flags()
        .contains(Flags::NO_REPLY_EXPECTED)
    {
        return None;
    }
    match reply {
        Ok(reply) => Some(reply),
        Err(failure) => error(call, failure),
    }
}

/// An error as a message: `org.keyns.Error.KIND` with message, cause, hint, error number and rights.
/// What most clients show is the first of them, so it says all.
fn error(call: &Message, failure: Failure) -> Option<Message> {
    let header = call.header();
    let (name, error) = match failure {
        Failure::Standard(name, text) => return Message::error(&header, name).build(&text).ok(),
        Failure::Contract(error) => (format!("{}{}", bus::ERROR, error.kind), error),
        Failure::Unasked(error) => (
            "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired".to_owned(),
            error,
        ),
    };
    let mut whole = error.message;
    if let Some(cause) = &error.cause {
        whole = format!("{whole}: {cause}");
    }
    let built = Message::error(&header, name).build(&(
        without_nul(whole),
        without_nul(error.cause.unwrap_or_default()),
        without_nul(error.hint.unwrap_or_default()),
        error.errno.unwrap_or(0),
        error.rights,
    ));
    built.ok()
}
