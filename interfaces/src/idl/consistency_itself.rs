//! That the comparison finds what it is there for.

use serde::{Deserialize, Serialize};

use super::{compare, description};

const TEXT: &str = "interface org.example.A\n\
    type C (one: ?int, two: ?())\n\
    type E (red, blue)\n\
    method M(a: int, b: ?string, c: C, e: []E) -> ()\n";

fn fails<T: Serialize + serde::de::DeserializeOwned>() -> String {
    let description = description(TEXT);
    compare::<T>(&description.methods["M"].0, &[]).unwrap_err()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum C {
    One(u32),
    #[serde(with = "crate::unit")]
    Two,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum E {
    Red,
    Blue,
}

fn is_there(colours: &[E]) -> bool {
    !colours.is_empty()
}

macro_rules! variation {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Serialize, Deserialize)]
        struct $name { $($(#[$attribute])* $field: $type,)* }
    };
}

variation!(Good { a: u64, b: Option<String>, c: C, e: Vec<E>, });
variation!(Defaulted { a: u64, #[serde(default)] b: String, c: C, e: Vec<E>, });
variation!(Renamed { a: u64, bb: Option<String>, c: C, e: Vec<E>, });
variation!(Missing { a: u64, c: C, e: Vec<E>, });
variation!(Added {
    a: u64, b: Option<String>, c: C, e: Vec<E>,
    #[serde(default, skip_serializing_if = "Option::is_none")] d: Option<u32>,
});
variation!(Required { a: u64, b: String, c: C, e: Vec<E>, });
variation!(Optional { a: Option<u64>, b: Option<String>, c: C, e: Vec<E>, });
variation!(Skipped {
    a: u64, b: Option<String>, c: C,
    #[serde(skip_serializing_if = "is_there")] e: Vec<E>,
});
variation!(WrongType { a: bool, b: Option<String>, c: C, e: Vec<E>, });
variation!(WrongChoice { a: u64, b: Option<String>, c: E, e: Vec<E>, });

#[test]
fn accepts_what_fits() {
    let description = description(TEXT);
    assert_eq!(compare::<Good>(&description.methods["M"].0, &[]), Ok(()));
    assert_eq!(
        compare::<Defaulted>(&description.methods["M"].0, &[]),
        Ok(())
    );
}

#[test]
fn notices_each_kind_of_difference() {
    fails::<Renamed>();
    fails::<Missing>();
    fails::<Added>();
    fails::<Required>();
    fails::<Optional>();
    fails::<Skipped>();
    fails::<WrongType>();
    fails::<WrongChoice>();
}
