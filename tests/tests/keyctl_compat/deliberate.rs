//! What ours does otherwise, and what each of the two says.

/// A difference that is wanted.
pub(crate) struct Deviation {
    /// In the words of the document that lists them.
    pub(crate) what: &'static str,
    /// The command lines; the last one shows it.
    pub(crate) lines: &'static [&'static str],
    /// Standard output, standard error and status of the original.
    pub(crate) theirs: &'static str,
    /// The same of ours.
    pub(crate) ours: &'static str,
}

pub(crate) const ALL: &[Deviation] = &[
    Deviation {
        what: "`purge TYPE DESC` compares the whole description",
        lines: &["purge user pear"],
        theirs: r#""user 'pear'\npurged 1 keys\n" "" 0"#,
        ours: r#""purged 0 keys\n" "" 0"#,
    },
    Deviation {
        what: "`purge TYPE DESC` compares the whole description",
        lines: &["purge user \"semi;pear\""],
        theirs: r#""purged 0 keys\n" "" 0"#,
        ours: r#""user 'semi;pear'\npurged 1 keys\n" "" 0"#,
    },
    Deviation {
        what: "more than 1 MiB on standard input is an error",
        lines: &["padd user compat:large @s <a*1048577"],
        theirs: r#""" "add_key: Invalid argument\n" 1"#,
        ours: r#""" "Too much data read on stdin\n" 1"#,
    },
    Deviation {
        what: "a full device behind standard output is an error",
        lines: &["session - sh -c \"$K supports >/dev/full\""],
        theirs: r#""" "Joined session keyring: <new22>\n" 0"#,
        ours: r#""" "Joined session keyring: <new22>\nstdout: No space left on device\n" 1"#,
    },
];
