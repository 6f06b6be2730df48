//! Between the values of the contract and those of the bus.
//!
//! The contract is JSON; its records become dictionaries with the same names. Nothing here handles a
//! payload.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Number, Value};
use zbus::{Signature, Variant};

/// A record on the bus.
pub(super) type Record = HashMap<String, Variant<'static>>;

/// Fields that are lists of records: their type must not depend on whether they are empty.
const LISTS_OF_RECORDS: [&str; 5] = ["grants", "keys", "rules", "processes", "entries"];

/// A record of the contract as a dictionary; what is absent is missing.
pub(super) fn record(value: &impl Serialize) -> Record {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => dictionary(fields),
        _ => Record::new(),
    }
}

fn dictionary(fields: Map<String, Value>) -> Record {
    let fields = fields.into_iter();
    fields
        .filter_map(|(name, value)| Some((name.clone(), variant(&name, value)?)))
        .collect()
}

fn variant(name: &str, value: Value) -> Option<Variant<'static>> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => Variant::from(flag),
        Value::Number(number) => Variant::from(number.as_i64().unwrap_or(i64::MAX)),
        Value::String(text) => Variant::from(without_nul(text)),
        Value::Object(fields) => Variant::from(dictionary(fields)),
        Value::Array(items)
            if LISTS_OF_RECORDS.contains(&name) || items.iter().any(Value::is_object) =>
        {
            let records = items.into_iter().filter_map(|item| match item {
                Value::Object(fields) => Some(dictionary(fields)),
                _ => None,
            });
            Variant::from(records.collect::<Vec<Record>>())
        }
        Value::Array(items) if items.iter().any(Value::is_number) => {
            let numbers = items.iter().filter_map(Value::as_i64);
            Variant::from(numbers.collect::<Vec<i64>>())
        }
        Value::Array(items) => {
            let texts = items.into_iter().filter_map(|item| match item {
                Value::String(text) => Some(without_nul(text)),
                _ => None,
            });
            Variant::from(texts.collect::<Vec<String>>())
        }
    })
}

/// A string of the bus holds no NUL; the form is that of a byte that is no text.
pub(super) fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\\x00")
    } else {
        text
    }
}

/// An option's value as the contract has it; `None` for a type that no parameter has.
pub(super) fn json(value: &Variant<'_>) -> Option<Value> {
    Some(match value {
        Variant::Bool(flag) => Value::Bool(*flag),
        Variant::U8(number) => Value::Number((*number).into()),
        Variant::I16(number) => Value::Number((*number).into()),
        Variant::U16(number) => Value::Number((*number).into()),
        Variant::I32(number) => Value::Number((*number).into()),
        Variant::U32(number) => Value::Number((*number).into()),
        Variant::I64(number) => Value::Number((*number).into()),
        Variant::U64(number) => Value::Number((*number).into()),
        Variant::F64(number) => Value::Number(Number::from_f64(*number)?),
        Variant::Str(text) => Value::String(text.to_string()),
        Variant::Array(items) if items.element_signature() == &Signature::Str => {
            Value::Array(items.inner().iter().map(json).collect::<Option<_>>()?)
        }
        Variant::Structure(fields) => {
            Value::Array(fields.fields().iter().map(json).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_its_types_whether_it_is_empty_or_not() {
        let signatures = |json: Value| {
            let mut found: Vec<String> = record(&json)
                .iter()
                .map(|(name, value)| format!("{name}:{}", value.value_signature()))
                .collect();
            found.sort();
            found.join(" ")
        };
        let filled = serde_json::json!({
            "grants": [{"key": 1}], "rights": ["view"], "gone": null, "id": 1, "on": true,
            "keyrings": [1, 2, 3], "requester": {"pid": 4},
        });
        assert_eq!(
            signatures(filled),
            "grants:aa{sv} id:x keyrings:ax on:b requester:a{sv} rights:as"
        );
        let empty = serde_json::json!({"grants": [], "rights": []});
        assert_eq!(signatures(empty), "grants:aa{sv} rights:as");
    }

    #[test]
    fn a_nul_reaches_no_string_of_the_bus() {
        let shown = record(&serde_json::json!({"callout": "a\0b"}));
        assert_eq!(shown.get("callout"), Some(&Variant::from("a\\x00b")));
    }
}
