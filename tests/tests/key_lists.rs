//! Grants to possessor, owner, group and everyone where the kernel has lists of rights. On a stock kernel
//! there is nothing to see: the first thing each test does is to look whether there are lists.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use keyns_sys::container_abi::{ContainerAbi, Feature};
use keyns_sys::{KeySerial, container_key, key};
use keyns_tests::bin_dir;
use keyns_tests::instance::Ran;

const EACCES: Option<i32> = Some(13);

/// Whether the running kernel has lists.
fn lists() -> Option<ContainerAbi> {
    ContainerAbi::read()
        .unwrap()
        .filter(|abi| abi.has(Feature::KeyAcls))
}

fn run(words: &[&str]) -> Ran {
    let mut command = Command::new(bin_dir().join("keyctl-ns"));
    // No daemon: what is tested is between the caller and its kernel.
    command.args(["--instance", "no-such-daemon"]).args(words);
    command.output().unwrap().into()
}

fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err))
}

/// A session keyring of this test alone, with a key in it.
fn key_with(mask: u32) -> (KeySerial, String) {
    key::join_session_keyring(None).unwrap();
    let key = key::add_key(c"user", c"listed", b"secret", KeySerial::SESSION).unwrap();
    key::set_perm(key, mask).unwrap();
    (key, key.raw().to_string())
}

#[test]
fn a_right_that_the_mask_cannot_give_alone_is_given_by_a_list() {
    if lists().is_none() {
        return;
    }
    let (key, serial) = key_with(0x3f01_0000);
    // What a mask says exactly, it says.
    let ran = run(&["--json", "grant", &serial, "group", "view"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(json(&ran)["by_list"], false);
    let tried = run(&["--json", "grant", &serial, "group", "search", "--dry-run"]);
    assert_eq!(json(&tried)["by_list"], true, "{}", tried.err);
    assert_eq!(json(&tried)["applied"], false);
    let shown = run(&["acl", &serial]);
    assert!(!shown.out.contains("search\n"), "{}", shown.out);

    let ran = run(&["--json", "grant", &serial, "group", "search"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let done = json(&ran);
    assert_eq!(done["kernel"], serde_json::json!(["search"]));
    assert_eq!(done["implied"], serde_json::json!([]));
    assert_eq!(done["confirmed"], true);
    let entries = json(&run(&["--json", "acl", &serial]));
    let group = entries["entries"].as_array().unwrap();
    let group = group.iter().find(|it| it["subject"] == "group").unwrap();
    assert_eq!(group["rights"], serde_json::json!(["search"]));
    assert_eq!(group["enforcer"], "kernel");

    // Invalidating takes a right of its own now, which the possessor keeps and everyone lacks.
    let ran = run(&[
        "grant",
        &serial,
        "possessor",
        "view,read,search,setsec,link",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(key::invalidate(key).unwrap_err().raw_os_error(), EACCES);
    let ran = run(&["grant", &serial, "possessor", "search,read,setsec,inval"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    key::invalidate(key).unwrap();
}

#[test]
fn what_comes_with_a_right_must_be_accepted() {
    if lists().is_none() {
        return;
    }
    let (_, serial) = key_with(0x3f01_0000);
    let ran = run(&["grant", &serial, "possessor", "search,inval,setsec"]);
    assert_eq!(ran.code, 8, "{}", ran.out);
    assert!(ran.err.contains("--accept-implied read"), "{}", ran.err);
    let ran = run(&["grant", &serial, "group", "search,link"]);
    assert_eq!(ran.code, 8, "{}", ran.out);
    let ran = run(&["grant", &serial, "group", "clear"]);
    assert_eq!(ran.code, 8, "{}", ran.out);
    assert!(ran.err.contains("clear"), "{}", ran.err);
}

#[test]
fn the_last_right_to_change_a_key_is_not_taken_away() {
    if lists().is_none() {
        return;
    }
    let (_, serial) = key_with(0x3f01_0000);
    assert_eq!(run(&["grant", &serial, "group", "search"]).code, 0);
    for refused in [
        &["ungrant", &serial, "possessor"][..],
        &["grant", &serial, "possessor", "view,read,search"],
    ] {
        let ran = run(refused);
        assert_ne!(ran.code, 0, "{}", ran.out);
        assert!(ran.err.contains("not even root"), "{}", ran.err);
    }
    assert_eq!(run(&["grant", &serial, "owner", "view,setsec"]).code, 0);
    let ran = run(&["ungrant", &serial, "possessor"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn what_others_gain_when_a_key_gets_a_list_is_said() {
    if lists().is_none() {
        return;
    }
    let (_, serial) = key_with(0x3f01_0002);
    let ran = run(&["--json", "grant", &serial, "group", "search", "-n"]);
    let also = &json(&ran)["also"];
    assert_eq!(also[0]["subject"], "owner", "{}", ran.out);
    assert_eq!(also[0]["rights"], serde_json::json!(["read"]));
    let ran = run(&["grant", &serial, "group", "search"]);
    assert!(ran.out.contains("owner gains read"), "{}", ran.out);
    let ran = run(&["grant", &serial, "group", "search,view"]);
    assert!(!ran.out.contains("gains"), "it has a list: {}", ran.out);
}

#[test]
fn a_list_with_a_container_in_it_is_shown_and_kept_and_a_mask_warns() {
    let Some(abi) = lists() else {
        return;
    };
    let (key, serial) = key_with(0x3f01_0000);
    let name = c"listed-in-a-key";
    let container = keyns_sys::container::create(&abi, name, 0).unwrap();
    let subject = container_key::Subject::Container(std::os::fd::AsFd::as_fd(&container));
    let rights = container_key::rights::VIEW;
    container_key::grant_permission(&abi, key, subject, rights).unwrap();
    let ran = run(&["acl", &serial]);
    assert!(ran.out.contains("container #"), "{}", ran.out);
    assert_eq!(run(&["grant", &serial, "everyone", "view"]).code, 0);
    assert!(run(&["acl", &serial]).out.contains("container #"));
    let ran = run(&["setperm", &serial, "0x3f010000"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("a container"), "{}", ran.err);
    assert!(!run(&["acl", &serial]).out.contains("container #"));
    // Its entry is one of nobody when it is dead.
    container_key::grant_permission(&abi, key, subject, rights).unwrap();
    keyns_sys::container::kill(&abi, std::os::fd::AsFd::as_fd(&container), 9, true).unwrap();
    let ran = run(&["acl", &serial]);
    assert!(ran.out.contains("dead"), "{}", ran.out);
}
