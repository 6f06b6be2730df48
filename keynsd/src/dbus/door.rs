//! From a message to its method, and back.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use keyns_interfaces::{Error, ErrorKind, bus};
use serde_json::value::RawValue;
use zbus::Variant;
use zbus::message::{Flags, Message};

use super::clients::{Client, Clients, Turn};
use super::link::Link;
use super::methods;
use super::objects::{self, Object};
use super::row::{Kind, Prepared, Row, Wrong};
use super::value::without_nul;
use super::{agents, signals};
use crate::authority::{self, Action, Caller, Denied, Questions};
use crate::daemon::Daemon;
use crate::front::Front;
use crate::front::call::{self, Begun, NoPermit, Origin, Permit, Refusal};
use crate::front::context::Outgoing;
use crate::front::gate::Place;
use crate::front::service::ServiceError;

/// The door on one connection to the bus.
pub(super) struct Door {
    pub(super) front: Rc<Front<Daemon>>,
    pub(super) link: Rc<Link>,
    pub(super) clients: Clients,
    rows: Vec<Row>,
}

/// That a client may call a method of the contract.
pub(super) type Permitted<'a> = Permit<'a, Daemon>;

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

const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";
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
                    self.clients.forget(&client);
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
        if interface != "org.freedesktop.DBus.Properties"
            || header.unix_fds().is_some()
            || message.body().len() > authority::largest_call(caller)
        {
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
        let identified = tokio::select! {
            biased;
            () = client.life.gone() => return,
            identified = client.identify(&self.link) => identified.cloned(),
        };
        let reply = match identified {
            Err(error) => Err(error.into()),
            Ok(caller) => match self.dispatch(&client, &caller, &message).await {
                Some(reply) => reply,
                None => return,
            },
        };
        drop(turn);
        self.clients.forget(&client);
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
                return self.introspect(object, client, caller, message).await;
            }
            Some("org.freedesktop.DBus.Properties") => {
                let may = self.may(client, caller, object.shown_by(), questions);
                let properties = |()| self.properties(object, message);
                return Some(may.await?.map_err(Failure::from).and_then(properties));
            }
            Some("org.freedesktop.DBus.ObjectManager") if object == Object::Manager => {
                return self.managed(client, caller, questions, message).await;
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

    /// Whether `caller` may do what `method` of the contract does; `None` when it has gone.
    async fn may(
        &self,
        client: &Client,
        caller: &Caller,
        method: &'static str,
        questions: Questions,
    ) -> Option<Result<(), Denied>> {
        let action = self.action(method);
        tokio::select! {
            biased;
            judged = self.front.authority.authorise(caller, action, questions) => Some(judged),
            () = client.life.gone() => None,
        }
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
        client: &Client,
        caller: &Caller,
        message: &Message,
    ) -> Option<Result<Message, Failure>> {
        let header = message.header();
        let member = header.member().map_or("", |member| member.as_str());
        if member != "Introspect" {
            return Some(Err(unknown_method(member)));
        }
        // Whoever may not list objects is told what interfaces look like, and not which exist.
        let shown_by = match object {
            Object::Above(objects::Above::Upcalls) => Object::Upcall(0).shown_by(),
            Object::Above(_) | Object::Manager => Object::Container(0).shown_by(),
            Object::Container(_) | Object::Upcall(_) => object.shown_by(),
        };
        let may = self.may(client, caller, shown_by, Questions::None);
        let visible = may.await?.is_ok();
        if visible && !object.exists(self.daemon()) {
            let path = header.path().map_or("", |path| path.as_str());
            return Some(Err(unknown_object(path)));
        }
        let xml = objects::introspect(object, self.daemon(), visible);
        let reply = Message::method_return(&header).build(&xml);
        Some(reply.map_err(unbuilt))
    }

    async fn managed(
        &self,
        client: &Client,
        caller: &Caller,
        questions: Questions,
        message: &Message,
    ) -> Option<Result<Message, Failure>> {
        let header = message.header();
        let member = header.member().map_or("", |member| member.as_str());
        if member != "GetManagedObjects" {
            return Some(Err(unknown_method(member)));
        }
        let mut permitted = None;
        for object in [Object::Container(0), Object::Upcall(0)] {
            let policy = self.action(object.shown_by()).policy;
            if permitted == Some(policy) {
                continue;
            }
            let may = self.may(client, caller, object.shown_by(), questions);
            if let Err(denied) = may.await? {
                return Some(Err(denied.into()));
            }
            permitted = Some(policy);
        }
        let all = objects::managed(self.daemon());
        let reply = Message::method_return(&header).build(&all);
        Some(reply.map_err(unbuilt))
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
        // Judged before the arguments are parsed.
        let permits = match self.permits(door).await? {
            Ok(permits) => permits,
            Err(failure) => return Some(Err(failure)),
        };
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
            Kind::Once => self.once(door, permits, prepared).await,
            Kind::Register => agents::register(door, self, permits, prepared, place).await,
            Kind::Unregister => {
                let done = agents::unregister(self.client, prepared.number);
                Some(done.map_err(Failure::from).and_then(|()| self.empty()))
            }
            Kind::Subscribe => Some(signals::subscribe(door, &self, permits, place)),
            Kind::Unsubscribe => {
                self.client.unsubscribe();
                Some(self.empty())
            }
        }
    }

    /// A permit for each method of the contract that this stands for; `None` when the caller has gone.
    async fn permits<'a>(&self, door: &'a Door) -> Option<Result<Vec<Permitted<'a>>, Failure>> {
        let mut permits: Vec<Permitted<'a>> = Vec::new();
        for method in self.row.varlink {
            let mut known = permits.iter();
            let known = known.find_map(|permit| permit.extended(&door.front, method));
            if let Some(permit) = known {
                permits.push(permit);
                continue;
            }
            let asked = call::authorise(&door.front, self.caller, method, self.questions);
            let permit = tokio::select! {
                biased;
                permit = asked => permit,
                () = self.client.life.gone() => return None,
            };
            match permit {
                Ok(permit) => permits.push(permit),
                Err(NoPermit::Denied(denied)) => return Some(Err(denied.into())),
                Err(NoPermit::Unserved(_)) => return Some(Err(unknown_method(method))),
            }
        }
        Some(Ok(permits))
    }

    async fn once(
        self,
        door: &Rc<Door>,
        permits: Vec<Permitted<'_>>,
        prepared: Prepared,
    ) -> Option<Result<Message, Failure>> {
        let Prepared {
            parameters, fds, ..
        } = prepared;
        let begun = permits
            .into_iter()
            .next()
            .ok_or_else(|| unknown_method(self.row.member))
            .and_then(|permit| begin(door, self.client, permit, &parameters, fds, None));
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

/// Begins a call of the contract for a client.
pub(super) fn begin(
    door: &Door,
    client: &Rc<Client>,
    permit: Permitted<'_>,
    parameters: &[u8],
    fds: Vec<OwnedFd>,
    queue: Option<usize>,
) -> Result<Begun, Failure> {
    let json = parameters.strip_suffix(b"\0").unwrap_or(parameters);
    let parameters = serde_json::from_slice::<&RawValue>(json)
        .map_err(|_| standard(INVALID, "wrong arguments"))?;
    let origin = Origin {
        connection: client.id,
        fds,
        life: Rc::clone(&client.life),
    };
    let begun = call::begin(&door.front, permit, origin, Some(parameters), queue);
    begun.map_err(|refusal| match refusal {
        Refusal::Refused(error) => error.into(),
        Refusal::Unserved(ServiceError::InvalidParameter { parameter }) => standard(
            INVALID,
            format!("the parameter “{}” is wrong", without_nul(parameter)),
        ),
        Refusal::Unserved(_) => standard(UNKNOWN_METHOD, "there is no such method"),
    })
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
