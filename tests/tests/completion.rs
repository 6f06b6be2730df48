//! Completion as real shells do it: the scripts in `completions/`, the real program, a daemon with a
//! container, a daemon that is away, and one that never answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyns_tests::instance::{Instance, PATIENCE};
use keyns_tests::{bin_dir, unique};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

/// What completing a word may take; people notice more.
const AT_MOST: Duration = Duration::from_millis(50);

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../completions")
        .canonicalize()
        .unwrap()
}

/// The programs of this build before all others.
fn path() -> String {
    let rest = std::env::var("PATH").unwrap_or_default();
    format!("{}:{rest}", bin_dir().display())
}

fn is_there(shell: &str) -> bool {
    let found = Command::new(shell).arg("--version").output().is_ok();
    if !found {
        eprintln!("{shell} is not installed: not tried");
    }
    found
}

/// Which interactive shell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bash,
    Zsh,
}

/// An interactive shell on a terminal of its own.
struct Shell {
    process: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    home: TempDir,
}

impl Shell {
    fn start(kind: Kind) -> Self {
        let home = TempDir::new().unwrap();
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        // C-x d hands over the line as it stands; C-x a inserts everything that could follow.
        let dump = home.path().join("line");
        let (file, text) = match kind {
            Kind::Bash => (
                ".bashrc",
                format!(
                    "source '{}'\n\
                     dump() {{ printf %s \"$READLINE_LINE\" >'{d}.new'; mv '{d}.new' '{d}'; \
                     READLINE_LINE=; READLINE_POINT=0; }}\n\
                     bind -x '\"\\C-xd\": dump'\n\
                     bind '\"\\C-xa\": insert-completions'\n\
                     bind 'set enable-bracketed-paste off'\n",
                    scripts().join("keyctl-ns.bash").display(),
                    d = dump.display(),
                ),
            ),
            Kind::Zsh => (
                ".zshrc",
                format!(
                    "fpath=('{}' $fpath)\n\
                     autoload -U compinit && compinit -u -d '{h}/compdump'\n\
                     zstyle ':completion:*' menu no\nunsetopt auto_menu list_ambiguous\n\
                     dump() {{ print -rn -- \"$BUFFER\" >'{d}.new'; mv '{d}.new' '{d}'; BUFFER= }}\n\
                     zle -N dump; bindkey '^Xd' dump\n",
                    scripts().display(),
                    h = home.path().display(),
                    d = dump.display(),
                ),
            ),
        };
        fs::write(home.path().join(file), text).unwrap();
        let mut command = match kind {
            Kind::Bash => {
                let mut command = Command::new("bash");
                command.args(["--noprofile", "--rcfile"]);
                command.arg(home.path().join(file)).arg("-i");
                command
            }
            Kind::Zsh => {
                let mut command = Command::new("zsh");
                command.args(["-d", "-i"]).env("ZDOTDIR", home.path());
                command
            }
        };
        let process = command
            .env("PATH", path())
            .env("HOME", home.path())
            .env("TERM", "xterm")
            .env("INPUTRC", "/dev/null")
            .env_remove("KEYNS_SOCKET")
            .current_dir(home.path())
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal)
            .spawn()
            .unwrap();
        let keyboard = File::from(master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, seen) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        // Nobody else reads: the shell would wait when the terminal is full.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self {
            process,
            keyboard,
            screen,
            home,
        }
    }

    /// The line after `keys` were pressed behind `typed`.
    fn press(&mut self, typed: &str, keys: &str) -> String {
        let dump = self.home.path().join("line");
        write!(self.keyboard, "{typed}{keys}\x18d").unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(line) = fs::read_to_string(&dump) {
                fs::remove_file(&dump).unwrap();
                return line;
            }
            assert!(
                Instant::now() < deadline,
                "no line:\n{}",
                String::from_utf8_lossy(&self.screen.lock().unwrap())
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The line after Tab; again if a loaded machine made the daemon come too late.
    fn tab(&mut self, typed: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.press(typed, "\t");
            if line == expected || Instant::now() > deadline {
                assert_eq!(line, expected);
                return;
            }
        }
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the program offers for the last of `words`, values alone.
fn offered(words: &[&str]) -> Vec<String> {
    let output = Command::new(bin_dir().join("keyctl-ns"))
        .args(["__complete", &words.len().to_string(), "keyctl-ns"])
        .args(words)
        .env_remove("KEYNS_SOCKET")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split_once('\t').unwrap().0.to_owned())
        .collect()
}

/// As [`offered`], again until `wanted` is among them or the time is up.
fn offered_with(words: &[&str], wanted: &str) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let values = offered(words);
        if values.iter().any(|value| value == wanted) || Instant::now() > deadline {
            return values;
        }
    }
}

/// The shortest of several runs: what the program takes, not what else the machine does.
fn time(words: &[&str]) -> Duration {
    (0..20)
        .map(|_| {
            let start = Instant::now();
            offered(words);
            start.elapsed()
        })
        .min()
        .unwrap()
}

/// A key of the test's own session, removed again.
struct OwnKey<'a>(&'a Instance, String);

impl<'a> OwnKey<'a> {
    fn add(instance: &'a Instance, description: &str) -> Self {
        let serial = add(instance, &["add", "user", description]);
        Self(instance, serial)
    }
}

impl Drop for OwnKey<'_> {
    fn drop(&mut self) {
        self.0.run(&["invalidate", &self.1]);
    }
}

/// Adds a key, and returns its serial.
fn add(instance: &Instance, arguments: &[&str]) -> String {
    let mut child = instance
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"secret").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn bash_completes_commands_containers_and_keys_by_name() {
    let instance = Instance::start("complete-bash");
    instance.ok(&["container", "create", "web", "--root", "empty"]);
    add(
        &instance,
        &["add", "--container", "web", "user", "db:password"],
    );
    let name = unique("keyns-test:own");
    let own = OwnKey::add(&instance, &name);
    let mut bash = Shell::start(Kind::Bash);
    let us = format!("keyctl-ns --instance {}", instance.name);

    bash.tab("keyctl-ns ungr", "keyctl-ns ungrant ");
    bash.tab("keyctl-ns container cr", "keyctl-ns container create ");
    bash.tab(
        "keyctl-ns grant @s owner view,se",
        "keyctl-ns grant @s owner view,se",
    );
    bash.tab(
        "keyctl-ns grant @s owner view,sea",
        "keyctl-ns grant @s owner view,search ",
    );
    bash.tab("keyctl-ns acl --js", "keyctl-ns acl --json ");
    bash.tab(
        &format!(
            "keyctl-ns --instance {}",
            &instance.name[..instance.name.len() - 1]
        ),
        &format!("{us} "),
    );
    // A subject is one word, although bash ends words at colons.
    bash.tab(
        &format!("{us} grant @s con"),
        &format!("{us} grant @s container:"),
    );
    bash.tab(
        &format!("{us} grant @s container:"),
        &format!("{us} grant @s container:web "),
    );
    bash.tab(
        &format!("{us} grant @s container:w"),
        &format!("{us} grant @s container:web "),
    );
    bash.tab(
        &format!("{us} container kill w"),
        &format!("{us} container kill web "),
    );
    // A container's key is completed in two steps, without a blank between them.
    bash.tab(&format!("{us} acl w"), &format!("{us} acl web/"));
    bash.tab(
        &format!("{us} acl web/"),
        &format!("{us} acl web/user:db:password "),
    );
    bash.tab(
        &format!("{us} acl web/user:db:p"),
        &format!("{us} acl web/user:db:password "),
    );
    bash.tab(
        &format!("{us} acl %user:{}", &name[..name.len() - 2]),
        &format!("{us} acl %user:{name} "),
    );
    // The user ids of everybody's keyrings begin with @u: this one is complete.
    bash.tab("keyctl-ns acl @us", "keyctl-ns acl @us ");
    assert_eq!(
        bash.press("keyctl-ns acl @", "\x18a").trim_end(),
        "keyctl-ns acl @p @s @t @u @us"
    );
    // In the middle of a line, and behind the end of another command.
    bash.tab("true; keyctl-ns ungr", "true; keyctl-ns ungrant ");
    assert_eq!(
        bash.press(
            "keyctl-ns ungr %user:x",
            "\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\t"
        ),
        "keyctl-ns ungrant %user:x"
    );
    // Files are the shell's own business, with its quoting.
    fs::write(bash.home.path().join("a file"), "").unwrap();
    bash.tab(
        "keyctl-ns add user d --file a",
        "keyctl-ns add user d --file a\\ file ",
    );
    bash.tab(
        "keyctl-ns add user d --file=a",
        "keyctl-ns add user d --file=a\\ file ",
    );
    bash.tab(
        "keyctl-ns agent serve user -- tru",
        "keyctl-ns agent serve user -- tru",
    );
    bash.tab(
        "keyctl-ns agent serve user -- printen",
        "keyctl-ns agent serve user -- printenv ",
    );
    drop((bash, own));
    instance.stop();
}

#[test]
fn descriptions_that_a_shell_would_execute_are_offered_by_serial() {
    let instance = Instance::start("complete-evil");
    instance.ok(&["container", "create", "web", "--root", "empty"]);
    let touched = unique("/tmp/keyns-test-touched");
    let evil = format!("x$(touch {touched})");
    let inside = add(&instance, &["add", "--container", "web", "user", &evil]);
    let own = OwnKey::add(
        &instance,
        &format!("`touch {touched}`\n\x1b[2J; rm -rf ~ #"),
    );
    let at = ["--instance", &instance.name, "acl"];

    let values = offered_with(&[&at[..], &["web/"]].concat(), &format!("web/{inside}"));
    assert!(values.contains(&format!("web/{inside}")), "{values:?}");
    let values = offered(&[&at[..], &[""]].concat());
    assert!(values.contains(&own.1), "{values:?}");
    let inert = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    assert!(
        values.iter().all(|value| value.chars().all(inert)),
        "{values:?}"
    );

    let mut bash = Shell::start(Kind::Bash);
    let line = format!("keyctl-ns --instance {} acl", instance.name);
    bash.tab(&format!("{line} web/"), &format!("{line} web/{inside} "));
    bash.press(&format!("{line} "), "\t\t");
    let screen = bash.screen();
    assert!(!screen.contains("touch"), "{screen}");
    assert!(!Path::new(&touched).exists());
    drop((bash, own));
    instance.stop();
}

#[test]
fn without_a_daemon_there_is_silence_and_no_daemon_is_started() {
    let name = unique("complete-none");
    let at = ["--instance", &name];
    assert_eq!(
        offered(&[&at[..], &["grant", "@s", "container:"]].concat()),
        [""; 0]
    );
    assert!(
        offered(&[&at[..], &["acl", "@"]].concat()).contains(&"@s".to_owned()),
        "what needs no daemon is still offered"
    );
    let mut bash = Shell::start(Kind::Bash);
    let line = format!("keyctl-ns --instance {name} container kill ");
    assert_eq!(bash.press(&line, "\t"), line);
    // The shell echoes what is typed; nothing else may be there.
    let screen = bash.screen();
    assert!(
        !screen.contains("error") && !screen.contains("cause"),
        "{screen}"
    );
    assert!(!Path::new("/run/keyns").join(&name).exists());
}

#[test]
fn completing_a_word_takes_less_than_fifty_milliseconds() {
    let instance = Instance::start("complete-time");
    instance.ok(&["container", "create", "web", "--root", "empty"]);
    add(
        &instance,
        &["add", "--container", "web", "user", "db:password"],
    );
    let at = ["--instance", &instance.name];
    for words in [
        &["grant", ""][..],
        &["acl", "web/"],
        &["grant", "@s", "container:"],
        &["add", ""],
        &[""],
    ] {
        let taken = time(&[&at[..], words].concat());
        eprintln!("{words:?}: {taken:?}");
        assert!(taken < AT_MOST, "{words:?}: {taken:?}");
    }
    instance.stop();
    let taken = time(&["--instance", "complete-away", "grant", "@s", "container:"]);
    eprintln!("no daemon: {taken:?}");
    assert!(taken < AT_MOST, "no daemon: {taken:?}");
}

#[test]
fn a_daemon_that_never_answers_is_not_waited_for() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("keynsd");
    let _silent = UnixListener::bind(&socket).unwrap();
    let words = ["--socket", socket.to_str().unwrap(), "acl", ""];
    let taken = time(&words);
    assert!(taken < 2 * AT_MOST, "{taken:?}");
    assert!(offered(&words).contains(&"@s".to_owned()));
}

#[test]
fn zsh_completes_the_same_words() {
    if !is_there("zsh") {
        return;
    }
    let instance = Instance::start("complete-zsh");
    instance.ok(&["container", "create", "web", "--root", "empty"]);
    add(
        &instance,
        &["add", "--container", "web", "user", "db:password"],
    );
    let mut zsh = Shell::start(Kind::Zsh);
    let us = format!("keyctl-ns --instance {}", instance.name);
    zsh.tab("keyctl-ns ungr", "keyctl-ns ungrant ");
    zsh.tab(
        &format!("{us} grant @s con"),
        &format!("{us} grant @s container:"),
    );
    zsh.tab(
        &format!("{us} grant @s container:w"),
        &format!("{us} grant @s container:web "),
    );
    zsh.tab(&format!("{us} acl w"), &format!("{us} acl web/"));
    zsh.tab(
        &format!("{us} acl web/"),
        &format!("{us} acl web/user:db:password "),
    );
    fs::write(zsh.home.path().join("a file"), "").unwrap();
    zsh.tab(
        "keyctl-ns add user d --file a",
        "keyctl-ns add user d --file a\\ file ",
    );
    zsh.tab(
        "keyctl-ns add user d --file=a",
        "keyctl-ns add user d --file=a\\ file ",
    );
    drop(zsh);
    instance.stop();
}

#[test]
fn fish_completes_the_same_words() {
    if !is_there("fish") {
        return;
    }
    let instance = Instance::start("complete-fish");
    instance.ok(&["container", "create", "web", "--root", "empty"]);
    add(
        &instance,
        &["add", "--container", "web", "user", "db:password"],
    );
    let home = TempDir::new().unwrap();
    fs::write(home.path().join("a file"), "").unwrap();
    let complete = |line: &str| {
        let output = Command::new("fish")
            .args(["--no-config", "-c"])
            .arg("source $argv[1]; complete -C $argv[2]")
            .arg(scripts().join("keyctl-ns.fish"))
            .arg(line)
            .env("PATH", path())
            .env("HOME", home.path())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let us = format!("keyctl-ns --instance {}", instance.name);
    assert!(complete("keyctl-ns ungr").starts_with("ungrant\t"));
    assert!(complete("keyctl-ns grant @s own").starts_with("owner\t"));
    instance.until("the daemon is in time", || {
        complete(&format!("{us} acl web/")).starts_with("web/user:db:password\t")
    });
    instance.until("the daemon is in time", || {
        complete(&format!("{us} grant @s container:")).starts_with("container:web\t")
    });
    assert!(complete("keyctl-ns add user d --file a").contains("a file"));
    assert!(complete("keyctl-ns add user d --file=a").contains("--file=a file"));
    instance.stop();
}
