//! The table of commands.

use std::ffi::CStr;
use std::ops::RangeInclusive;

use super::output::Output;
use super::stop::Stop;
use super::{
    attribute, dh, find, limits, link, list, make, pkey, purge, read, session, show, supports,
    watch, watch_session,
};

/// One invocation of a command.
pub(crate) struct Call<'a> {
    /// The command's flag was given, and is not among the words.
    pub(crate) flag: bool,
    /// What stands behind the command.
    pub(crate) words: &'a [&'static CStr],
    pub(crate) out: &'a mut Output,
}

/// What a command does, and the status it ends with.
pub(crate) type Run = fn(&mut Call<'_>) -> Result<i32, Stop>;

/// A flag is a word, not an option: it counts in its own place and spelling only.
#[derive(Debug, Clone, Copy)]
enum Flag {
    /// There is none.
    No,
    /// As the first word.
    First(&'static CStr),
    /// As the first of this many words.
    FirstOf(usize, &'static CStr),
}

/// A command: everything the program knows of it.
pub struct Command {
    /// Its name, to be typed in full.
    pub name: &'static str,
    /// How it is called: one line of the usage text for each way.
    pub synopses: &'static [&'static str],
    flag: Flag,
    words: RangeInclusive<usize>,
    run: Run,
}

const fn command(
    name: &'static str,
    synopses: &'static [&'static str],
    words: RangeInclusive<usize>,
    run: Run,
) -> Command {
    Command {
        name,
        synopses,
        flag: Flag::No,
        words,
        run,
    }
}

impl Command {
    const fn with_hex(mut self) -> Self {
        self.flag = Flag::First(c"-x");
        self
    }

    const fn with(mut self, flag: Flag) -> Self {
        self.flag = flag;
        self
    }

    /// A table for [`limits`], whose commands have neither flags nor words.
    pub(crate) const fn test(name: &'static str, run: Run) -> Self {
        command(name, &[""], 0..=0, run)
    }
}

const MANY: usize = usize::MAX;

/// All commands, in the order of the usage text.
pub const COMMANDS: &[Command] = &[
    command("--version", &[""], 0..=MANY, session::version),
    command(
        "add",
        &["[-x] <type> <desc> <data> <keyring>"],
        4..=4,
        make::add,
    )
    .with_hex(),
    command("chgrp", &["<key> <gid>"], 2..=2, attribute::chgrp),
    command("chown", &["<key> <uid>"], 2..=2, attribute::chown),
    command("clear", &["<keyring>"], 1..=1, link::clear),
    command("describe", &["<keyring>"], 1..=1, list::describe),
    command(
        "dh_compute",
        &["<private> <prime> <base>"],
        3..=3,
        dh::compute,
    ),
    command(
        "dh_compute_kdf",
        &["<private> <prime> <base> <len> <hash_name>"],
        5..=5,
        dh::kdf,
    ),
    command(
        "dh_compute_kdf_oi",
        &["[-x] <private> <prime> <base> <len> <hash_name>"],
        5..=5,
        dh::kdf_with_other_info,
    )
    .with_hex(),
    command(
        "get_persistent",
        &["<keyring> [<uid>]"],
        1..=2,
        find::get_persistent,
    ),
    command("id", &["<key>"], 1..=1, find::id),
    command(
        "instantiate",
        &["[-x] <key> <data> <keyring>"],
        3..=3,
        make::instantiate,
    )
    .with_hex(),
    command("invalidate", &["<key>"], 1..=1, attribute::invalidate),
    command("link", &["<key> <keyring>"], 2..=2, link::link),
    command("list", &["<keyring>"], 1..=1, list::list),
    command(
        "move",
        &["[-f] <key> <from_keyring> <to_keyring>"],
        3..=3,
        link::move_key,
    )
    .with(Flag::FirstOf(4, c"-f")),
    command(
        "negate",
        &["<key> <timeout> <keyring>"],
        3..=3,
        make::negate,
    ),
    command("new_session", &["[<name>]"], 0..=1, session::new_session),
    command("newring", &["<name> <keyring>"], 2..=2, make::newring),
    command("padd", &["[-x] <type> <desc> <keyring>"], 3..=3, make::padd).with_hex(),
    command(
        "pinstantiate",
        &["[-x] <key> <keyring>"],
        2..=2,
        make::pinstantiate,
    )
    .with_hex(),
    command("pipe", &["<key>"], 1..=1, read::pipe),
    command(
        "pkey_query",
        &["<key> <pass> [k=v]*"],
        2..=MANY,
        pkey::query,
    ),
    command(
        "pkey_encrypt",
        &["<key> <pass> <datafile> [k=v]*"],
        3..=MANY,
        pkey::encrypt,
    ),
    command(
        "pkey_decrypt",
        &["<key> <pass> <datafile> [k=v]*"],
        3..=MANY,
        pkey::decrypt,
    ),
    command(
        "pkey_sign",
        &["<key> <pass> <datafile> [k=v]*"],
        3..=MANY,
        pkey::sign,
    ),
    command(
        "pkey_verify",
        &["<key> <pass> <datafile> <sigfile> [k=v]*"],
        4..=MANY,
        pkey::verify,
    ),
    command(
        "prequest2",
        &["<type> <desc> [<dest_keyring>]"],
        2..=3,
        find::prequest2,
    ),
    command("print", &["<key>"], 1..=1, read::print),
    command("pupdate", &["[-x] <key>"], 1..=1, make::pupdate).with_hex(),
    command(
        "purge",
        &["<type>", "[-p] [-i] <type> <desc>", "-s <type> <desc>"],
        0..=MANY,
        purge::purge,
    ),
    command("rdescribe", &["<keyring> [sep]"], 1..=2, list::rdescribe),
    command("read", &["<key>"], 1..=1, read::read),
    command("reap", &["[-v]"], 0..=0, purge::reap).with(Flag::First(c"-v")),
    command(
        "reject",
        &["<key> <timeout> <error> <keyring>"],
        4..=4,
        make::reject,
    ),
    command(
        "request",
        &["<type> <desc> [<dest_keyring>]"],
        2..=3,
        find::request,
    ),
    command(
        "request2",
        &["<type> <desc> <info> [<dest_keyring>]"],
        3..=4,
        find::request2,
    ),
    command(
        "restrict_keyring",
        &["<keyring> [<type> [<restriction>]]"],
        1..=3,
        link::restrict_keyring,
    ),
    command("revoke", &["<key>"], 1..=1, attribute::revoke),
    command("rlist", &["<keyring>"], 1..=1, list::rlist),
    command(
        "search",
        &["<keyring> <type> <desc> [<dest_keyring>]"],
        3..=4,
        find::search,
    ),
    command("security", &["<key>"], 1..=1, attribute::security),
    command(
        "session",
        &[
            "",
            "- [<prog> <arg1> <arg2> ...]",
            "<name> [<prog> <arg1> <arg2> ...]",
        ],
        0..=MANY,
        session::session,
    ),
    command("setperm", &["<key> <mask>"], 2..=2, attribute::setperm),
    command("show", &["[-x] [<keyring>]"], 0..=1, show::show).with_hex(),
    command("supports", &["[<cap> | --raw]"], 0..=1, supports::supports),
    command("timeout", &["<key> <timeout>"], 2..=2, attribute::timeout),
    command("unlink", &["<key> [<keyring>]"], 1..=2, link::unlink),
    command("update", &["[-x] <key> <data>"], 2..=2, make::update).with_hex(),
    command("watch", &["[-f<filters>] <key>"], 0..=MANY, watch::watch),
    command("watch_add", &["<fd> <key>"], 2..=2, watch::add),
    command("watch_rm", &["<fd> <key>"], 2..=2, watch::remove),
    command(
        "watch_session",
        &["[-f<filters>] [-n <name>] <notifylog> <gclog> <fd> <prog> [<arg1> <arg2> ...]"],
        0..=MANY,
        watch_session::watch_session,
    ),
    command("watch_sync", &["<fd>"], 1..=1, watch::sync),
    command("--test", &["..."], 0..=MANY, limits::test),
];

/// Finds the command that the first word names, and runs it with the others.
pub(crate) fn dispatch(words: &[&'static CStr], out: &mut Output) -> Result<i32, Stop> {
    let Some((name, words)) = words.split_first() else {
        return Err(Stop::Usage);
    };
    match find(COMMANDS, name) {
        Some(command) => run(command, words, out, &Stop::Usage),
        None => Err(Stop::said("Unknown command", 2)),
    }
}

/// The command of exactly this name: abbreviations do not exist, whatever manuals say.
pub(crate) fn find<'a>(commands: &'a [Command], name: &CStr) -> Option<&'a Command> {
    commands
        .iter()
        .find(|command| command.name.as_bytes() == name.to_bytes())
}

pub(crate) fn run(
    command: &Command,
    words: &[&'static CStr],
    out: &mut Output,
    usage: &Stop,
) -> Result<i32, Stop> {
    let is_flag = |flag| words.first() == Some(&flag);
    let flag = match command.flag {
        Flag::No => false,
        Flag::First(flag) => is_flag(flag),
        Flag::FirstOf(count, flag) => words.len() == count && is_flag(flag),
    };
    let words = words.get(usize::from(flag)..).unwrap_or_default();
    if !command.words.contains(&words.len()) {
        return Err(usage.clone());
    }
    (command.run)(&mut Call { flag, words, out })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_is_there_twice() {
        for (at, command) in COMMANDS.iter().enumerate() {
            let name = std::ffi::CString::new(command.name).unwrap();
            assert!(std::ptr::eq(find(COMMANDS, &name).unwrap(), &COMMANDS[at]));
        }
    }

    #[test]
    fn names_are_not_abbreviated() {
        for name in [c"sho", c"rdesc", c"", c"Show", c"show ", c"--versio"] {
            assert!(find(COMMANDS, name).is_none(), "{name:?}");
        }
    }
}
