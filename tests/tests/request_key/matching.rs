//! Which line is found, and what would be executed.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::{Program, REQUEST, Scratch};

#[test]
fn every_line_is_matched_or_refused_as_by_the_c_program() {
    for line in [
        "",
        "\n",
        "create\n",
        "create \n",
        "create user\n",
        "create user *\n",
        "create user * *\n",
        "create user * *  \n",
        "create user * *\r\n",
        "crxate\n",
        "crxate \n",
        "crxate\t\n",
        "crxate user\n",
        "create usxr\n",
        "create usxr \n",
        "create usxr *\n",
        "create user x\n",
        "create user x *\n",
        "create user * x\n",
        "create user * x \n",
        "create user * x /a\n",
        "create user * x\r\n",
        "create user * * /\n",
        "create user * * a/\n",
        "create user * * ../a/b\n",
        "create user * *\t/a  b\t c  \n",
        "create user * * /a b\r\n",
        "\n\r\ncreate user * * /a b\x0c\x0b\r c\n",
        " create user * * /a\n",
        "\tcreate\n",
        "\x0bcreate\n",
        "#create\n",
        "# \0 \n",
        "create user * * /a # b #\n",
        "create user debug:1234 info /a\n",
        "create user debug:1234 infos /a\n",
        "Create user * * /a\n",
        "*\n",
        "* * * * /a\n",
        "create* * * * /a\n",
        "*create * * * /a\n",
        "**ate u*e*r * * /a\n",
        "create u*e*r * * /a\n",
        "create u* * * /a\n",
        "create use*ser * * /a\n",
        "create *user* * * /a\n",
        "create user debug:1* inf* /a\n",
        "create user debug:123?4 * /a\n",
        "create user [d]* * /a\n",
        "create user \\* * /a\n",
        "create \"user\" * * /a\n",
        "create user * info* /a\n",
        "create user * *info /a\n",
        "create user * * /a \u{e9}\u{20ac}\n",
        "create user * * |/a b\n",
        "create user * * |/a/ b\n",
        "create user * * ||/a b\n",
        "create user * * /a |b\n",
    ] {
        let scratch = Scratch::with(line);
        scratch.dry(&REQUEST);
        scratch.same(&[&["-dlnvv"], &REQUEST[..]].concat());
    }
}

#[test]
fn an_asterisk_between_two_texts_matches_as_documented() {
    // The C program compares the end of what is asked for with the beginning of the pattern.
    for (pattern, description, matches) in [
        ("d*", "debug", [true, true]),
        ("*g", "debug", [true, true]),
        ("d*g", "debug", [true, false]),
        ("d*g", "debud", [false, true]),
        ("d*d", "debud", [true, true]),
        ("de*ug", "debug", [true, false]),
        ("de*ug", "deug", [true, false]),
        ("de*eg", "deg", [false, false]),
    ] {
        let scratch = Scratch::with(format!("create user {pattern} * /a\n"));
        let description = format!("user;0;0;0;{description}");
        let words = [&["-dlnD", &description], &REQUEST[..]].concat();
        let found = Program::BOTH.map(|program| scratch.run(program, &words).status == Some(0));
        assert_eq!(found, matches, "{pattern} {description}");
    }
}

#[test]
fn bytes_that_are_no_text_are_bytes() {
    let scratch = Scratch::with(b"create user \xff* * /a \xfe %d\ncreate user * * /b \xfd %d\n");
    scratch.dry(&REQUEST);
}

#[test]
fn of_several_lines_the_same_one_is_preferred() {
    let patterns = ["user", "us*", "*"];
    let descriptions = ["debug:1234", "debug:*", "*:1234", "*"];
    let callouts = ["info", "i*", "*"];
    let mut rules = Vec::new();
    for type_ in patterns {
        for description in descriptions {
            for callout in callouts {
                let rule = format!("{type_} {description} {callout}");
                rules.push(format!("create {rule} /{}\n", rules.len()));
                rules.push(format!("* {rule} /{}\n", rules.len()));
            }
        }
    }
    // From every one on, forwards and backwards: each of them is the best of some file.
    for start in 0..rules.len() {
        Scratch::with(rules[start..].concat()).dry(&REQUEST);
        let backwards: Vec<_> = rules[start..].iter().rev().cloned().collect();
        Scratch::with(backwards.concat()).dry(&REQUEST);
    }
}

#[test]
fn a_tie_is_won_by_the_first_line() {
    let scratch = Scratch::with("create user debug:* * /first\ncreate user debug:* * /second\n");
    let outcome = scratch.dry(&REQUEST);
    assert!(outcome.stderr.contains("Run /first\n"), "{outcome:?}");
}

#[test]
fn lines_have_4095_bytes_at_most() {
    for length in [4090, 4093, 4094, 4095, 4096, 5000, 9000] {
        for end in ["\n", "", "\r\n"] {
            let start = "create user * * /a ";
            let line = format!("{start}{}{end}", "b".repeat(length - start.len()));
            let comment = format!("#{}{end}", "b".repeat(length - 1));
            // Of the last line, the C program loses the last character.
            let rule = format!("{line}{}", if end.is_empty() { "" } else { "#" });
            let last = rule.ends_with('b');
            let scratch = Scratch::with(&rule);
            if last && length < 4096 {
                let ours = scratch.run(Program::Ours, &[&["-dlnv"], &REQUEST[..]].concat());
                let word = "b".repeat(length - start.len());
                assert!(ours.stderr.contains(&format!("argv[1] = \"{word}\"")));
            } else {
                scratch.dry(&REQUEST);
            }
            Scratch::with(&comment).dry(&REQUEST);
            Scratch::with(format!("create user * * /a\n{comment}")).dry(&REQUEST);
        }
    }
}

#[test]
fn a_last_line_without_a_line_break_keeps_its_last_character() {
    let scratch = Scratch::with("create user * * /a %k %S");
    let words = [&["-dlnv"], &REQUEST[..]].concat();
    let [ours, theirs] = Program::BOTH.map(|program| scratch.run(program, &words));
    assert_eq!((ours.status, theirs.status), (Some(0), Some(1)));
    assert!(ours.stderr.ends_with("- argv[2] = \"9\"\n"), "{ours:?}");
    assert!(theirs.stderr.ends_with(": Missing macro name\n"));
}

#[test]
fn a_nul_is_no_end_of_the_line() {
    let words = [&["-dlnv"], &REQUEST[..]].concat();
    for rules in [
        &b"create user * * /a \0b\n"[..],
        b"create\0 user * * /a\n",
        b"\0\n",
    ] {
        let scratch = Scratch::with(rules);
        let ours = scratch.run(Program::Ours, &words);
        assert_eq!(ours.status, Some(1));
        let told = "request-key.conf:1: Syntax error\n";
        assert!(ours.stderr.ends_with(told), "{ours:?}");
    }
    let theirs = Scratch::with(b"create user * * /a \0b\n").run(Program::Stock, &words);
    assert_eq!(theirs.status, Some(0), "it executes half of it");
}

#[test]
fn macros_become_the_same_arguments() {
    for argument in [
        "%o",
        "%k",
        "%t",
        "%d",
        "%c",
        "%u",
        "%g",
        "%T",
        "%P",
        "%S",
        "%%",
        "%%%",
        "%%k",
        "%%%k",
        "%kk",
        "%k%",
        "a%k",
        "%",
        "%z",
        "%K",
        "%{",
        "%}",
        "%{}",
        "%{x",
        "%{user",
        "%{user}",
        "%{:}",
        "%{:x}",
        "%{user:}",
        "%{user:x",
        "%{user:x}y",
        "%{user:x}}",
        "%{us}er:a",
        "%{user:no such key}",
        "%{user:nosuchkey}",
        "%{nosuchtype:x}",
        "%{user:a:b}",
        "%{.dead:a}",
        "%{user:{}",
        "{user:x}",
        "\"%k\"",
        "'%c'",
    ] {
        for rule in ["/a", "|/a", "/a b c"] {
            let scratch = Scratch::with(format!("create user * * {rule} {argument} last\n"));
            scratch.dry(&REQUEST);
            scratch.dry(&["create", "12abc", "", "x y", "-", "", "0x9", "two words%k"]);
        }
    }
}

#[test]
fn a_program_has_253_arguments_at_most() {
    for count in [0, 1, 252, 253, 254, 255, 300] {
        Scratch::with(format!("create user * * /a{}\n", " b".repeat(count))).dry(&REQUEST);
        Scratch::with(format!("create user * * |/a{}\n", " %k".repeat(count))).dry(&REQUEST);
    }
}

#[test]
fn a_path_without_a_slash_is_an_error_and_no_crash() {
    let words = [&["-dlnv"], &REQUEST[..]].concat();
    for (command, program) in [("foo", "foo"), ("|foo a", "foo"), ("| a", ""), ("|", "")] {
        let scratch = Scratch::with(format!("#\ncreate user * * {command}\n"));
        let [ours, theirs] = Program::BOTH.map(|program| scratch.run(program, &words));
        assert_eq!((ours.status, theirs.status), (Some(1), Some(1)));
        let told = format!("request-key.conf:2: Program path lacks a '/': '{program}'\n");
        assert!(ours.stderr.ends_with(&told), "{ours:?}");
        assert!(theirs.stderr.ends_with("Died on signal 11"), "{theirs:?}");
    }
}

#[test]
fn only_some_files_of_the_directory_are_read() {
    let scratch = Scratch::with("create user * * /last\n");
    for name in [
        ".conf",
        ".hidden.conf",
        "a.cfg",
        "conf",
        "aconf",
        "a.confx",
        "a.conf~",
        "a.CONF",
    ] {
        scratch.file(&format!("request-key.d/{name}"), "wrong\n");
    }
    let directory = scratch.path().join("request-key.d");
    fs::create_dir(directory.join("directory.conf")).unwrap();
    symlink("/nonexistent", directory.join("nowhere.conf")).unwrap();
    symlink("../request-key.conf", directory.join("link.conf")).unwrap();
    let made = Command::new("mkfifo")
        .arg(directory.join("fifo.conf"))
        .status();
    assert!(made.unwrap().success());
    let outcome = scratch.dry(&REQUEST);
    assert_eq!(outcome.stderr.matches("__ read ").count(), 1, "{outcome:?}");
    scratch.file("request-key.d/a b.conf", "#\ncreate user * * /first\n");
    let outcome = scratch.dry(&REQUEST);
    assert!(outcome.stderr.contains("a b.conf:2: Prefer"), "{outcome:?}");
    assert!(outcome.stderr.contains("Run /first\n"), "{outcome:?}");
}

#[test]
fn the_files_of_the_directory_are_read_by_name() {
    let scratch = Scratch::new();
    let names = ["m.conf", "z.conf", "a.conf", "10.conf", "9.conf", "B.conf"];
    for name in names {
        let rule = format!("create user * * /{name}\n");
        scratch.file(&format!("request-key.d/{name}"), rule);
    }
    let words = [&["-dlnv"], &REQUEST[..]].concat();
    let read = |program| {
        let outcome = scratch.run(program, &words);
        let lines = outcome.stderr.lines();
        let names = lines.filter_map(|line| line.strip_prefix("__ read ")?.strip_suffix(" __"));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let (ours, mut theirs) = (read(Program::Ours), read(Program::Stock));
    let by_name = ["10.conf", "9.conf", "B.conf", "a.conf", "m.conf", "z.conf"];
    assert_eq!(ours, [&by_name[..], &["request-key.conf"]].concat());
    theirs[..6].sort();
    assert_eq!(ours, theirs, "the same files in another order");
}

#[test]
fn a_better_line_wins_in_whichever_file_it_is() {
    for (first, last) in [("debug:*", "*"), ("*", "debug:*"), ("*", "*")] {
        let scratch = Scratch::with(format!("create user {last} * /last\n"));
        let rule = format!("create user {first} * /first\n");
        scratch.file("request-key.d/a.conf", rule);
        scratch.dry(&REQUEST);
    }
    let scratch = Scratch::with("create user * * /last\n");
    scratch.file("request-key.d/a.conf", "create us\n");
    scratch.dry(&REQUEST);
    scratch.file("request-key.d/a.conf", "create users *\n");
    scratch.dry(&REQUEST);
}

#[test]
fn files_that_cannot_be_read_fail_the_request() {
    let scratch = Scratch::new();
    scratch.dry(&REQUEST);
    let file = scratch.path().join("request-key.conf");
    symlink("nowhere", &file).unwrap();
    scratch.dry(&REQUEST);
    fs::remove_file(&file).unwrap();
    symlink("request-key.conf", &file).unwrap();
    scratch.dry(&REQUEST);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    scratch.dry(&REQUEST);
    scratch.file("request-key.d", "");
    scratch.dry(&REQUEST);
    fs::remove_file(scratch.path().join("request-key.d")).unwrap();
    symlink("request-key.d", scratch.path().join("request-key.d")).unwrap();
    scratch.dry(&REQUEST);
}

#[test]
fn a_link_to_a_file_is_followed_at_the_top() {
    let scratch = Scratch::new();
    let file = scratch.file("elsewhere", "create user * * /a\n");
    symlink(&file, scratch.path().join("request-key.conf")).unwrap();
    fs::create_dir(scratch.path().join("real.d")).unwrap();
    scratch.file("real.d/x.conf", "create user debug:* * /b\n");
    symlink("real.d", scratch.path().join("request-key.d")).unwrap();
    scratch.dry(&REQUEST);
}

#[test]
fn a_directory_or_file_without_permission_fails_the_request() {
    use std::os::unix::fs::PermissionsExt as _;

    let scratch = Scratch::with("create user * * /a\n");
    let file = scratch.file("request-key.d/a.conf", "create user * * /b\n");
    // Both run as somebody for whom modes count; the programs must be where that one may go.
    let everyone = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    everyone(scratch.path(), 0o755);
    let programs = tempfile::tempdir().unwrap();
    everyone(programs.path(), 0o755);
    let run = |program: Program| {
        let copy = programs.path().join(format!("{program:?}"));
        fs::copy(program.path(), &copy).unwrap();
        let library = crate::libraries();
        let library_copy = programs.path().join("libkeyutils.so.1");
        fs::copy(library.join("libkeyutils.so.1"), library_copy).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(copy).args(["-dlnv"]).args(REQUEST);
        command.env("LD_LIBRARY_PATH", programs.path());
        let output = command.current_dir(scratch.path()).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for (path, told) in [
        (file, "Cannot open a.conf: Permission denied\n"),
        (
            scratch.path().join("request-key.d"),
            "Cannot open request-key.d: Permission denied\n",
        ),
    ] {
        everyone(&path, 0o000);
        let [ours, theirs] = Program::BOTH.map(run);
        assert_eq!(ours, theirs);
        assert_eq!(ours.0, Some(1));
        assert!(ours.1.ends_with(told), "{ours:?}");
        everyone(&path, 0o755);
    }
}

/// Numbers that look random and are the same each time (Knuth's linear congruential generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        let factor = 6_364_136_223_846_793_005;
        self.0 = self
            .0
            .wrapping_mul(factor)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }
}

#[test]
fn files_of_arbitrary_lines_are_taken_alike() {
    let operations = [
        "create", "create", "create", "*", "cre*", "*eate", "negate", "#create", "",
    ];
    let types = ["user", "user", "*", "us*", "*r", "logon", "**"];
    let descriptions = ["debug:1234", "debug:*", "*", "*4", "d*", "*:*", "debug"];
    let callouts = ["info", "*", "in*", "*fo", "inf", "info*", "*info"];
    let commands = [
        "/bin/p",
        "|/bin/p",
        "/bin/p %k %d",
        "|/a/b/c %c %%x",
        "/p %S\t%T",
        "/p %Z",
        "/",
        "x/",
        "",
        "/p %{user:no}",
        "/p # x",
    ];
    let spaces = [" ", "\t", "  ", " \t ", "\x0b"];
    let ends = ["\n", "\n", "\n", " \n", "\r\n", "\n\n", "\n#\n"];
    let mut numbers = Numbers(20_241_124);
    for _ in 0..300 {
        let mut rules = String::new();
        for _ in 0..=numbers.below(12) {
            let columns = [&operations[..], &types, &descriptions, &callouts, &commands];
            // Most lines are whole.
            let count = if numbers.below(10) == 0 {
                numbers.below(6)
            } else {
                5
            };
            for column in columns.iter().take(count) {
                rules += numbers.one_of(column);
                rules += numbers.one_of(&spaces);
            }
            rules += numbers.one_of(&ends);
        }
        let scratch = Scratch::with(&rules);
        scratch.same(&[&["-dlnvv"], &REQUEST[..]].concat());
    }
}
