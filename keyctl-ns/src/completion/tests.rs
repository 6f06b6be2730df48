//! What is offered without a daemon.

use super::*;

/// Values and remarks for the last of `words`, behind the program's name, where no daemon listens.
fn offered(words: &[&str]) -> Vec<(String, String)> {
    let mut all: Vec<OsString> = ["keyctl-ns", "--socket", "/nonexistent/keynsd"]
        .map(OsString::from)
        .into();
    all.extend(words.iter().map(OsString::from));
    let answer = String::from_utf8(lines(&all, all.len() - 1)).unwrap();
    answer
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(value, remark)| (value.to_owned(), remark.to_owned()))
        .collect()
}

fn values(words: &[&str]) -> Vec<String> {
    offered(words).into_iter().map(|(value, _)| value).collect()
}

#[test]
fn commands_are_offered_with_what_they_do_and_options_are_not() {
    let commands = offered(&[""]);
    let (_, remark) = commands.iter().find(|(name, _)| name == "acl").unwrap();
    assert_eq!(
        remark,
        "Show who may do what with a key, and who enforces it"
    );
    assert!(!commands.iter().any(|(name, _)| name.starts_with('-')));
    assert_eq!(values(&["ungr"]), ["ungrant"]);
    assert!(values(&["container", ""]).contains(&"create".to_owned()));
}

#[test]
fn a_dash_offers_every_option_by_its_long_name() {
    let options = values(&["grant", "-"]);
    for option in ["--accept-implied", "--for", "--dry-run", "--json"] {
        assert!(
            options.contains(&option.to_owned()),
            "{option}: {options:?}"
        );
    }
    assert!(options.iter().all(|option| option.starts_with("--")));
}

#[test]
fn rights_are_joined_and_none_is_offered_twice() {
    assert_eq!(values(&["grant", "@s", "owner", "re"]), ["read", "revoke"]);
    assert_eq!(
        values(&["grant", "@s", "owner", "read,view,re"]),
        ["read,view,revoke"]
    );
    assert_eq!(
        values(&["grant", "@s", "owner", "view", "--accept-implied", "inv"]),
        ["inval"]
    );
}

#[test]
fn subjects_are_the_four_words_and_containers() {
    assert_eq!(
        values(&["grant", "@s", ""]),
        ["possessor", "owner", "group", "everyone", "container:"]
    );
}

#[test]
fn where_a_keyring_is_wanted_only_keyrings_are_offered() {
    for words in [&["list", ""][..], &["add", "--keyring", ""]] {
        let offered = values(words);
        let is_keyring = |value: &String| value.starts_with('@') || value.starts_with("%:");
        assert!(offered.contains(&"@s".to_owned()), "{offered:?}");
        let unnamed = |value: &String| value.bytes().all(|b| b.is_ascii_digit());
        let rest: Vec<_> = offered
            .iter()
            .filter(|value| !is_keyring(value) && !unnamed(value))
            .collect();
        assert!(rest.is_empty(), "{rest:?}");
    }
    assert_eq!(values(&["list", "@u"]), ["@u", "@us"]);
}

#[test]
fn files_and_commands_are_left_to_the_shell() {
    assert_eq!(values(&["add", "user", "x", "--file", "/et"]), [":files"]);
    assert_eq!(
        offered(&["add", "user", "x", "--file=/et"]),
        [(":files".to_owned(), "--file=".to_owned())]
    );
    assert_eq!(
        values(&["agent", "serve", "user", "--", "l"]),
        [":commands"]
    );
    assert_eq!(
        values(&["agent", "serve", "user", "--", "ls", ""]),
        [":files"]
    );
}

#[test]
fn what_runs_in_a_container_is_not_guessed_from_the_host() {
    assert_eq!(values(&["container", "exec", "web", "--", ""]), [""; 0]);
}

#[test]
fn a_word_that_does_not_exist_and_one_that_is_not_text_have_no_completion() {
    use std::os::unix::ffi::OsStringExt as _;
    let words = ["keyctl-ns", "acl"].map(OsString::from);
    assert_eq!(lines(&words, 7), b"");
    let bytes = [
        words[0].clone(),
        words[1].clone(),
        OsString::from_vec(vec![0xff]),
    ];
    assert_eq!(lines(&bytes, 2), b"");
}

#[test]
fn only_a_whole_call_is_one_for_completion() {
    let call = |words: &[&str]| -> Vec<OsString> { words.iter().map(OsString::from).collect() };
    for other in [
        &["keyctl-ns"][..],
        &["keyctl-ns", "list", "1"],
        &["keyctl-ns", COMMAND],
        &["keyctl-ns", COMMAND, "x", "keyctl-ns"],
        &["keyctl-ns", COMMAND, "-1", "keyctl-ns"],
    ] {
        assert_eq!(answer(&call(other)), None, "{other:?}");
    }
}

#[test]
fn the_daemon_that_is_asked_is_the_one_of_the_command_line() {
    let sockets = |words: &[&str]| {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        addresses(&words)
    };
    for words in [
        &["keyctl-ns", "--instance", "t1", "acl"][..],
        &["keyctl-ns", "acl", "--instance=t1"],
    ] {
        assert_eq!(
            sockets(words).first().unwrap(),
            std::path::Path::new("/run/keyns/t1/keynsd")
        );
    }
    assert_eq!(
        sockets(&["keyctl-ns", "--socket", "/x/y"]),
        [PathBuf::from("/x/y")]
    );
    // Behind the dashes it is an option of somebody else.
    assert_ne!(
        sockets(&["keyctl-ns", "agent", "serve", "--", "--socket", "/x/y"]),
        [PathBuf::from("/x/y")]
    );
}
