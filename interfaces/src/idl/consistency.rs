//! Compares the interface descriptions with the Rust types.
//!
//! Each Rust type is deserialised from samples made after the description: the derived code names
//! every field and variant it knows while asking for them, so a field that only one side has is
//! found, optional or not. What it serialises to is then held against the description again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::{Serialize, forward_to_deserialize_any};
use serde_json::Value;
use zlink::idl::{CustomType, Interface, Type};

use super::INTERFACES;
use crate::catalogue::for_all_methods;
use crate::{Error, ErrorKind, Method};

/// A type of a description, with all names resolved.
#[derive(Debug, Clone)]
enum Shape {
    Bool,
    Int,
    Text,
    List(Box<Shape>),
    Optional(Box<Shape>),
    Choice(Vec<String>),
    Object(BTreeMap<String, Shape>),
}

fn shape(ty: &Type<'_>, customs: &BTreeMap<String, CustomType<'_>>) -> Shape {
    match ty {
        Type::Bool => Shape::Bool,
        Type::Int => Shape::Int,
        Type::String => Shape::Text,
        Type::Array(of) => Shape::List(Box::new(shape(of, customs))),
        Type::Optional(of) => Shape::Optional(Box::new(shape(of, customs))),
        Type::Enum(variants) => {
            Shape::Choice(variants.iter().map(|v| v.name().to_string()).collect())
        }
        Type::Object(fields) => Shape::Object(
            fields
                .iter()
                .map(|f| (f.name().to_string(), shape(f.ty(), customs)))
                .collect(),
        ),
        Type::Custom(name) => match customs.get(&name.to_string()) {
            Some(CustomType::Object(object)) => Shape::Object(
                object
                    .fields()
                    .map(|f| (f.name().to_string(), shape(f.ty(), customs)))
                    .collect(),
            ),
            Some(CustomType::Enum(choice)) => {
                Shape::Choice(choice.variants().map(|v| v.name().to_string()).collect())
            }
            None => panic!("type {name} is not declared"),
        },
        other => panic!("{other:?} is not used by keyns"),
    }
}

struct Description {
    methods: BTreeMap<String, (Shape, Shape)>,
    errors: BTreeMap<String, Shape>,
}

fn description(text: &'static str) -> Description {
    let interface = Interface::try_from(text).unwrap();
    let customs: BTreeMap<_, _> = interface
        .custom_types()
        .map(|ty| (ty.name().to_string(), ty.clone()))
        .collect();
    let object = |fields: Vec<(String, Shape)>| Shape::Object(fields.into_iter().collect());
    let methods = interface
        .methods()
        .map(|method| {
            let fields =
                |f: &zlink::idl::Parameter<'_>| (f.name().to_string(), shape(f.ty(), &customs));
            let call = object(method.inputs().map(fields).collect());
            let reply = object(method.outputs().map(fields).collect());
            (method.name().to_string(), (call, reply))
        })
        .collect();
    let errors = interface
        .errors()
        .map(|error| {
            let fields = error
                .fields()
                .map(|f| (f.name().to_string(), shape(f.ty(), &customs)));
            (error.name().to_string(), object(fields.collect()))
        })
        .collect();
    Description { methods, errors }
}

#[derive(Debug)]
struct Mismatch(String);

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// How a sample is made.
#[derive(Clone, Copy)]
struct Sample<'s> {
    /// With the optional members.
    full: bool,
    /// Which member of a choice, modulo their number.
    choice: usize,
    /// Members of `Event` that the interface does not use.
    unused: &'s [&'s str],
    choices: &'s RefCell<usize>,
}

#[derive(Clone, Copy)]
struct Probe<'s> {
    shape: &'s Shape,
    sample: Sample<'s>,
}

impl<'s> Probe<'s> {
    fn of(self, shape: &'s Shape) -> Self {
        Self { shape, ..self }
    }

    /// The shape of a value that Rust fills in when it is absent.
    fn present(self) -> &'s Shape {
        match self.shape {
            Shape::Optional(of) => of,
            shape => shape,
        }
    }

    fn fail<T>(self, rust: &str) -> Result<T, Mismatch> {
        Err(Mismatch(format!(
            "Rust has {rust}, the description has {:?}",
            self.shape
        )))
    }

    fn names(
        self,
        rust: &[&str],
        described: impl Iterator<Item = &'s String>,
        unused: &[&str],
    ) -> Result<(), Mismatch> {
        let rust: BTreeSet<_> = rust
            .iter()
            .copied()
            .filter(|n| !unused.contains(n))
            .collect();
        let described: BTreeSet<_> = described.map(String::as_str).collect();
        if rust == described {
            return Ok(());
        }
        Err(Mismatch(format!(
            "Rust has {rust:?}, the description has {described:?}"
        )))
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Mismatch> {
        self.fail("a type of no fixed shape")
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.present() {
            Shape::Bool => visitor.visit_bool(true),
            _ => self.fail("a boolean"),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.present() {
            Shape::Int => visitor.visit_u64(1),
            _ => self.fail("an integer"),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.present() {
            // Also valid as base64 and as escaped bytes.
            Shape::Text => visitor.visit_str("AAAA"),
            _ => self.fail("a string"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.shape {
            Shape::Optional(of) => visitor.visit_some(self.of(of)),
            _ => self.fail("an Option"),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_tuple(1, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.present() {
            Shape::List(of) => visitor.visit_seq(Elements {
                probe: self.of(of),
                left: len,
            }),
            _ => self.fail("a list"),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let Shape::Object(members) = self.present() else {
            return self.fail("a struct");
        };
        let unused = if name == "Event" {
            self.sample.unused
        } else {
            &[]
        };
        self.names(fields, members.keys(), unused)?;
        let wanted = members
            .iter()
            .filter(|(_, shape)| self.sample.full || !matches!(shape, Shape::Optional(_)))
            .collect();
        visitor.visit_map(Members {
            probe: self,
            left: wanted,
            value: None,
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let chosen = variants[self.sample.choice % variants.len()];
        let mut most = self.sample.choices.borrow_mut();
        *most = (*most).max(variants.len());
        drop(most);
        match self.present() {
            Shape::Choice(names) => {
                self.names(variants, names.iter(), &[])?;
                visitor.visit_enum(Chosen {
                    name: chosen,
                    content: None,
                })
            }
            Shape::Object(members) => {
                self.names(variants, members.keys(), &[])?;
                match &members[chosen] {
                    Shape::Optional(of) => visitor.visit_enum(Chosen {
                        name: chosen,
                        content: Some(self.of(of)),
                    }),
                    _ => self.fail("a choice, so its members are optional"),
                }
            }
            _ => self.fail("an enum"),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple_struct map
        identifier ignored_any
    }
}

struct Elements<'s> {
    probe: Probe<'s>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.probe).map(Some)
    }
}

struct Members<'s> {
    probe: Probe<'s>,
    left: Vec<(&'s String, &'s Shape)>,
    value: Option<(&'s String, &'s Shape)>,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        self.value = self.left.pop();
        let key = self
            .value
            .map(|(name, _)| seed.deserialize(StrDeserializer::new(name)));
        key.transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let (name, shape) = self.value.take().unwrap();
        seed.deserialize(self.probe.of(shape))
            .map_err(|e| Mismatch(format!("{name}: {e}")))
    }
}

struct Chosen<'s> {
    name: &'static str,
    content: Option<Probe<'s>>,
}

impl<'de> EnumAccess<'de> for Chosen<'_> {
    type Error = Mismatch;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Mismatch> {
        Ok((
            seed.deserialize(StrDeserializer::<Mismatch>::new(self.name))?,
            self,
        ))
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Mismatch;

    fn unit_variant(self) -> Result<(), Mismatch> {
        match self.content {
            None => Ok(()),
            Some(probe) => probe.fail("a variant that serialises as a string"),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mismatch> {
        match self.content {
            Some(probe) => seed.deserialize(probe),
            None => Err(Mismatch(format!("variant {} has content", self.name))),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Mismatch> {
        Err(Mismatch(
            "tuple variants have no place in varlink".to_owned(),
        ))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Mismatch> {
        Err(Mismatch("struct variants are not used".to_owned()))
    }
}

/// Whether `value` is what `shape` describes.
fn conforms(value: &Value, shape: &Shape) -> Result<(), String> {
    match (shape, value) {
        (Shape::Bool, Value::Bool(_))
        | (Shape::Int, Value::Number(_))
        | (Shape::Text, Value::String(_))
        | (Shape::Optional(_), Value::Null) => Ok(()),
        (Shape::Optional(of), value) => conforms(value, of),
        (Shape::List(of), Value::Array(values)) => {
            values.iter().try_for_each(|value| conforms(value, of))
        }
        (Shape::Choice(names), Value::String(name)) if names.contains(name) => Ok(()),
        (Shape::Object(members), Value::Object(values)) => {
            if let Some(name) = values.keys().find(|name| !members.contains_key(*name)) {
                return Err(format!("{name} is not described"));
            }
            members
                .iter()
                .try_for_each(|(name, shape)| match (values.get(name), shape) {
                    (Some(value), _) => conforms(value, shape).map_err(|e| format!("{name}: {e}")),
                    (None, Shape::Optional(_)) => Ok(()),
                    (None, _) => Err(format!("{name} is not sent")),
                })
        }
        _ => Err(format!("{value} is not {shape:?}")),
    }
}

fn compare<T: Serialize + DeserializeOwned>(shape: &Shape, unused: &[&str]) -> Result<(), String> {
    let choices = RefCell::new(1);
    for full in [true, false] {
        let mut choice = 0;
        while choice < *choices.borrow() {
            let sample = Sample {
                full,
                choice,
                unused,
                choices: &choices,
            };
            let value = T::deserialize(Probe { shape, sample }).map_err(|e| e.to_string())?;
            conforms(
                &serde_json::to_value(value).map_err(|e| e.to_string())?,
                shape,
            )?;
            choice += 1;
        }
    }
    Ok(())
}

/// The members of `Event` that an interface's `Subscribe` never sends.
fn unused(interface: &str) -> &'static [&'static str] {
    match interface {
        "org.keyns.Containers" => &["key", "grant", "upcall"],
        "org.keyns.Keys" => &["container", "upcall"],
        "org.keyns.Upcalls" => &["container", "key", "grant"],
        _ => &[],
    }
}

fn compare_method<M: Method>(described: &BTreeMap<&str, Description>) -> Vec<String> {
    let (interface, name) = M::NAME.rsplit_once('.').unwrap();
    let Some((call, reply)) = described.get(interface).and_then(|d| d.methods.get(name)) else {
        return vec![format!("{} is not described", M::NAME)];
    };
    let call = compare::<M>(call, &[]).map_err(|e| format!("{} call: {e}", M::NAME));
    let reply = compare::<M::Reply>(reply, unused(interface))
        .map_err(|e| format!("{} reply: {e}", M::NAME));
    call.err().into_iter().chain(reply.err()).collect()
}

fn described() -> BTreeMap<&'static str, Description> {
    INTERFACES
        .iter()
        .map(|(name, text)| (*name, description(text)))
        .collect()
}

#[test]
fn parameters_and_replies_are_as_described() {
    let described = described();
    let mut problems: Vec<String> = Vec::new();
    macro_rules! all {
        ($($module:ident::$method:ident),*) => {
            $(problems.extend(compare_method::<crate::$module::$method>(&described));)*
        };
    }
    for_all_methods!(all);
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn both_sides_have_the_same_methods() {
    let rust: BTreeSet<String> = crate::METHODS
        .iter()
        .map(|method| method.name.to_owned())
        .collect();
    assert_eq!(rust.len(), crate::METHODS.len(), "a method is listed twice");
    let mut described_names = BTreeSet::new();
    for (interface, description) in described() {
        for name in description.methods.keys() {
            described_names.insert(format!("{interface}.{name}"));
        }
    }
    assert_eq!(rust, described_names);
    for (interface, text) in INTERFACES {
        for name in super::methods(text) {
            assert!(
                described_names.remove(&format!("{interface}.{name}")),
                "{interface}.{name}"
            );
        }
    }
    assert_eq!(
        described_names,
        BTreeSet::new(),
        "missed by the light-weight parser"
    );
}

#[test]
fn errors_are_as_described() {
    let mut used = BTreeSet::new();
    for (interface, description) in described() {
        for (name, shape) in &description.errors {
            let kind = ErrorKind::from_name(name);
            assert!(kind.is_some(), "{interface}.{name} is no error kind");
            used.insert(name.clone());
            assert_eq!(compare::<Error>(shape, &[]), Ok(()), "{interface}.{name}");
        }
    }
    let all: BTreeSet<String> = ErrorKind::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(used, all, "every kind belongs to an interface");
}

#[path = "consistency_itself.rs"]
mod the_comparison_itself;
