//! What compiler, sparse and kernel-doc say, and what of it is new.

use std::collections::BTreeMap;

/// By file and text, because line numbers change with whatever is inserted above: the lines as they
/// were said.
#[derive(Debug, Default)]
pub(super) struct Warnings(BTreeMap<(String, String), Vec<String>>);

impl Warnings {
    /// Reads what was said about a tree that lies in `tree`.
    pub(super) fn read(said: &str, tree: &str) -> Self {
        let mut warnings = Self::default();
        for line in said.lines() {
            let line = line.trim_start_matches(tree).trim_start_matches('/');
            for kind in [": warning: ", ": error: "] {
                if let Some((place, text)) = line.split_once(kind) {
                    let file = place.split(':').next().unwrap_or(place);
                    warnings
                        .0
                        .entry((file.to_owned(), text.to_owned()))
                        .or_default()
                        .push(line.to_owned());
                    break;
                }
            }
        }
        warnings
    }

    pub(super) fn add(&mut self, more: Self) {
        for (what, lines) in more.0 {
            self.0.entry(what).or_default().extend(lines);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// What `before` has not, or not so often.
    pub(super) fn that_are_not_in(&self, before: &Self) -> Vec<String> {
        self.0
            .iter()
            .flat_map(
                |(what, lines)| match before.0.get(what).map_or(0, Vec::len) {
                    0 => lines.clone(),
                    known if known < lines.len() => {
                        vec![format!(
                            "one of these, {known} before:\n{}",
                            lines.join("\n")
                        )]
                    }
                    _ => Vec::new(),
                },
            )
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
/tree/kernel/fork.c:12:3: warning: unused variable 'x' [-Wunused-variable]
/tree/kernel/fork.c:12:3: note: it is here
kernel/exit.c:5: warning: Function parameter 'a' not described in 'b'
";

    #[test]
    fn a_warning_that_has_moved_is_not_new() {
        let before = Warnings::read(BEFORE, "/tree");
        let after = Warnings::read(&BEFORE.replace("12:3", "40:3"), "/tree");
        assert_eq!(before.count(), 2);
        assert!(after.that_are_not_in(&before).is_empty());
    }

    #[test]
    fn another_of_the_same_kind_is_one_of_those_there_are() {
        let more = "/tree/kernel/fork.c:90:1: warning: unused variable 'x' [-Wunused-variable]\n";
        let after = Warnings::read(&format!("{BEFORE}{more}"), "/tree");
        let new = after.that_are_not_in(&Warnings::read(BEFORE, "/tree"));
        assert_eq!(
            new,
            ["one of these, 1 before:\n\
              kernel/fork.c:12:3: warning: unused variable 'x' [-Wunused-variable]\n\
              kernel/fork.c:90:1: warning: unused variable 'x' [-Wunused-variable]"]
        );
    }

    #[test]
    fn the_same_words_about_another_file_are_new() {
        let after = Warnings::read(&BEFORE.replace("fork.c", "cred.c"), "/tree");
        assert_eq!(
            after
                .that_are_not_in(&Warnings::read(BEFORE, "/tree"))
                .len(),
            1
        );
    }
}
