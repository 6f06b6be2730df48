//! Key errors as the contract shows them.

use keyns::engine::keyring::KeyError;
use keyns_interfaces::{Error, ErrorKind};

use crate::daemon::engine_error;

/// A failure to do `what` (completing "cannot …").
pub(super) fn key_error(what: impl Into<String>, error: &KeyError) -> Error {
    let what = what.into();
    let refused = |kind| Error::new(kind, format!("cannot {what}"));
    match error {
        KeyError::Gone { why, .. } => refused(ErrorKind::NoSuchKey).cause(*why),
        KeyError::NoContainer(_) => refused(ErrorKind::NoSuchContainer)
            .cause("the container has ended")
            .hint("list the containers: keyctl-ns container list"),
        KeyError::Exists => refused(ErrorKind::AlreadyExists).cause(error.to_string()),
        KeyError::NotLendable { why, .. } => refused(ErrorKind::NotLendable)
            .cause(why)
            .hint("add the key through keyns instead: keyctl-ns add TYPE DESC --container NAME"),
        KeyError::NotCopyable(why) => refused(ErrorKind::NotCopyable).cause(why),
        KeyError::Quota { .. } => refused(ErrorKind::QuotaExceeded)
            .cause(error.to_string())
            .hint("raise kernel.keys.maxkeys or maxbytes, or remove keys of that uid"),
        KeyError::Expired => refused(ErrorKind::InvalidArgument)
            .cause(error.to_string())
            .hint("if its owner has prolonged the key, try again in half a minute"),
        KeyError::Engine(error) => engine_error(what, error),
    }
}
