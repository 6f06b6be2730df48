//! What a method on the bus is made of: from arguments to parameters of the contract, and from its
//! reply to values of the bus.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use keyns_interfaces::frame::{Bytes, MAX_CALL};
use keyns_interfaces::upcalls::Response;
use keyns_interfaces::{Error, ErrorKind, Method, Payload};
use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};
use zbus::message::{Body, Header, Message};
use zbus::{DynamicType, OwnedObjectPath, OwnedVariant, Signature, Type};

use super::value;
use crate::front::context::Outgoing;

/// Arguments of a call that are not those of the method; never says what they are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// They have other types.
    Types,
    /// An option has a type that no option has, or is given twice.
    Option(String),
    /// A descriptor that no payload can be read from.
    Memory(String),
}

/// What a row does beyond calling a method once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Once,
    /// Registers an agent.
    Register,
    /// Ends an agent of the caller.
    Unregister,
    /// Subscribes to signals.
    Subscribe,
    /// Ends that.
    Unsubscribe,
}

/// A prepared call: parameters as JSON, and descriptors.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) parameters: Bytes,
    pub(super) fds: Vec<OwnedFd>,
    /// What only [`Kind`]s other than `Once` need: the path of an agent, or its number.
    pub(super) object: Option<OwnedObjectPath>,
    pub(super) number: u64,
}

/// Optional parameters.
pub(super) type Options = HashMap<String, OwnedVariant>;

type Prepare = Box<dyn Fn(&Body, u64) -> Result<Prepared, Wrong>>;
type Answer = Box<dyn Fn(Outgoing, &Header<'_>) -> Result<Message, Error>>;

/// A method of an interface on the bus.
pub(super) struct Row {
    pub(super) interface: &'static str,
    pub(super) member: &'static str,
    /// Methods of the contract: the one called, or the streams subscribed to.
    pub(super) varlink: &'static [&'static str],
    pub(super) kind: Kind,
    pub(super) input: String,
    pub(super) output: String,
    pub(super) prepare: Prepare,
    pub(super) answer: Answer,
}

/// Parameters on their way: a payload is written once, into memory that is wiped.
#[derive(Default)]
pub(super) struct Parameters {
    fields: Map<String, Value>,
    pub(super) payload: Option<Payload>,
    pub(super) fds: Vec<OwnedFd>,
    pub(super) object: Option<OwnedObjectPath>,
    pub(super) number: u64,
    /// Whether the payload is the answer to a request.
    pub(super) response: bool,
}

impl Parameters {
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// Options may not repeat an argument.
    pub(super) fn options(&mut self, options: Options) -> Result<(), Wrong> {
        for (name, value) in options {
            let value = value::json(&value).ok_or_else(|| Wrong::Option(name.clone()))?;
            if self.fields.contains_key(&name) {
                return Err(Wrong::Option(name));
            }
            self.fields.insert(name, value);
        }
        Ok(())
    }

    /// Takes where requests go out of the options: exactly one of three.
    pub(super) fn target(&mut self, options: &mut Options) -> Result<(), Wrong> {
        let mut target = Map::new();
        for name in ["queue", "agent", "reject"] {
            let Some(value) = options.remove(name) else {
                continue;
            };
            let wrong = || Wrong::Option(name.to_owned());
            let value = value::json(&value).ok_or_else(wrong)?;
            let value = match (name, value) {
                ("reject", Value::Array(pair)) => match pair.as_slice() {
                    [errno, timeout] => json!({"errno": errno, "timeout": timeout}),
                    _ => return Err(wrong()),
                },
                ("reject", _) => return Err(wrong()),
                (_, value) => value,
            };
            target.insert(name.to_owned(), value);
        }
        if target.len() != 1 {
            return Err(Wrong::Option("queue, agent or reject".to_owned()));
        }
        self.set("target", target);
        Ok(())
    }
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        match &self.payload {
            Some(payload) if self.response => {
                map.serialize_entry("response", &Response::Payload(payload.clone()))?;
            }
            Some(payload) => map.serialize_entry("payload", payload)?,
            None => {}
        }
        map.end()
    }
}

#[derive(Deserialize)]
struct ReplyFrame<R> {
    parameters: R,
}

/// The parameters of a reply.
pub(super) fn parameters<R: DeserializeOwned>(reply: &Outgoing) -> Result<R, Error> {
    let json = reply.frame.strip_suffix(b"\0").unwrap_or(&reply.frame);
    serde_json::from_slice::<ReplyFrame<R>>(json)
        .map(|frame| frame.parameters)
        // The error would quote it.
        .map_err(|_| {
            Error::new(
                ErrorKind::System,
                "cannot pass the reply on: it is not of its type",
            )
        })
}

fn unsendable<E>(_: E) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "the reply is too large for a message of the bus",
    )
}

/// The signature of a body: that of a tuple without its parentheses, or of one value.
fn body_signature(signature: &Signature) -> String {
    signature.to_string_no_parens()
}

/// A row: `prepare` fills in parameters, `answer` turns the reply of `M` into results.
pub(super) fn row<A, M, R>(
    interface: &'static str,
    member: &'static str,
    varlink: &'static [&'static str],
    kind: Kind,
    prepare: impl Fn(&mut Parameters, u64, A) -> Result<(), Wrong> + 'static,
    answer: impl Fn(M::Reply, Vec<OwnedFd>) -> Result<R, Error> + 'static,
) -> Row
where
    A: DeserializeOwned + Type,
    M: Method,
    R: Serialize + DynamicType + Type,
{
    let input = body_signature(A::SIGNATURE);
    let expected = input.clone();
    Row {
        interface,
        member,
        varlink,
        kind,
        input,
        output: body_signature(R::SIGNATURE),
        prepare: Box::new(move |body, target| {
            if body_signature(body.signature()) != expected {
                return Err(Wrong::Types);
            }
            let arguments = body
                .deserialize_ignore_signature::<A>()
                .map_err(|_| Wrong::Types)?;
            let mut to = Parameters::default();
            prepare(&mut to, target, arguments)?;
            let parameters = Bytes::encode(&to, 2 * MAX_CALL).ok_or(Wrong::Types)?;
            Ok(Prepared {
                parameters,
                fds: to.fds,
                object: to.object,
                number: to.number,
            })
        }),
        answer: Box::new(move |mut reply, header| {
            let fds = std::mem::take(&mut reply.fds);
            let reply = parameters::<M::Reply>(&reply)?;
            Message::method_return(header)
                .build(&answer(reply, fds)?)
                .map_err(unsendable)
        }),
    }
}

/// A row that calls `M` once.
pub(super) fn once<A, M, R>(
    interface: &'static str,
    member: &'static str,
    prepare: impl Fn(&mut Parameters, u64, A) -> Result<(), Wrong> + 'static,
    answer: impl Fn(M::Reply, Vec<OwnedFd>) -> Result<R, Error> + 'static,
) -> Row
where
    A: DeserializeOwned + Type,
    M: Method,
    R: Serialize + DynamicType + Type,
{
    const { assert!(!M::STREAM, "a stream has no one reply") }
    let names: &'static [&'static str] = &[const { M::NAME }];
    row::<A, M, R>(interface, member, names, Kind::Once, prepare, answer)
}
