//! What is said about the files that a patch touches, before and after it.

use std::fmt::Write as _;
use std::fs;

use super::super::program::said;
use super::build::{Machine, jobs, make};
use super::{Check, Combination, Fault, Step, Touched, Warnings};

/// What is for other machines, with 32-bit programs, ACPI, a TPM: compiled for x86-64.
const NOT_FOR_UML: [&str; 3] = [
    "security/keys/compat.c",
    "drivers/acpi/container.c",
    "security/keys/encrypted-keys/masterkey_trusted.c",
];

/// Files that are compiled with containers alone, as far as they are not those of `kernel/container*`.
const WITH_CONTAINERS: [&str; 2] = ["security/keys/container.c", "security/keys/intercept.c"];

impl Check {
    /// What is said about the files that a patch touches, and which of them could not be compiled.
    pub(super) fn warnings(
        &self,
        with: Combination,
        touched: &Touched,
    ) -> Result<(Warnings, Vec<String>), Fault> {
        let name = warnings_of(with);
        let (mut warnings, mut failed) =
            self.said_about(Machine::Process, &name, with, compiled(with, touched))?;
        if with == Combination::most(self.containers) {
            let others = touched.sources.iter().filter(|source| not_for_uml(source));
            let (more, also) = self.said_about(Machine::Pc, "warnings-x86-64", with, others)?;
            warnings.add(more);
            failed.extend(also);
        }
        Ok((warnings, failed))
    }

    fn said_about<'a>(
        &self,
        machine: Machine,
        name: &str,
        with: Combination,
        sources: impl Iterator<Item = &'a String>,
    ) -> Result<(Warnings, Vec<String>), Fault> {
        let sources: Vec<&String> = sources
            .filter(|source| self.tree.join(source).exists())
            .collect();
        if sources.is_empty() {
            return Ok(<_>::default());
        }
        let objects = self.configure(machine, name, &with.configuration(machine)?)?;
        let mut make = make(machine, &self.tree, &objects);
        make.args(["--keep-going", "W=1", "C=1"]).arg(jobs()?);
        for source in &sources {
            let object = object(source);
            // Only what is compiled anew is warned about.
            let _ = fs::remove_file(objects.join(&object));
            make.arg(object);
        }
        // That something was not compiled is told by its absence.
        let (_, said) = said(&mut make)?;
        let failed = sources
            .into_iter()
            .filter(|source| !objects.join(object(source)).exists());
        Ok((
            Warnings::read(&said, &self.tree.display().to_string()),
            failed.cloned().collect(),
        ))
    }

    /// Compares with what was said before, with everything on.
    pub(super) fn new_warnings(&self, touched: &Touched, before: &Warnings) -> Step {
        let mut faults = Vec::new();
        for with in Combination::all(self.containers) {
            let (after, failed) = self.warnings(with, touched).map_err(|fault| vec![fault])?;
            let new = after.that_are_not_in(before);
            let failed = failed.iter().map(|file| format!("no object of {file}"));
            let named = |fault: String| format!("{}: {fault}", with.name());
            faults.extend(new.into_iter().chain(failed).map(named));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let most = Combination::most(self.containers);
        let sources: Vec<&String> = compiled(most, touched).collect();
        let mut verdict = format!(
            "{} files, {} old warnings",
            touched.sources.len(),
            before.count()
        );
        for header in &touched.headers {
            if !sources
                .iter()
                .any(|source| self.reads(most, source, header))
            {
                let _ = write!(verdict, "; in none of them: {header}");
            }
        }
        Ok(verdict)
    }

    /// Whether a header was read when a file was compiled.
    fn reads(&self, with: Combination, source: &str, header: &str) -> bool {
        let object = self.objects(&warnings_of(with)).join(object(source));
        let command = object.file_name().and_then(|name| {
            let name = format!(".{}.cmd", name.to_string_lossy());
            fs::read_to_string(object.with_file_name(name)).ok()
        });
        command.is_some_and(|text| text.contains(header))
    }
}

/// The directory of what is compiled for its warnings.
fn warnings_of(with: Combination) -> String {
    format!("warnings-{}", with.name())
}

fn not_for_uml(source: &str) -> bool {
    NOT_FOR_UML.contains(&source)
}

/// The files there are objects of, in Linux for user space.
fn compiled(with: Combination, touched: &Touched) -> impl Iterator<Item = &String> {
    touched.sources.iter().filter(move |source| {
        let of_containers =
            source.starts_with("kernel/container") || WITH_CONTAINERS.contains(&source.as_str());
        !not_for_uml(source)
            && (with.keys || !source.starts_with("security/keys/"))
            && (with.containers || !of_containers)
    })
}

fn object(source: &str) -> String {
    source
        .strip_suffix(".c")
        .map_or_else(|| source.to_owned(), |stem| format!("{stem}.o"))
}
