//! What the first process of a kernel said (`kernel/first-process`).

/// What a kernel says when it finds a fault in itself.
const FAULTS: [&str; 7] = [
    "BUG",
    "WARNING",
    "INFO: ",
    "Call Trace",
    "UBSAN",
    "refcount_t",
    // By `kernel/first-process`, of the messages.
    "cannot be read: ",
];
/// What the first process said, without what the kernel said on the same line.
pub(super) struct Look<'a>(Vec<&'a str>);

impl<'a> Look<'a> {
    pub(super) fn read(said: &'a str) -> Self {
        let lines = said.lines().filter_map(|line| line.split_once("look: "));
        Self(lines.map(|(_, look)| look.trim_end()).collect())
    }

    /// What went wrong, whatever it looked for.
    pub(super) fn faults(&self) -> Vec<String> {
        if !self.has("end") {
            return vec!["the first process did not come to its end".to_owned()];
        }
        self.all("kernel ")
            .filter(|line| FAULTS.iter().any(|fault| line.contains(fault)))
            .map(|line| format!("the kernel said: {line}"))
            .collect()
    }

    pub(super) fn has(&self, line: &str) -> bool {
        self.0.contains(&line)
    }

    /// The rest of each line that begins so.
    pub(super) fn all(&self, beginning: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter_map(move |line| line.strip_prefix(beginning))
    }

    /// What a call gave.
    pub(super) fn answer(&self, kind: &str, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|line| {
            line.strip_prefix(kind)?
                .strip_prefix(' ')?
                .strip_prefix(name)?
                .strip_prefix(' ')
        })
    }
}
