//! The parser of the command line takes whatever it is given.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use clap::{Parser as _, ValueEnum as _};
use keyctl_ns::cli::Cli;
use keyctl_ns::command::Command;
use keyctl_ns::command::container::ContainerCommand;
use keyctl_ns::command::intercept::InterceptAction;
use keyctl_ns::command::watch::{Topic, What};
use proptest::prelude::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("keyctl-ns").chain(line.split_whitespace()))
}

#[test]
fn intercept_list_is_the_list_and_not_a_container() {
    for (line, container) in [
        ("intercept list", None),
        ("intercept list web", Some("web")),
    ] {
        let Command::Intercept(args) = parse(line).unwrap().command else {
            panic!()
        };
        let Some(InterceptAction::List(list)) = args.action else {
            panic!("{line}")
        };
        assert_eq!(list.container.map(|c| c.to_string()).as_deref(), container);
    }
    assert!(parse("intercept web").is_err());
    let Command::Intercept(args) = parse("intercept web *").unwrap().command else {
        panic!()
    };
    assert_eq!(args.r#type.as_deref(), Some("*"));
}

#[test]
fn what_follows_the_dashes_belongs_to_the_program() {
    let line = "container run -T web -- sh -c --json --detach";
    let cli = parse(line).unwrap();
    assert!(!cli.global.json);
    let Command::Container(args) = cli.command else {
        panic!()
    };
    let ContainerCommand::Run(args) = args.action else {
        panic!()
    };
    assert!(!args.start.detach);
    assert_eq!(args.start.command, ["sh", "-c", "--json", "--detach"]);
    assert!(parse("container run web sh").is_err());
    assert!(parse("container run web").is_err());
    assert!(parse("container run web --program /bin/true").is_ok());
}

#[test]
fn an_agent_has_types_and_a_program() {
    let Command::Agent(args) = parse("agent serve user rxrpc --container web -- cat -n")
        .unwrap()
        .command
    else {
        panic!()
    };
    let keyctl_ns::command::agent::AgentCommand::Serve(args) = args.action else {
        panic!()
    };
    assert_eq!(args.types, ["user", "rxrpc"]);
    assert_eq!(args.command, ["cat", "-n"]);
    assert!(parse("agent serve user").is_err());
    assert!(parse("agent serve -- cat").is_err());
}

#[test]
fn a_payload_is_an_argument_only_in_the_forms_of_keyctl() {
    assert!(parse("add user token secret").is_err());
    assert!(parse("add user token secret @s").is_ok());
    assert!(parse("add user token secret @s --keyring @u").is_err());
    assert!(parse("add user token secret @s --container web").is_err());
    assert!(parse("add user token secret @s --fd 0").is_err());
    assert!(parse("update %user:token secret").is_ok());
    assert!(parse("update %user:token secret --file f").is_err());
    assert!(parse("answer 7 --payload-file").is_err());
}

#[test]
fn no_key_is_written_like_a_topic() {
    let watched = |word: &str| {
        let Command::Watch(args) = parse(&format!("watch {word}")).unwrap().command else {
            panic!()
        };
        args.what
    };
    for topic in Topic::value_variants() {
        let value = topic.to_possible_value().unwrap();
        let word = value.get_name();
        assert_eq!(watched(word), [What::Topic(*topic)]);
        // As the type keyring, a description or a container it is a key again.
        for key in [
            format!("%:{word}"),
            format!("%user:{word}"),
            format!("{word}/user:x"),
        ] {
            assert_eq!(watched(&key), [What::Key(key.parse().unwrap())]);
        }
    }
    assert_eq!(watched("-3"), [What::Key("@s".parse().unwrap())]);
    assert!(parse("watch").is_ok());
}

#[test]
fn limits_of_rules_are_checked() {
    for good in [
        "--deadline 1s",
        "--deadline 60",
        "--pending 256",
        "--rate 1",
        "--burst 1",
        "--reject EPERM:60s",
    ] {
        assert!(
            parse(&format!("intercept web user {good}")).is_ok(),
            "{good}"
        );
    }
    for bad in [
        "--deadline 0",
        "--deadline 61s",
        "--pending 0",
        "--pending 257",
        "--rate 0",
        "--reject EPERM:0",
    ] {
        assert!(
            parse(&format!("intercept web user {bad}")).is_err(),
            "{bad}"
        );
    }
}

const COMMANDS: [&str; 37] = [
    "add",
    "read",
    "describe",
    "grant",
    "ungrant",
    "acl",
    "move",
    "query",
    "answer",
    "reroute",
    "container",
    "create",
    "run",
    "intercept",
    "agent",
    "list",
    "tree",
    "padd",
    "print",
    "request2",
    "search",
    "timeout",
    "setperm",
    "chown",
    "link",
    "unlink",
    "session",
    "new_session",
    "show",
    "instantiate",
    "reject",
    "purge",
    "supports",
    "restrict_keyring",
    "dh_compute_kdf",
    "pkey_verify",
    "watch",
];

proptest! {
    #[test]
    fn no_arguments_make_the_parser_panic(
        first in prop::sample::select(&COMMANDS[..]),
        second in prop::sample::select(&COMMANDS[..]),
        rest in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5),
    ) {
        let words = ["keyctl-ns", first, second].map(OsString::from);
        let rest = rest.into_iter().map(OsString::from_vec);
        let _ = Cli::try_parse_from(words.into_iter().chain(rest));
    }

    #[test]
    fn no_key_makes_the_parser_panic(key in "[-@%/:.0-9a-z\\PC]{0,30}") {
        let _ = Cli::try_parse_from(["keyctl-ns", "describe", &key]);
        let _ = Cli::try_parse_from(["keyctl-ns", "grant", &key, &key, &key]);
        let _ = Cli::try_parse_from(["keyctl-ns", "watch", &key, &key]);
        let _ = Cli::try_parse_from(["keyctl-ns", "setperm", &key, &key]);
        let _ = Cli::try_parse_from(["keyctl-ns", "negate", &key, &key, &key]);
    }
}
