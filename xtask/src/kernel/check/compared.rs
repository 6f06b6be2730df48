//! What is said about the files that a patch touches, before and after it.

use std::fmt::Write as _;
use std::fs;

use super::build::{configure, jobs, make};
use super::program::said;
use super::{Check, Combination, Fault, Step, Touched, Warnings};

impl Check {
    /// What is said about the files that a patch touches, and which of them can be compiled.
    pub(super) fn warnings(&self, touched: &Touched) -> Result<(Warnings, Vec<String>), Fault> {
        let objects = self.objects("warnings");
        let with = Combination::most(self.containers);
        configure(&self.tree, &objects, &with.configuration()?)?;
        let mut make = make(&self.tree, &objects);
        make.args(["--keep-going", "W=1", "C=1"]).arg(jobs()?);
        let there: Vec<&String> = touched
            .sources
            .iter()
            .filter(|source| self.tree.join(source).exists())
            .collect();
        for source in &there {
            let object = object(source);
            // Only what is compiled anew is warned about.
            let _ = fs::remove_file(objects.join(&object));
            make.arg(object);
        }
        if there.is_empty() {
            return Ok(<_>::default());
        }
        // That something cannot be compiled is told by its absence.
        let (_, said) = said(&mut make)?;
        let (compiled, failed): (Vec<&String>, Vec<&String>) = there
            .into_iter()
            .partition(|source| objects.join(object(source)).exists());
        let mut warnings = Warnings::read(&said, &self.tree.display().to_string());
        warnings.forget(&failed);
        Ok((warnings, compiled.into_iter().cloned().collect()))
    }

    pub(super) fn new_warnings(&self, touched: &Touched, before: &(Warnings, Vec<String>)) -> Step {
        let (warned_before, compiled_before) = before;
        let (warned, compiled) = self.warnings(touched).map_err(|fault| vec![fault])?;
        let mut faults = warned.that_are_not_in(warned_before);
        let mut verdict = format!("{} files, {} warnings", compiled.len(), warned.count());
        for source in touched.sources.iter().filter(|s| !compiled.contains(s)) {
            // A new file that cannot be compiled is found out when the whole kernel is.
            if compiled_before.contains(source) {
                faults.push(format!("{source} can no longer be compiled"));
            } else {
                let _ = write!(verdict, "; not compiled here: {source}");
            }
        }
        for header in &touched.headers {
            if !compiled.iter().any(|source| self.reads(source, header)) {
                let _ = write!(verdict, "; in none of them: {header}");
            }
        }
        if faults.is_empty() {
            Ok(verdict)
        } else {
            Err(faults)
        }
    }

    /// Whether a header was read when a file was compiled.
    fn reads(&self, source: &str, header: &str) -> bool {
        let object = self.objects("warnings").join(object(source));
        let command = object.file_name().and_then(|name| {
            let name = format!(".{}.cmd", name.to_string_lossy());
            fs::read_to_string(object.with_file_name(name)).ok()
        });
        command.is_some_and(|text| text.contains(header))
    }
}

fn object(source: &str) -> String {
    source
        .strip_suffix(".c")
        .map_or_else(|| source.to_owned(), |stem| format!("{stem}.o"))
}
