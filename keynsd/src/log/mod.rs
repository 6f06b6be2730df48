//! What the daemon logs, and where to: standard error, or the journal where that leads there.

mod journal;

use journal::Journal;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

/// Names what is logged, before any setting.
const VARIABLE: &str = "RUST_LOG";

/// The log, as long as the process lives.
#[derive(Debug)]
pub struct Log {
    /// `None` where the environment decides, and settings do not.
    filter: Option<Handle<EnvFilter, Registry>>,
}

impl Log {
    /// Starts to log what the environment says, else what `directives` say.
    #[must_use]
    pub fn start(directives: &str) -> Self {
        let given = EnvFilter::try_from_env(VARIABLE).ok();
        let is_given = given.is_some();
        let filter = given.unwrap_or_else(|| EnvFilter::new(directives));
        let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
        let journal = Journal::find();
        let text = journal.is_none().then(|| {
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                // It would report to the same place, and panic where nobody reads it any more.
                .log_internal_errors(false)
        });
        let registry = tracing_subscriber::registry().with(filter);
        registry.with(text).with(journal).init();
        Self {
            filter: (!is_given).then_some(handle),
        }
    }

    /// Changes what is logged from now on.
    pub fn set(&self, directives: &str) {
        if let Some(filter) = &self.filter
            && let Err(error) = filter.reload(EnvFilter::new(directives))
        {
            tracing::warn!(%error, "cannot change what is logged");
        }
    }
}
