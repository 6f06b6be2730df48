//! The lab itself: what goes in, what comes out, and what does not.

use std::path::Path;
use std::time::{Duration, Instant};

use keyns_tests::{lab, unique};

use crate::PATIENCE;

#[test]
fn a_command_runs_on_linux_6_1_and_changes_nothing_here() {
    let name = unique("lab");
    let script = format!(
        "uname -r
        for directory in /etc /usr/sbin /var/lib {repository}; do
            echo x > $directory/{name}
            cat $directory/{name}
        done
        rm /bin/ls
        echo for standard error >&2
        exit 7",
        repository = lab::repository().display(),
    );
    let ran = lab::script(&script, PATIENCE);
    assert_eq!(ran.code, 7, "{}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("6.1."), "{}", ran.out);
    assert!(ran.out.ends_with("\nx\nx\nx\nx\n"), "{}", ran.out);
    assert_eq!(ran.err, "for standard error\n");
    for directory in [
        Path::new("/etc"),
        Path::new("/usr/sbin"),
        Path::new("/var/lib"),
        &lab::repository(),
    ] {
        assert!(!directory.join(&name).exists(), "{}", directory.display());
    }
    assert!(Path::new("/bin/ls").exists());
}

#[test]
fn a_command_that_hangs_is_ended() {
    let begun = Instant::now();
    let ran = lab::script("echo begun; sleep 1000", Duration::from_secs(12));
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (124, "begun\n"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("not done after 12 seconds"), "{}", ran.err);
    assert!(begun.elapsed() < Duration::from_secs(60));
}
