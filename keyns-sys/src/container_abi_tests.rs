//! What is believed of a kernel’s file, and what is not.

use super::*;
use proptest::prelude::*;

const WHOLE: &str = include_str!("container_abi_whole.txt");

#[test]
fn a_kernel_with_everything_has_every_feature() {
    let abi = ContainerAbi::parse(WHOLE.as_bytes()).unwrap();
    for feature in Feature::ALL {
        assert!(abi.has(feature), "{feature}");
    }
    assert_eq!(abi.fork, Some(501));
    assert_eq!(abi.flag_mask, 0x3ff);
    assert_eq!(abi.container_keyring, Some(-9));
}

#[test]
fn a_line_that_is_missing_is_a_feature_that_is_missing() {
    for (line, feature) in [
        ("syscall.container_kill 504\n", Feature::Containers),
        ("syscall.container_socket 502\n", Feature::Sockets),
        ("fsconfig.set_container 9\n", Feature::Mounts),
        ("keyctl.get_acl 39\n", Feature::KeyAcls),
        ("key_spec.container_keyring -9\n", Feature::ContainerKeyring),
        ("keyctl.find_lru 38\n", Feature::Interception),
    ] {
        let abi = ContainerAbi::parse(WHOLE.replace(line, "").as_bytes()).unwrap();
        for other in Feature::ALL {
            assert_eq!(abi.has(other), other != feature, "{line}");
        }
    }
}

#[test]
fn only_the_first_line_tells_the_version() {
    for text in [
        "", "\n", "abi 2\n", "abi 1 \n", " abi 1\n", "abi 10\n", "abi\n",
    ] {
        assert_eq!(ContainerAbi::parse(text.as_bytes()), Err(AbiError::Version));
    }
    let later = "syscall.container_create 500\nabi 1\n";
    assert_eq!(
        ContainerAbi::parse(later.as_bytes()),
        Err(AbiError::Version)
    );
    assert_eq!(
        ContainerAbi::parse(b"abi 1\nabi 1\n"),
        Err(AbiError::Twice("abi"))
    );
    assert_eq!(ContainerAbi::parse(b"abi 1"), Ok(ContainerAbi::default()));
}

#[test]
fn numbers_of_other_calls_and_nonsense_are_not_believed() {
    let error = |line: &str| ContainerAbi::parse(format!("abi 1\n{line}\n").as_bytes());
    for line in [
        "syscall.container_create 60",
        "syscall.container_create -500",
        "syscall.container_create 512",
        "keyctl.find_lru 3",
        "key_spec.container_keyring -3",
        "key_spec.container_keyring 9",
        "container.flag_mask -1",
    ] {
        assert!(matches!(error(line), Err(AbiError::Value(_))), "{line}");
    }
    for line in [
        "",
        "x",
        "x ",
        " 1",
        "X 1",
        "x  1",
        "x +1",
        "x 0x",
        "x 0x-1",
        "x --1",
        "x 1 ",
        "x 1.0",
        "x 99999999999999999999",
    ] {
        assert_eq!(error(line), Err(AbiError::Line(2)), "{line}");
    }
    assert_eq!(
        error("keyctl.find_lru 38\nkeyctl.find_lru 38"),
        Err(AbiError::Twice("find_lru"))
    );
    assert_eq!(error("something.new 7"), Ok(ContainerAbi::default()));
}

#[test]
fn the_running_kernel_says_it_or_has_no_containers() {
    let said = ContainerAbi::read().unwrap();
    assert_eq!(said.is_some(), std::path::Path::new(PATH).exists());
}

proptest! {
    #[test]
    fn whatever_is_read_no_number_is_outside_its_range(text in proptest::collection::vec(any::<u8>(), 0..600)) {
        check(&text)?;
        let mut after = b"abi 1\n".to_vec();
        after.extend(&text);
        check(&after)?;
    }

    #[test]
    fn lines_in_any_order_mean_the_same(order in Just(WHOLE.lines().skip(1).collect::<Vec<_>>()).prop_shuffle()) {
        let text = format!("abi 1\n{}\n", order.join("\n"));
        prop_assert_eq!(ContainerAbi::parse(text.as_bytes()), ContainerAbi::parse(WHOLE.as_bytes()));
    }

    #[test]
    fn numbers_are_read_as_they_are_written(number in 463i64..=511, unknown in any::<i32>()) {
        for text in [format!("{number}"), format!("{number:#x}")] {
            let text = format!("abi 1\nsyscall.container_wait {text}\nx.y_1 {unknown}\n");
            prop_assert_eq!(ContainerAbi::parse(text.as_bytes()).unwrap().wait, Some(number));
        }
    }
}

fn check(text: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(abi) = ContainerAbi::parse(text) {
        for call in [abi.create, abi.fork, abi.socket, abi.wait, abi.kill] {
            prop_assert!(call.is_none_or(|number| CALLS.contains(&number)));
        }
    }
    Ok(())
}
