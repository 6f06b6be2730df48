//! Variants without content as objects, so that every alternative of a choice looks the same on the
//! wire and in the interface description: `{"empty": {}}` beside `{"dir": "/srv"}`.
//!
//! For `#[serde(with = "crate::unit")]` on a unit variant.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Empty;

pub(crate) fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    Empty {}.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    Empty::deserialize(deserializer).map(drop)
}
