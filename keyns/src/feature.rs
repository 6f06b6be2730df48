//! Who enforces what: the rows that `features` lists.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::probe::{Cgroup2, KernelFacts, cgroup2, cgroup2_mount};

/// Who makes a promise come true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcer {
    /// The kernel, whatever becomes of the daemon.
    Kernel,
    /// The daemon, as long as it runs and is asked.
    Daemon,
    /// Nobody: shown, but a process can evade it.
    Advisory,
    /// It cannot be had on this machine.
    Unavailable,
}

impl Enforcer {
    /// The word used in listings and interfaces.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Daemon => "daemon",
            Self::Advisory => "advisory",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Enforcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One feature of an engine on this kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureRow {
    /// A stable name in kebab case.
    pub name: String,
    /// Who enforces it.
    pub enforcer: Enforcer,
    /// One sentence for people: how, or why not.
    pub detail: String,
}

impl FeatureRow {
    /// A row.
    pub fn new(name: impl Into<String>, enforcer: Enforcer, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            enforcer,
            detail: detail.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_an_enforcer_is_the_same_in_text_and_json() {
        for enforcer in [
            Enforcer::Kernel,
            Enforcer::Daemon,
            Enforcer::Advisory,
            Enforcer::Unavailable,
        ] {
            assert_eq!(
                serde_json::to_string(&enforcer).unwrap(),
                format!("\"{enforcer}\"")
            );
        }
    }
}
