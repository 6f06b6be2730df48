//! A call's parameters: from JSON to the method's type, with the name of the one that is wrong.

use std::borrow::Cow;
use std::cell::RefCell;
use std::marker::PhantomData;

use keyns_interfaces::Method;
use serde::de::value::{CowStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

/// The parameter that is missing, unknown, repeated or malformed. Never its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

/// Parses the parameters of `M`. A parameter that is `null` counts as absent, as varlink has it for
/// optional ones.
pub(super) fn parse<M: Method>(parameters: Option<&RawValue>) -> Result<M, Malformed> {
    let text = parameters.map_or("{}", RawValue::get);
    let text = if text == "null" { "{}" } else { text };
    let current = RefCell::new(None);
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = json.deserialize_map(Call::<M> {
        current: &current,
        method: PhantomData,
    });
    parsed.map_err(|error| Malformed(current.take().unwrap_or_else(|| missing(&error))))
}

/// The field named by an error that is not about a parameter present.
fn missing(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let name = text
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next());
    name.unwrap_or("parameters").to_owned()
}

struct Call<'c, M> {
    current: &'c RefCell<Option<String>>,
    method: PhantomData<M>,
}

impl<'de, M: Method> Visitor<'de> for Call<'_, M> {
    type Value = M;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<M, A::Error> {
        let map = Present {
            map,
            current: self.current,
            value: None,
        };
        M::deserialize(Parameters(MapAccessDeserializer::new(map)))
    }
}

/// Passes maps on to any type that asks for one.
struct Parameters<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Parameters<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The parameters that are not `null`; remembers which one is being parsed.
struct Present<'c, 'de, A> {
    map: A,
    current: &'c RefCell<Option<String>>,
    value: Option<&'de RawValue>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Present<'_, 'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.map.next_key::<Cow<'de, str>>()? {
            self.current.replace(Some(name.to_string()));
            let value: &'de RawValue = self.map.next_value()?;
            if value.get() != "null" {
                self.value = Some(value);
                return seed.deserialize(CowStrDeserializer::new(name)).map(Some);
            }
        }
        self.current.replace(None);
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let value = self
            .value
            .take()
            .ok_or_else(|| A::Error::custom("no value"))?;
        seed.deserialize(value).map_err(A::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use keyns_interfaces::{containers, keys};
    use serde_json::value::RawValue;

    use super::{Malformed, parse};

    fn call<M: keyns_interfaces::Method>(json: &str) -> Result<M, Malformed> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        parse(Some(&raw))
    }

    fn wrong<M: keyns_interfaces::Method>(json: &str) -> String {
        call::<M>(json).unwrap_err().0
    }

    #[test]
    fn the_wrong_parameter_is_named() {
        assert_eq!(wrong::<keys::Update>(r#"{"key": "a"}"#), "payload");
        assert_eq!(wrong::<keys::Update>(r#"{"key": 5, "payload": ""}"#), "key");
        assert_eq!(
            wrong::<keys::Update>(r#"{"key": "a", "payload": "%%"}"#),
            "payload"
        );
        assert_eq!(
            wrong::<keys::Update>(r#"{"key": "a", "payload": "", "x": 1}"#),
            "x"
        );
        assert_eq!(
            wrong::<keys::Update>(r#"{"key": "a", "key": "b", "payload": ""}"#),
            "key"
        );
        assert_eq!(
            wrong::<keys::Update>(r#"{"key": null, "payload": ""}"#),
            "key"
        );
        assert_eq!(wrong::<keys::Update>("[]"), "parameters");
        assert_eq!(wrong::<keys::Update>("\"text\""), "parameters");
        assert_eq!(
            wrong::<containers::Exec>(r#"{"container": "web", "command": 1}"#),
            "command"
        );
    }

    #[test]
    fn absent_and_null_are_the_same() {
        assert_eq!(call::<keys::List>("{}").unwrap().container, None);
        assert_eq!(
            call::<keys::List>(r#"{"container": null}"#)
                .unwrap()
                .container,
            None
        );
        assert!(!call::<containers::List>(r#"{"dead": null}"#).unwrap().dead);
        assert!(call::<containers::List>("null").is_ok());
        assert!(parse::<containers::List>(None).is_ok());
    }

    #[test]
    fn escaped_names_are_understood() {
        assert!(
            call::<containers::List>(r#"{"de\u0061d": true}"#)
                .unwrap()
                .dead
        );
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let deep = format!(
            r#"{{"container": {}{}}}"#,
            "[".repeat(500_000),
            "]".repeat(500_000)
        );
        assert_eq!(wrong::<containers::Show>(&deep), "container");
        let unknown = format!(
            r#"{{"x": {}{}}}"#,
            "{\"a\":".repeat(100_000),
            "1".to_owned() + &"}".repeat(100_000)
        );
        assert_eq!(wrong::<containers::Show>(&unknown), "x");
    }
}
