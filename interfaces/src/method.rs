//! What a varlink method is to both ends.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A varlink method: the implementing type holds its parameters.
pub trait Method: Serialize + DeserializeOwned + Debug + Send + 'static {
    /// Interface and method, e.g. `org.keyns.Containers.Create`.
    const NAME: &'static str;
    /// Whether it is called with `more` and answers until one side hangs up.
    const STREAM: bool = false;
    /// The reply's parameters.
    type Reply: Serialize + DeserializeOwned + Debug + Send + 'static;
}

/// A reply without parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Implements [`Method`] for a parameter type.
macro_rules! method {
    ($type:ty, $name:literal => $reply:ty) => {
        impl $crate::Method for $type {
            const NAME: &'static str = $name;
            type Reply = $reply;
        }
    };
    ($type:ty, $name:literal => stream $reply:ty) => {
        impl $crate::Method for $type {
            const NAME: &'static str = $name;
            const STREAM: bool = true;
            type Reply = $reply;
        }
    };
}
pub(crate) use method;
