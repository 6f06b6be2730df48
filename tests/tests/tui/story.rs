//! The whole way on the screen, in tmux: a container is created, given a key, asks for another one,
//! and gets it from whoever sits before the dashboard.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use keyns_tests::bin_dir;
use keyns_tests::instance::{Instance, PATIENCE};
use tempfile::TempDir;

use crate::plain;

/// A server of tmux with one window, in which the dashboard runs.
struct Tmux {
    directory: TempDir,
}

impl Tmux {
    fn start(instance: &Instance) -> Self {
        let tmux = Self {
            directory: TempDir::new().unwrap(),
        };
        let program = bin_dir().join("keyns-tui");
        let line = format!("exec '{}' --instance {}", program.display(), instance.name);
        tmux.run(&["new-session", "-d", "-x", "110", "-y", "36", &line]);
        tmux
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("tmux")
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command
            .args(["-f", "/dev/null", "-u", "-S"])
            .arg(self.socket());
        plain(&mut command);
        let output = command.args(arguments).output().expect("tmux is needed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Presses keys, by the names that tmux has for them.
    fn press(&self, keys: &[&str]) {
        let mut arguments = vec!["send-keys"];
        arguments.extend(keys);
        self.run(&arguments);
    }

    fn types(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
    }

    #[track_caller]
    fn until(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if condition(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "not in time: {what}\n{screen}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn shows(&self, part: &str) -> String {
        self.until(&format!("“{part}”"), |screen| screen.contains(part))
    }

    /// Puts the cursor on the row that begins with `start`.
    #[track_caller]
    fn go_to(&self, start: &str) {
        let begins = |row: &str| {
            let row = row.trim_start_matches([' ', '▸', '▾', '●', '*']);
            row.starts_with(start)
        };
        let screen = self.until(&format!("a row “{start}”"), |screen| {
            screen.lines().any(begins)
        });
        // Below the line of tabs the tree begins; all of it is on this screen.
        let down = screen.lines().position(begins).unwrap() - 1;
        self.press(&["Home"]);
        for _ in 0..down {
            self.press(&["Down"]);
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen\n{}", self.screen());
        }
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(self.socket())
            .arg("kill-server")
            .output();
    }
}

#[test]
fn a_container_is_created_given_a_key_and_its_request_answered_from_the_screen() {
    let instance = Instance::start("story");
    let tmux = Tmux::start(&instance);
    tmux.shows("keynsd story");

    // A container.
    tmux.press(&["2"]);
    tmux.press(&["n"]);
    tmux.shows("Create a container");
    tmux.types("web");
    tmux.press(&["Enter"]);
    tmux.until("the new container", |screen| {
        !screen.contains("Create a container") && screen.contains("container web")
    });
    let shown = instance.json(&["container", "show", "web"]);
    assert_eq!(shown["container"]["state"], "created", "{shown}");

    // A key of it, which its processes do not find yet.
    let mut add = instance.command(&["add", "--container", "web", "user", "story:known"]);
    let mut adding = add
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    adding.stdin.take().unwrap().write_all(b"kn0wn").unwrap();
    assert!(adding.wait().unwrap().success());
    instance.ok(&["container", "run", "--detach", "web", "--", "sleep", "600"]);
    let probe = bin_dir().join("keyns-probe");
    let request = |description: &str| {
        let mut command = instance.command(&["container", "exec", "web", "--program"]);
        command.arg(&probe);
        command.args(["--", "keyns-probe", "request", "user", description]);
        command
    };
    let before = request("story:known").output().unwrap();
    assert_ne!(before.status.code(), Some(0), "{before:?}");

    // The grant, with what comes along accepted by name.
    tmux.press(&["1"]);
    tmux.shows("@s  your session");
    tmux.go_to("container web");
    tmux.press(&["l"]);
    tmux.go_to("its store");
    tmux.press(&["l"]);
    tmux.go_to("user: story:known");
    tmux.press(&["g"]);
    tmux.shows("container web ›");
    tmux.press(&["Tab", "Right", "Right", "Right", "Space"]);
    let implied = if instance.has("grant-inval-apart") {
        "read"
    } else {
        "read,inval"
    };
    tmux.shows(&format!("tick “accept” to give {implied} as well"));
    tmux.press(&["Tab", "Space"]);
    tmux.until("the preview", |screen| !screen.contains("tick “accept”"));
    tmux.press(&["Enter"]);
    tmux.until("the end of the dialog", |screen| {
        !screen.contains("┌ Grant")
    });
    let after = request("story:known").output().unwrap();
    let said = String::from_utf8_lossy(&after.stdout);
    assert!(
        after.status.success() && said.contains("kn0wn"),
        "{after:?}"
    );

    // Its requests wait for somebody.
    tmux.press(&["2"]);
    tmux.shows("1 living");
    tmux.go_to("container web");
    tmux.press(&["i"]);
    tmux.shows("Intercept");
    tmux.press(&["C-u"]);
    tmux.types("user");
    tmux.press(&["Enter"]);
    tmux.until("the end of the dialog", |screen| {
        !screen.contains("┌ Intercept")
    });
    let rules = instance.ok(&["intercept", "list", "web"]);
    assert!(rules.contains("queue"), "{rules}");

    // Somebody asks, which is seen, and gets the answer that is typed.
    tmux.press(&["3"]);
    let requester = request("story:ticket")
        // Callout information, without which the kernel asks nobody.
        .arg("please")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let seen = tmux.shows("user: story:ticket");
    assert!(seen.contains("web: keyns-probe"), "{seen}");
    // The cursor is on the only one.
    tmux.press(&["a"]);
    tmux.shows("▸ payload");
    tmux.types("t1cket");
    tmux.until("the payload, hidden", |screen| screen.contains("6 bytes"));
    assert!(!tmux.screen().contains("t1cket"));
    tmux.press(&["Enter"]);
    let answered = requester.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&answered.stdout);
    assert!(answered.status.success(), "{answered:?}");
    assert!(said.contains("\"t1cket\""), "{said}");
    tmux.until("the outcome", |screen| {
        screen
            .lines()
            .any(|row| row.contains("story:ticket") && row.contains("answered"))
    });
    assert!(!tmux.screen().contains("t1cket"));

    // Leaving it leaves the container.
    tmux.press(&["q"]);
    instance.until("the end of tmux", || {
        !Command::new("tmux")
            .arg("-S")
            .arg(tmux.socket())
            .arg("has-session")
            .output()
            .unwrap()
            .status
            .success()
    });
    let shown = instance.json(&["container", "show", "web"]);
    assert_eq!(shown["container"]["state"], "running", "{shown}");
    std::mem::drop(tmux);
    instance.stop();
}
