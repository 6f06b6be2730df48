//! Methods by name, each with its policy.

use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;

use keyns_interfaces::{Error, METHODS, Method};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::context::{Context, Outgoing, Reply, StreamSender};
use super::parameters::{self, Malformed};
use crate::authority::Policy;

/// What `org.varlink.service.GetInfo` says besides the interfaces.
#[derive(Debug, Clone)]
pub struct ServiceInfo {
    /// Maker of the service.
    pub vendor: String,
    /// Name of the service.
    pub product: String,
    /// Version of the service.
    pub version: String,
    /// Where to read about it.
    pub url: String,
}

type Running<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;
type Parameters<'a> = Option<&'a RawValue>;
type CallHandler<S> =
    Box<dyn Fn(Rc<S>, Context, Parameters<'_>) -> Result<Running<Outgoing>, Malformed>>;
type StreamHandler<S> = Box<
    dyn Fn(
        Rc<S>,
        Context,
        Parameters<'_>,
        mpsc::Sender<Outgoing>,
    ) -> Result<Running<()>, Malformed>,
>;

pub(crate) enum Handler<S> {
    /// Runs to its end, whatever the caller does.
    Call(CallHandler<S>),
    /// Is dropped when the caller hangs up.
    Wait(CallHandler<S>),
    /// Is dropped when the subscriber hangs up.
    Stream(StreamHandler<S>),
}

pub(crate) struct Entry<S> {
    pub(super) name: &'static str,
    pub(super) policy: Policy,
    pub(super) handler: Handler<S>,
}

impl<S> std::fmt::Debug for Entry<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// The methods of a service over a shared state.
pub struct Router<S> {
    pub(crate) state: Rc<S>,
    pub(super) info: ServiceInfo,
    entries: Vec<Entry<S>>,
}

impl<S> std::fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.methods()).finish()
    }
}

impl<S: 'static> Router<S> {
    /// A router without methods but those of `org.varlink.service`.
    #[must_use]
    pub fn new(state: Rc<S>, info: ServiceInfo) -> Self {
        Self {
            state,
            info,
            entries: Vec::new(),
        }
    }

    /// Adds a method. Once begun it runs to its end, so that nothing is left half done; it learns
    /// from [`Context::closed`] that the caller hung up.
    pub fn method<M, F, Fut>(&mut self, policy: Policy, handler: F) -> &mut Self
    where
        M: Method,
        F: Fn(Rc<S>, Context, M) -> Fut + 'static,
        Fut: Future<Output = Result<Reply<M::Reply>, Error>> + 'static,
    {
        self.add(
            M::NAME,
            policy,
            Handler::Call(call_handler::<S, M, F, Fut>(handler)),
        )
    }

    /// Adds a method that only waits: dropped at any of its `await`s when the caller hangs up.
    pub fn wait<M, F, Fut>(&mut self, policy: Policy, handler: F) -> &mut Self
    where
        M: Method,
        F: Fn(Rc<S>, Context, M) -> Fut + 'static,
        Fut: Future<Output = Result<Reply<M::Reply>, Error>> + 'static,
    {
        self.add(
            M::NAME,
            policy,
            Handler::Wait(call_handler::<S, M, F, Fut>(handler)),
        )
    }

    /// Adds a streaming method. Its handler is dropped at any of its `await`s when the subscriber
    /// hangs up or is cut off. If it returns an error, that is the last reply; if it returns, the
    /// connection is closed.
    pub fn stream<M, F, Fut>(&mut self, policy: Policy, handler: F) -> &mut Self
    where
        M: Method,
        F: Fn(Rc<S>, Context, M, StreamSender<M::Reply>) -> Fut + 'static,
        Fut: Future<Output = Result<(), Error>> + 'static,
    {
        const { assert!(M::STREAM, "the method is not declared as a stream") }
        let handler: StreamHandler<S> = Box::new(move |state, context, parameters, queue| {
            let call = parameters::parse::<M>(parameters)?;
            let sender = StreamSender {
                queue,
                reply: PhantomData,
            };
            Ok(Box::pin(handler(state, context, call, sender)))
        });
        self.add(M::NAME, policy, Handler::Stream(handler))
    }

    fn add(&mut self, name: &'static str, policy: Policy, handler: Handler<S>) -> &mut Self {
        self.entries.push(Entry {
            name,
            policy,
            handler,
        });
        self
    }
}

impl<S> Router<S> {
    /// Every method registered, with its policy, in order of registration.
    pub fn methods(&self) -> impl Iterator<Item = (&'static str, Policy)> {
        self.entries.iter().map(|entry| (entry.name, entry.policy))
    }

    /// Methods of the contract that are not registered exactly once, and those registered that are
    /// not of the contract. Empty for a daemon that keeps its word.
    #[must_use]
    pub fn incomplete(&self) -> Vec<&'static str> {
        let count = |name: &str| {
            self.methods()
                .filter(|(registered, _)| *registered == name)
                .count()
        };
        let contract = METHODS.iter().map(|method| method.name);
        let foreign = self
            .methods()
            .map(|(name, _)| name)
            .filter(|name| !METHODS.iter().any(|method| method.name == *name));
        contract
            .filter(|name| count(name) != 1)
            .chain(foreign)
            .collect()
    }

    /// The policy that a method was registered with.
    #[must_use]
    pub fn policy(&self, method: &str) -> Option<Policy> {
        self.find(method).map(|entry| entry.policy)
    }

    pub(crate) fn find(&self, method: &str) -> Option<&Entry<S>> {
        self.entries.iter().find(|entry| entry.name == method)
    }
}

fn call_handler<S, M, F, Fut>(handler: F) -> CallHandler<S>
where
    M: Method,
    F: Fn(Rc<S>, Context, M) -> Fut + 'static,
    Fut: Future<Output = Result<Reply<M::Reply>, Error>> + 'static,
{
    const { assert!(!M::STREAM, "the method is declared as a stream") }
    Box::new(move |state, context, parameters| {
        let call = parameters::parse::<M>(parameters)?;
        let running = handler(state, context, call);
        Ok(Box::pin(
            async move { Outgoing::encode(running.await?, false) },
        ))
    })
}
