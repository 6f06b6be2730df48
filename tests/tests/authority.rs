//! Every method of the contract is served by the real daemon, and none is forgotten by the function
//! that decides who may call it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use keyns_interfaces::{METHODS, MethodEntry};
use keyns_tests::instance::Instance;
use keyns_tests::varlink;
use rustix::process::{Gid, Uid};
use serde_json::{Value, json};

/// What anyone may ask.
const PUBLIC: [&str; 2] = [
    "org.keyns.Manager.GetStatus",
    "org.keyns.Manager.GetFeatures",
];

/// The replies of all methods to a thread with these ids; ids are per thread in the kernel.
fn ask_all_as(socket: PathBuf, id: u32) -> Vec<(MethodEntry, Value)> {
    let work = move || {
        let (uid, gid) = (Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        let reply = |method: &MethodEntry| {
            (
                *method,
                varlink(&socket, method.name, json!({}), method.stream),
            )
        };
        METHODS.iter().map(reply).collect()
    };
    std::thread::spawn(work).join().unwrap()
}

#[test]
fn every_method_is_there_and_closed_to_others_than_root() {
    let instance = Instance::start("methods");
    instance.ok(&["container", "create", "web"]);
    let public = BTreeSet::from(PUBLIC);
    let mut open = BTreeSet::new();
    for (method, reply) in ask_all_as(instance.socket(), 65_534) {
        let interface = method.name.rsplit_once('.').unwrap().0;
        match reply["error"].as_str() {
            None => {
                open.insert(method.name);
            }
            Some(error) => {
                assert_eq!(
                    error,
                    format!("{interface}.NotPermitted"),
                    "{}: {reply}",
                    method.name
                );
            }
        }
    }
    assert_eq!(open, public);

    // The control: root is not refused; what it gets depends on the parameters that are missing.
    for (method, reply) in ask_all_as(instance.socket(), 0) {
        let error = reply["error"].as_str().unwrap_or_default();
        let refusals = [
            "MethodNotFound",
            "MethodNotImplemented",
            "InterfaceNotFound",
            "NotPermitted",
        ];
        assert!(
            !refusals.iter().any(|r| error.ends_with(r)),
            "{}: {reply}",
            method.name
        );
    }
    instance.stop();
}

#[test]
fn the_methods_that_the_daemon_describes_are_those_that_are_judged() {
    let instance = Instance::start("described");
    let service = |method: &str, parameters: Value| {
        let method = format!("org.varlink.service.{method}");
        let reply = varlink(&instance.socket(), &method, parameters, false);
        reply["parameters"].clone()
    };
    let mut described = BTreeSet::new();
    for interface in service("GetInfo", json!({}))["interfaces"]
        .as_array()
        .unwrap()
    {
        let name = interface.as_str().unwrap();
        let text = service("GetInterfaceDescription", json!({"interface": name}));
        let text = text["description"].as_str().unwrap();
        let methods = text.lines().filter_map(|line| line.strip_prefix("method "));
        described.extend(methods.map(|m| format!("{name}.{}", m.split('(').next().unwrap())));
    }
    described.retain(|method| !method.starts_with("org.varlink.service."));
    let judged: BTreeSet<String> = METHODS.iter().map(|m| m.name.to_owned()).collect();
    assert_eq!(judged.len(), METHODS.len(), "a method is listed twice");
    assert_eq!(described, judged);
    instance.stop();
}
