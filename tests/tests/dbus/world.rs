//! A bus, a daemon on it, and clients.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use keyns_interfaces::bus::{CONTAINER, MANAGER, PATH};
use keyns_tests::bus::{BusClient, BusError, PrivateBus};
use keyns_tests::instance::{Instance, PATIENCE};
use rustix::process::{Gid, Uid};
use zbus::{OwnedObjectPath, OwnedVariant};

pub(crate) type Record = HashMap<String, OwnedVariant>;

/// A user without any rights.
pub(crate) const NOBODY: u32 = 65_534;

pub(crate) struct World {
    pub(crate) instance: Instance,
    pub(crate) bus: PrivateBus,
}

impl World {
    pub(crate) fn start(what: &str) -> Self {
        Self::on(what, PrivateBus::start())
    }

    pub(crate) fn on(what: &str, bus: PrivateBus) -> Self {
        let instance = Instance::start_on_bus(what, &bus.address());
        let world = Self { instance, bus };
        world.until_served();
        world
    }

    /// Waits until the daemon has its name.
    pub(crate) fn until_served(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status: Result<Record, BusError> =
                self.client().call(PATH, MANAGER, "GetStatus", &());
            match status {
                Ok(_) => return,
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "{error:?}\n{}",
                    self.instance.log()
                ),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn client(&self) -> BusClient {
        BusClient::connect(&self.bus.address())
    }

    /// Does `work` with a client that is this user; ids are per thread in the kernel.
    pub(crate) fn as_user<R: Send + 'static>(
        &self,
        uid: u32,
        work: impl FnOnce(BusClient) -> R + Send + 'static,
    ) -> R {
        let address = self.bus.address();
        let thread = std::thread::spawn(move || {
            let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            work(BusClient::connect(&address))
        });
        thread.join().unwrap()
    }

    /// A container of this name, with a PID and a user namespace; its path.
    pub(crate) fn container(&self, name: &str) -> OwnedObjectPath {
        create(&mut self.client(), name).unwrap()
    }

    /// Fails unless the daemon still serves at both doors.
    pub(crate) fn assert_serving(&self) {
        self.until_served();
        self.instance.ok(&["container", "list"]);
    }
}

pub(crate) fn create(client: &mut BusClient, name: &str) -> Result<OwnedObjectPath, BusError> {
    let namespaces = zbus::Variant::from(vec!["user", "pid"]);
    let options = HashMap::from([("namespaces", namespaces)]);
    client.call(PATH, MANAGER, "CreateContainer", &(name, options))
}

/// A property of a container.
pub(crate) fn property(client: &mut BusClient, path: &str, name: &str) -> OwnedVariant {
    let interface = "org.freedesktop.DBus.Properties";
    client
        .call(path, interface, "Get", &(CONTAINER, name))
        .unwrap()
}

/// An entry of a record as text.
pub(crate) fn text(record: &Record, name: &str) -> String {
    match record.get(name).map(|value| &**value) {
        Some(zbus::Variant::Str(text)) => text.to_string(),
        other => panic!("{name}: {other:?}"),
    }
}
