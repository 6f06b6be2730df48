//! The Debian package on a machine with systemd, which boots in the lab for it.

use std::path::Path;
use std::process::Command;

use keyns_tests::{bin_dir, lab};

use crate::PATIENCE;
use crate::install::package;

/// The package, made of the programs that are tested.
fn own_package() -> String {
    let output = Command::new("tools/deb.sh")
        .arg(bin_dir())
        .arg("--fast")
        .current_dir(lab::repository())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().last().unwrap().to_owned()
}

#[test]
fn the_package_serves_from_installation_to_removal_and_leaves_nothing() {
    if !Path::new("/lib/systemd/systemd").exists() {
        eprintln!("there is no systemd: not tried");
        return;
    }
    let script = format!(
        "export PATH={}:$PATH DEB='{}' DEBS='{} {}'\ntests/tests/lab/systemd.sh",
        bin_dir().display(),
        own_package(),
        package("libkeyutils1"),
        package("keyutils"),
    );
    let ran = lab::run_systemd(&["bash", "-euo", "pipefail", "-c", &script], PATIENCE);
    println!("{}", ran.out);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.ends_with("gone without a trace\n"), "{}", ran.err);
}
