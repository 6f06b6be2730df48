//! The daemon's state, shared by all services on its one thread.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use keyns::engine::{Engine, EngineError};
use keyns::feature::FeatureRow;
use keyns_interfaces::{Error, ErrorKind};

use crate::config::Config;
use crate::events::Bus;
use crate::service_manager::Manager;
use crate::services::agents::Agents;
use crate::services::containers::ContainerTable;
use crate::services::keys::KeyBook;
use crate::services::upcalls::Upcalls;
use crate::store::{Counter, Store};

/// Everything the services work on.
#[derive(Debug)]
pub struct Daemon {
    /// What it was started with.
    pub config: Config,
    /// What the engine offers on this kernel. Found out once: anybody may ask, and to look takes
    /// threads and keys.
    pub features: Vec<FeatureRow>,
    /// The service manager, which keeps containers too.
    pub manager: Manager,
    /// The engine; its calls block, so services make them with [`Daemon::blocking`].
    pub engine: Arc<dyn Engine>,
    /// Events to subscribers.
    pub bus: Bus,
    /// What survives a restart.
    pub store: Store,
    /// Numbers of containers.
    pub container_ids: Counter,
    /// The containers.
    pub containers: ContainerTable,
    /// Keys and grants.
    pub keys: Rc<KeyBook>,
    /// Requests and rules.
    pub upcalls: Upcalls,
    /// Agents.
    pub agents: Agents,
}

impl Daemon {
    /// Runs a blocking engine call off the daemon's thread.
    ///
    /// # Errors
    /// Those of the call, told as a failure to do `what` (completing "cannot …").
    pub async fn blocking<R: Send + 'static, E: Into<EngineError> + Send + 'static>(
        self: &Rc<Self>,
        what: impl Into<String>,
        call: impl FnOnce(&dyn Engine) -> Result<R, E> + Send + 'static,
    ) -> Result<R, Error> {
        let engine = Arc::clone(&self.engine);
        let result = tokio::task::spawn_blocking(move || call(&*engine).map_err(Into::into)).await;
        match result {
            Ok(result) => result.map_err(|error| engine_error(what, &error)),
            Err(_) => Err(
                Error::new(ErrorKind::System, format!("cannot {}", what.into()))
                    .cause("the daemon is ending"),
            ),
        }
    }
}

/// An engine's failure to do `what` as the contract shows it.
#[must_use]
pub fn engine_error(what: impl Into<String>, error: &EngineError) -> Error {
    let message = format!("cannot {}", what.into());
    match error {
        EngineError::Refused(why) => Error::new(ErrorKind::InvalidArgument, message).cause(why),
        EngineError::Quota(why) => Error::new(ErrorKind::QuotaExceeded, message)
            .cause(why)
            .hint("raise kernel.keys.maxkeys or maxbytes, or remove keys of that uid"),
        EngineError::NotStarted(container) => Error::new(ErrorKind::WrongState, message)
            .cause(error.to_string())
            .hint(format!(
                "start one: keyctl-ns container run {container} -- COMMAND"
            )),
        EngineError::System { .. } | EngineError::Helper { .. } => {
            let wrapped = Error::new(ErrorKind::System, message).cause(error.to_string());
            match error.errno() {
                Some(errno) => wrapped.errno(errno),
                None => wrapped,
            }
        }
    }
}

/// A failure to store the daemon's state.
pub fn store_error(what: &str) -> impl FnOnce(io::Error) -> Error {
    let message = format!("cannot {what}");
    move |error| {
        Error::new(ErrorKind::System, message)
            .cause(format!("the daemon’s state cannot be stored: {error}"))
    }
}
