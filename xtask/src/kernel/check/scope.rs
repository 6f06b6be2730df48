//! What of the whole is to be done.

use std::path::Path;

use super::super::series::number;

/// What the words after `check` ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Scope {
    /// The numbers of the patches that are looked at, or all. The others are applied.
    pub(super) numbers: Vec<String>,
    /// Without kernels that are compiled and booted.
    pub(super) no_boot: bool,
}

impl Scope {
    /// Reads `[--no-boot] [NUMBER]...`.
    pub(in super::super) fn parse(words: &[String]) -> Option<Self> {
        let mut scope = Self::default();
        for word in words {
            match word.as_str() {
                "--no-boot" => scope.no_boot = true,
                number if number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()) => {
                    scope.numbers.push(word.clone());
                }
                _ => return None,
            }
        }
        Some(scope)
    }

    pub(super) fn includes(&self, patch: &Path) -> bool {
        self.numbers.is_empty() || self.numbers.iter().any(|wanted| wanted == number(patch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_named_by_their_numbers() {
        let parse = |words: &[&str]| {
            Scope::parse(&words.iter().map(|&word| word.into()).collect::<Vec<_>>())
        };
        let all = parse(&[]).unwrap_or_default();
        assert!(all.includes(Path::new("/p/0007-x.patch")) && !all.no_boot);
        let some = parse(&["--no-boot", "0003"]).unwrap_or_default();
        assert!(some.includes(Path::new("/p/0003-x.patch")) && some.no_boot);
        assert!(!some.includes(Path::new("/p/0007-x.patch")));
        assert_eq!(parse(&["3"]), None);
        assert_eq!(parse(&["--boot"]), None);
    }
}
