//! The objects: which there are, their properties and descriptions.
//!
//! Properties are read from the daemon's tables at the moment they are asked for. Nothing is kept
//! here that could differ from what a varlink client is told.

use std::collections::HashMap;

use keyns::engine::ContainerId;
use keyns_interfaces::bus;
use keyns_interfaces::containers::{ContainerInfo, State};
use keyns_interfaces::upcalls::UpcallInfo;
use zbus::{ObjectPath, OwnedObjectPath, Variant};

use super::methods::{container_path, exit, text, upcall_path};
use super::value::{Record, record};
use crate::daemon::Daemon;
use crate::services::containers::container_info;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    /// `/org/keyns`.
    Manager,
    /// A container, which may or may not exist.
    Container(u64),
    /// A request, which may or may not exist.
    Upcall(u64),
    /// A place on the way to others.
    Above(Above),
}

/// A place without an interface of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Above {
    /// `/`.
    Root,
    /// `/org`.
    Org,
    /// That of the containers.
    Containers,
    /// That of the requests.
    Upcalls,
}

impl Object {
    /// What `path` names, if such an object can exist.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            bus::PATH => return Some(Self::Manager),
            "/" => return Some(Self::Above(Above::Root)),
            "/org" => return Some(Self::Above(Above::Org)),
            _ => {}
        }
        if bus::CONTAINERS.strip_suffix('/') == Some(path) {
            return Some(Self::Above(Above::Containers));
        }
        if bus::UPCALLS.strip_suffix('/') == Some(path) {
            return Some(Self::Above(Above::Upcalls));
        }
        if let Some(number) = path.strip_prefix(bus::CONTAINERS) {
            return canonical(number).map(Self::Container);
        }
        path.strip_prefix(bus::UPCALLS)
            .and_then(canonical)
            .map(Self::Upcall)
    }

    /// The interface of ours it has.
    pub(super) fn interface(self) -> Option<&'static str> {
        match self {
            Self::Manager => Some(bus::MANAGER),
            Self::Container(_) => Some(bus::CONTAINER),
            Self::Upcall(_) => Some(bus::UPCALL),
            Self::Above(_) => None,
        }
    }

    /// The number in its path.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Container(number) | Self::Upcall(number) => number,
            Self::Manager | Self::Above(_) => 0,
        }
    }

    /// The method of the contract that shows what its properties show.
    pub(super) fn shown_by(self) -> &'static str {
        match self {
            Self::Container(_) => "org.keyns.Containers.List",
            Self::Upcall(_) => "org.keyns.Upcalls.List",
            Self::Manager | Self::Above(_) => "org.keyns.Manager.GetStatus",
        }
    }

    /// Whether it is there.
    pub(super) fn exists(self, daemon: &Daemon) -> bool {
        match self {
            Self::Container(id) => daemon.containers.get(ContainerId(id)).is_some(),
            Self::Upcall(id) => daemon.upcalls.waiting(id).is_some(),
            Self::Manager | Self::Above(_) => true,
        }
    }

    /// All its properties; `None` if it does not exist.
    pub(super) fn properties(self, daemon: &Daemon) -> Option<Record> {
        match self {
            Self::Manager => Some(of_manager(daemon)),
            Self::Container(id) => {
                let record = daemon.containers.get(ContainerId(id))?;
                Some(of_container(&container_info(&daemon.containers, &record)))
            }
            Self::Upcall(id) => Some(of_upcall(&daemon.upcalls.waiting(id)?)),
            Self::Above(_) => Some(Record::new()),
        }
    }
}

/// One path an object: no leading zeros.
fn canonical(number: &str) -> Option<u64> {
    let parsed: u64 = number.parse().ok()?;
    (parsed.to_string() == number).then_some(parsed)
}

fn of_manager(daemon: &Daemon) -> Record {
    HashMap::from([
        property("Version", env!("CARGO_PKG_VERSION").to_owned()),
        property("Instance", daemon.config.paths.instance().to_owned()),
        property("Engine", daemon.engine.name().to_owned()),
    ])
}

fn property(name: &str, value: impl Into<Variant<'static>>) -> (String, Variant<'static>) {
    (name.to_owned(), value.into())
}

/// The properties of a container that change.
pub(super) fn state_of_container(info: &ContainerInfo) -> Record {
    let state = match info.state {
        State::Created => "created",
        State::Running => "running",
        State::Dying => "dying",
        State::Dead => "dead",
    };
    HashMap::from([
        property("State", state.to_owned()),
        property("Keyring", info.keyring.unwrap_or(0)),
        property("InitPid", info.init_pid.unwrap_or(0)),
        property("Exit", exit(info.exit)),
    ])
}

/// All properties of a container.
pub(super) fn of_container(info: &ContainerInfo) -> Record {
    let mut all = state_of_container(info);
    let parent = info
        .parent
        .map_or_else(OwnedObjectPath::default, container_path);
    let namespaces = info.namespaces.iter();
    let namespaces: Vec<String> = namespaces
        .filter_map(|kind| serde_json::to_value(kind).ok()?.as_str().map(str::to_owned))
        .collect();
    all.extend([
        property("Id", info.id),
        property("Name", text(&info.name)),
        property("Parent", ObjectPath::from(parent)),
        property("Namespaces", namespaces),
        property(
            "Ids",
            (info.uid_base.unwrap_or(0), info.uid_count.unwrap_or(0)),
        ),
        property("Created", info.created),
        property("KillOnClose", info.kill_on_close),
        property("Caveats", info.caveats.clone()),
    ]);
    all
}

/// The properties of a request that change.
pub(super) fn state_of_upcall(info: &UpcallInfo) -> Record {
    HashMap::from([
        property("State", info.state.clone()),
        property("Handler", text(info.handler.as_deref().unwrap_or(""))),
    ])
}

/// All properties of a request, its texts cut as in a listing.
pub(super) fn of_upcall(info: &UpcallInfo) -> Record {
    let cut = |bytes: &keyns_interfaces::ByteText| {
        let most = bytes
            .bytes()
            .len()
            .min(keyns_interfaces::upcalls::LISTED_TEXT);
        let kept = bytes.bytes().get(..most).unwrap_or_default();
        text(keyns_interfaces::ByteText(kept.to_vec()))
    };
    let mut all = state_of_upcall(info);
    all.extend([
        property("Id", info.id),
        property("Key", info.key),
        property("Type", text(&info.type_)),
        property("Description", cut(&info.description)),
        property("Callout", cut(&info.callout)),
        property("Requester", record(&info.requester)),
        property("Arrived", info.time_ms),
    ]);
    all
}

/// An object with its interfaces and their properties, as the object manager tells of it.
pub(super) type Managed = HashMap<OwnedObjectPath, HashMap<&'static str, Record>>;

/// All objects but the manager itself.
pub(super) fn managed(daemon: &Daemon) -> Managed {
    let table = &daemon.containers;
    let containers = table.map(|record| Some(container_info(table, record)));
    let containers = containers.iter().map(|info| {
        let own = HashMap::from([(bus::CONTAINER, of_container(info))]);
        (container_path(info.id), own)
    });
    let waiting = daemon.upcalls.all_waiting();
    let upcalls = waiting.iter().map(|info| {
        let own = HashMap::from([(bus::UPCALL, of_upcall(info))]);
        (upcall_path(info.id), own)
    });
    containers.chain(upcalls).collect()
}

/// Interfaces that every object has.
const STANDARD: &str = r#"  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId">
      <arg name="machine_uuid" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg name="xml_data" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="properties" type="a{sv}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{sv}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface>
"#;

const OBJECT_MANAGER: &str = r#"  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects">
      <arg name="objects" type="a{oa{sa{sv}}}" direction="out"/>
    </method>
    <signal name="InterfacesAdded">
      <arg name="object" type="o"/>
      <arg name="interfaces" type="a{sa{sv}}"/>
    </signal>
    <signal name="InterfacesRemoved">
      <arg name="object" type="o"/>
      <arg name="interfaces" type="as"/>
    </signal>
  </interface>
"#;

/// The description of an object; `visible` tells whether the caller may know which others there are.
pub(super) fn introspect(object: Object, daemon: &Daemon, visible: bool) -> String {
    let mut xml = String::from(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n  \
         \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n",
    );
    xml.push_str(STANDARD);
    if object == Object::Manager {
        xml.push_str(OBJECT_MANAGER);
    }
    if let Some(interface) = object.interface() {
        for (_, text) in bus::INTERFACES
            .iter()
            .filter(|(name, _)| *name == interface)
        {
            xml.push_str(bus::element(text));
        }
    }
    let children: Vec<String> = match object {
        Object::Manager => vec!["container".into(), "upcall".into()],
        Object::Above(Above::Root) => vec!["org".into()],
        Object::Above(Above::Org) => vec!["keyns".into()],
        Object::Above(Above::Containers) if visible => {
            daemon.containers.map(|record| Some(record.id.to_string()))
        }
        Object::Above(Above::Upcalls) if visible => {
            let waiting = daemon.upcalls.all_waiting().into_iter();
            waiting.map(|info| info.id.to_string()).collect()
        }
        _ => Vec::new(),
    };
    for child in children {
        xml.push_str("  <node name=\"");
        xml.push_str(&child);
        xml.push_str("\"/>\n");
    }
    xml.push_str("</node>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_one_path() {
        assert_eq!(Object::at("/org/keyns"), Some(Object::Manager));
        assert_eq!(
            Object::at("/org/keyns/container/7"),
            Some(Object::Container(7))
        );
        assert_eq!(Object::at("/org/keyns/upcall/0"), Some(Object::Upcall(0)));
        for other in [
            "/org/keyns/container/07",
            "/org/keyns/container/_7",
            "/org/keyns/container/18446744073709551616",
            "/org/keyns/container/7/8",
            "/org/keyns/containers",
            "/org/keyns2",
            "",
        ] {
            assert_eq!(Object::at(other), None, "{other}");
        }
    }
}
