//! What a patch changes, from its own text.

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// What a kernel is compiled from, without programs that come with it.
    pub(super) sources: Vec<String>,
    pub(super) headers: Vec<String>,
    /// The options there are, and what they depend on.
    pub(super) options: bool,
    /// The self tests of containers.
    pub(super) tests: bool,
}

impl Touched {
    pub(super) fn parse(patch: &str) -> Self {
        let mut touched = Self::default();
        let mut before = "";
        for line in patch.lines() {
            let new = line
                .strip_prefix("+++ b/")
                .filter(|_| before.starts_with("--- "))
                .or_else(|| line.strip_prefix("rename to "));
            before = line;
            if let Some(path) = new {
                touched.add(path);
            }
        }
        touched
    }

    fn add(&mut self, path: &str) {
        self.tests |= path.starts_with("tools/testing/selftests/containers/");
        self.options |= path.rsplit('/').next() == Some("Kconfig");
        let files = match path.rsplit_once('.') {
            _ if path.starts_with("tools/") => return,
            Some((_, "c")) => &mut self.sources,
            Some((_, "h")) => &mut self.headers,
            _ => return,
        };
        if !files.iter().any(|file| file == path) {
            files.push(path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_names_the_files_it_changes() {
        let patch = "\
 kernel/fork.c | 1 +
diff --git a/kernel/fork.c b/kernel/fork.c
--- a/kernel/fork.c
+++ b/kernel/fork.c
@@ -1 +1,2 @@
+++ b/no/file.c
diff --git a/include/linux/old.h b/include/linux/new.h
similarity index 90%
rename from include/linux/old.h
rename to include/linux/new.h
--- a/include/linux/old.h
+++ b/include/linux/new.h
--- /dev/null
+++ b/init/Kconfig
--- /dev/null
+++ b/tools/testing/selftests/containers/fork.c
--- a/gone.c
+++ /dev/null
";
        let expected = Touched {
            sources: vec!["kernel/fork.c".to_owned()],
            headers: vec!["include/linux/new.h".to_owned()],
            options: true,
            tests: true,
        };
        assert_eq!(Touched::parse(patch), expected);
    }
}
