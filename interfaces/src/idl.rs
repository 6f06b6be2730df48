//! The interface descriptions themselves.

/// Name and text of each interface, as `org.varlink.service` hands them out.
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

/// Names of the methods that an interface's text declares.
pub fn methods(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("method "))
        .filter_map(|rest| rest.split('(').next())
        .map(str::trim)
}
