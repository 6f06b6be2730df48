//! What must hold for the series: every patch applies, follows the style of the kernel and compiles
//! without a warning.

use std::fs;
use std::process::Command;

use super::build::{Machine, Variant, compile, configure};
use super::series::Series;
use super::source::Source;
use super::{Fault, cache, succeed};
use crate::root;

/// What is found and stays; `kernel/README.md` says why.
const ACCEPTED: &str = "ENOTSUPP,FILE_PATH_CHANGES,EMBEDDED_FUNCTION_NAME,VOLATILE";

pub(super) fn all() -> Result<(), Fault> {
    succeed(Command::new(root().join("tools/requirements.sh")).arg("kernel"))?;
    let source = Source::fetch()?;
    let series = Series::read(Variant::default())?;
    let plain = Series::read(Variant {
        unpatched: true,
        ..Variant::default()
    })?;
    let work = cache()?.join(format!("check.{}", std::process::id()));
    fs::create_dir_all(&work)
        .map_err(|error| format!("cannot make {}: {error}", work.display()))?;
    let checked = source.unpack(&work).and_then(|tree| {
        let objects = work.join("objects");
        let machine = Machine::Process;
        for patch in series.patches() {
            eprintln!("{}", patch.strip_prefix(root()).unwrap_or(patch).display());
            succeed(
                Command::new("perl")
                    .arg(tree.join("scripts/checkpatch.pl"))
                    .args(["--strict", "--quiet", "--ignore", ACCEPTED, "--root"])
                    .arg(&tree)
                    .arg(patch),
            )?;
            source.apply(&tree, patch)?;
            // The option that switches the series on comes with one of its patches.
            let kconfig = fs::read_to_string(tree.join("init/Kconfig")).unwrap_or_default();
            let lines = if kconfig.contains("config CONTAINERS\n") {
                series.configuration()?
            } else {
                plain.configuration()?
            };
            configure(machine, &tree, &objects, &(lines + "CONFIG_WERROR=y\n"))?;
            compile(machine, &tree, &objects)?;
        }
        Ok(())
    });
    fs::remove_dir_all(&work)
        .map_err(|error| format!("cannot remove {}: {error}", work.display()))?;
    checked
}
