//! The interface descriptions themselves.

#[cfg(test)]
mod consistency;

/// Name and text of each interface of keyns, as `org.varlink.service` hands them out.
pub const INTERFACES: &[(&str, &str)] = &[
    (
        "org.keyns.Agents",
        include_str!("../org.keyns.Agents.varlink"),
    ),
    (
        "org.keyns.Containers",
        include_str!("../org.keyns.Containers.varlink"),
    ),
    ("org.keyns.Keys", include_str!("../org.keyns.Keys.varlink")),
    (
        "org.keyns.Manager",
        include_str!("../org.keyns.Manager.varlink"),
    ),
    (
        "org.keyns.Upcalls",
        include_str!("../org.keyns.Upcalls.varlink"),
    ),
];

/// `org.varlink.service` itself.
pub const SERVICE: (&str, &str) = (
    "org.varlink.service",
    include_str!("../org.varlink.service.varlink"),
);

/// All interfaces of the service, in alphabetical order.
pub fn all() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    INTERFACES.iter().chain(std::iter::once(&SERVICE))
}

/// Names of the methods that an interface's text declares.
pub fn methods(text: &str) -> impl Iterator<Item = &str> {
    declared(text, "method ")
}

/// Names of the errors that an interface's text declares.
pub fn errors(text: &str) -> impl Iterator<Item = &str> {
    declared(text, "error ")
}

fn declared<'t>(text: &'t str, keyword: &'static str) -> impl Iterator<Item = &'t str> {
    text.lines()
        .filter_map(move |line| line.strip_prefix(keyword))
        .filter_map(|rest| rest.split('(').next())
        .map(str::trim)
}
