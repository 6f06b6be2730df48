//! Which of the two options that the series is about are on.

use super::super::series::configuration;
use super::{Fault, Machine};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Combination {
    pub(super) containers: bool,
    pub(super) keys: bool,
}

impl Combination {
    /// All there are, before or from the patch on that brings `CONFIG_CONTAINERS`.
    pub(super) fn all(containers: bool) -> Vec<Self> {
        [true, false]
            .into_iter()
            .filter(|with| containers || !with)
            .flat_map(|containers| [true, false].map(|keys| Self { containers, keys }))
            .collect()
    }

    /// Everything that is to be compiled.
    pub(super) const fn most(containers: bool) -> Self {
        Self {
            containers,
            keys: true,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match (self.containers, self.keys) {
            (true, true) => "containers+keys",
            (true, false) => "containers",
            (false, true) => "keys",
            (false, false) => "neither",
        }
    }

    /// The lines of its configuration.
    pub(super) fn configuration(self, machine: Machine) -> Result<String, Fault> {
        let mut names = vec!["small"];
        if self.keys {
            names.push("small-keys");
        }
        if self.containers {
            names.push("keyns");
        }
        names.push(match machine {
            Machine::Process => "small-uml",
            Machine::Pc => "small-x86-64",
        });
        configuration(&names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_two_before_the_option_and_four_with_it() {
        let names = |with| Combination::all(with).into_iter().map(Combination::name);
        assert!(names(false).eq(["keys", "neither"]));
        assert!(names(true).eq(["containers+keys", "containers", "keys", "neither"]));
    }
}
