//! The sources of Linux as Debian has them, unpacked and patched.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::series::Series;
use super::{Fault, cache, output, succeed};
use crate::root;

const PACKAGE: &str = "linux-source-6.12";

/// A version of Debian's source package.
#[derive(Debug)]
pub(super) struct Source {
    package: PathBuf,
    /// Debian's version, for example `6.12.117-1~deb12u1`.
    pub(super) version: String,
}

impl Source {
    /// Fetches the package where it is not in the cache.
    pub(super) fn fetch() -> Result<Self, Fault> {
        let fetched = output(Command::new(root().join("tools/lab/fetch.sh")).arg(PACKAGE))
            .map_err(|fault| format!("cannot fetch {PACKAGE}: {fault}"))?;
        Self::of(PathBuf::from(fetched))
    }

    /// The package in the cache, if it is there.
    pub(super) fn cached() -> Result<Option<Self>, Fault> {
        let package = cache()?.with_file_name("lab").join(PACKAGE);
        if package.join("package.deb").exists() {
            Self::of(package).map(Some)
        } else {
            Ok(None)
        }
    }

    fn of(package: PathBuf) -> Result<Self, Fault> {
        let version = output(
            Command::new("dpkg-deb")
                .arg("--field")
                .arg(package.join("package.deb"))
                .arg("Version"),
        )?;
        Ok(Self { package, version })
    }

    /// Unpacks the sources into an empty directory and returns that of the tree.
    pub(super) fn unpack(&self, into: &Path) -> Result<PathBuf, Fault> {
        self.unpack_without(into, &[])
    }

    /// Unpacks the sources without what matches one of these patterns.
    pub(super) fn unpack_without(&self, into: &Path, patterns: &[&str]) -> Result<PathBuf, Fault> {
        let archive = self
            .package
            .join("files/usr/src")
            .join(format!("{PACKAGE}.tar.xz"));
        succeed(
            Command::new("tar")
                .args(["--extract", "--no-same-owner", "--file"])
                .arg(&archive)
                .arg("--directory")
                .arg(into)
                .args(
                    patterns
                        .iter()
                        .map(|pattern| format!("--exclude={PACKAGE}/{pattern}")),
                ),
        )
        .map_err(|fault| format!("cannot unpack {}: {fault}", archive.display()))?;
        Ok(into.join(PACKAGE))
    }

    /// Applies the patches in their order, and names the first that does not fit.
    pub(super) fn patch(&self, tree: &Path, series: &Series) -> Result<(), Fault> {
        for patch in series.patches() {
            self.apply(tree, patch)?;
        }
        Ok(())
    }

    /// Applies one patch, whose context must be there to the letter.
    pub(super) fn apply(&self, tree: &Path, patch: &Path) -> Result<(), Fault> {
        let name = patch.strip_prefix(root()).unwrap_or(patch).display();
        run_patch(tree, patch, "--forward").map_err(|_| {
            format!(
                "{name} does not apply to Debian's Linux {} with the patches before it",
                self.version
            )
        })
    }

    /// Takes back one patch that is applied.
    pub(super) fn take_back(&self, tree: &Path, patch: &Path) -> Result<(), Fault> {
        let name = patch.strip_prefix(root()).unwrap_or(patch).display();
        run_patch(tree, patch, "--reverse").map_err(|_| {
            format!(
                "{name} cannot be taken back from Debian's Linux {} with the patches after it",
                self.version
            )
        })
    }
}

fn run_patch(tree: &Path, patch: &Path, direction: &str) -> Result<(), Fault> {
    succeed(
        Command::new("patch")
            .args(["--strip=1", direction, "--batch", "--fuzz=0", "--silent"])
            .arg("--no-backup-if-mismatch")
            .arg("--input")
            .arg(patch)
            .current_dir(tree),
    )
}
