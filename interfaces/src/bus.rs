//! What is served on the system bus: names, paths, and the descriptions beside this crate.

/// Name on the bus.
pub const NAME: &str = "org.keyns";
/// The object of [`MANAGER`], root of the tree of objects.
pub const PATH: &str = "/org/keyns";
/// Paths of containers: this and their number.
pub const CONTAINERS: &str = "/org/keyns/container/";
/// Paths of pending requests: this and their number.
pub const UPCALLS: &str = "/org/keyns/upcall/";
/// Interface of the daemon.
pub const MANAGER: &str = "org.keyns.Manager1";
/// Interface of a container.
pub const CONTAINER: &str = "org.keyns.Container1";
/// Interface of a pending request.
pub const UPCALL: &str = "org.keyns.Upcall1";
/// Interface that an agent implements.
pub const AGENT: &str = "org.keyns.Agent1";
/// Prefix of the names of errors; the kind of an [`Error`](crate::Error) follows.
pub const ERROR: &str = "org.keyns.Error.";

/// The interfaces by name, each with its description.
pub const INTERFACES: [(&str, &str); 4] = [
    (MANAGER, include_str!("../org.keyns.Manager1.xml")),
    (CONTAINER, include_str!("../org.keyns.Container1.xml")),
    (UPCALL, include_str!("../org.keyns.Upcall1.xml")),
    (AGENT, include_str!("../org.keyns.Agent1.xml")),
];

/// The element `interface` of a description, without the document around it.
#[must_use]
pub fn element(xml: &str) -> &str {
    let begin = xml.find("  <interface ").unwrap_or(0);
    let end = xml.rfind("</node>").unwrap_or(xml.len());
    xml.get(begin..end).unwrap_or_default()
}
