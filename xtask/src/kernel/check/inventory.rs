//! What the sources say a kernel has, and whether a kernel that was booted has it.

use std::fs;
use std::path::Path;

use super::Combination;
use super::first_process::Look;

/// The last operation of keyctl(2) that Linux has without the patches, `KEYCTL_WATCH_KEY`.
const LAST_OPERATION: u32 = 32;
const ENOSYS: &str = "-38";
const EOPNOTSUPP: &str = "-95";
/// Where programs find the numbers of all of it.
const ABI: &str = "/proc/sys/kernel/containers/abi";
/// Calls that are there with keys alone, and their numbers on x86-64.
const KEY_CALLS: [(&str, u32); 3] = [("add_key", 248), ("request_key", 249), ("keyctl", 250)];

#[derive(Debug, Default)]
pub(super) struct Inventory {
    calls: Vec<(String, u32)>,
    operations: Vec<(String, u32)>,
    /// Files that are there with containers, and one line of a file.
    files: Vec<&'static str>,
}

impl Inventory {
    pub(super) fn of(tree: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(tree.join(path)).unwrap_or_default();
        Self::read(
            &text("arch/x86/entry/syscalls/syscall_64.tbl"),
            &text("include/uapi/linux/keyctl.h"),
            &text("kernel/container_proc.c"),
            &text("fs/proc/array.c"),
        )
    }

    fn read(table: &str, keyctl: &str, proc: &str, status: &str) -> Self {
        let calls = table.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let number = words.next()?.parse().ok()?;
            let name = words.nth(1)?;
            name.contains("container")
                .then(|| (name.to_owned(), number))
        });
        let operations = keyctl.lines().filter_map(|line| {
            let mut words = line.strip_prefix("#define KEYCTL_")?.split_whitespace();
            let name = words.next()?.to_lowercase();
            let number = words.next()?.parse().ok()?;
            (number > LAST_OPERATION).then_some((name, number))
        });
        let files = [
            (ABI, proc, "\"abi\""),
            ("/proc/containers", proc, "proc_create(\"containers\""),
            ("Container:", status, "\"Container:"),
        ];
        Self {
            calls: calls.collect(),
            operations: operations.collect(),
            files: files
                .into_iter()
                .filter(|(_, text, mark)| text.contains(mark))
                .map(|(name, ..)| name)
                .collect(),
        }
    }

    /// For the command line of the kernel: what `kernel/first-process` is to look for.
    pub(super) fn arguments(&self) -> [String; 2] {
        let pair = |(name, number): &(String, u32)| format!("{name}:{number}");
        let mut calls: Vec<String> = self.calls.iter().map(pair).collect();
        calls.extend(KEY_CALLS.map(|(name, number)| format!("{name}:{number}")));
        let operations: Vec<String> = self.operations.iter().map(pair).collect();
        [
            format!("calls={}", calls.join(",")),
            format!("operations={}", operations.join(",")),
        ]
    }

    /// What is not as it must be, in what the first process said.
    pub(super) fn compare(&self, with: Combination, said: &str) -> Vec<String> {
        let look = Look::read(said);
        let mut faults = look.faults();
        if !look.has("end") {
            return faults;
        }
        let mut must = |wanted: bool, there: bool, what: &str| match (wanted, there) {
            (true, false) => faults.push(format!("{what} is not there")),
            (false, true) => faults.push(format!("{what} is there")),
            _ => {}
        };

        must(with.keys, look.has("file /proc/keys"), "/proc/keys");
        for file in &self.files {
            must(with.containers, look.has(&format!("file {file}")), file);
        }
        for (name, _) in &self.calls {
            let there = look.answer("call", name) != Some(ENOSYS);
            must(with.containers, there, &format!("{name}()"));
        }
        for (name, _) in KEY_CALLS {
            let there = look.answer("call", name) != Some(ENOSYS);
            must(with.keys, there, &format!("{name}()"));
        }
        for (name, _) in &self.operations {
            let there = !matches!(look.answer("operation", name), Some(ENOSYS | EOPNOTSUPP));
            let wanted = with.keys && (with.containers || !name.contains("container"));
            must(wanted, there, &format!("keyctl {name}"));
        }
        must(
            with.keys,
            look.has("encrypted 1"),
            "a key that is encrypted with another",
        );

        // The list of numbers has what there is, and nothing else.
        let mut listed: Vec<&str> = look
            .all("abi ")
            .filter(|line| line.starts_with("syscall.") || line.starts_with("keyctl."))
            .collect();
        let line = |kind: &str, (name, number): &(String, u32)| format!("{kind}.{name} {number}");
        let mut wanted: Vec<String> = Vec::new();
        if with.containers && self.files.contains(&ABI) {
            wanted.extend(self.calls.iter().map(|call| line("syscall", call)));
            if with.keys {
                wanted.extend(self.operations.iter().map(|what| line("keyctl", what)));
            }
        }
        listed.sort_unstable();
        wanted.sort_unstable();
        if listed != wanted {
            faults.push(format!(
                "{ABI} lists {}, and not {}",
                listed.join(", "),
                wanted.join(", ")
            ));
        }
        if !with.keys && look.all("abi key_spec.").next().is_some() {
            faults.push(format!("{ABI} lists a keyring, and there are no keys"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        Inventory::read(
            "450 common futex sys_futex\n500\t64\tcontainer_create\tsys_container_create\n# end\n",
            "#define KEYCTL_WATCH_KEY 32 /* Watch */\n#define KEYCTL_CAPS0_X 0x1\n\
             #define KEYCTL_GET_ACL\t39 /* Find */\n#define KEYCTL_CONTAINER_INTERCEPT 36\n",
            ".procname\t= \"abi\",",
            "",
        )
    }

    const BOTH: Combination = Combination::most(true);
    const SAID: &str = "\
Linux version 6.12
look: mount 0
look: file /proc/keys
look: file /proc/sys/kernel/containers/abi
look: abi syscall.container_create 500
look: abi keyctl.container_intercept 36
look: abi keyctl.get_acl 39
look: call container_create -14
look: call add_key -14
look: call request_key -14
look: call keyctl -95
look: operation get_acl -22
look: operation container_intercept -9
look: encrypted 1
look: kernel <4>Checking things
look: end
";

    #[test]
    fn what_the_sources_have_is_looked_for() {
        assert_eq!(
            inventory().arguments(),
            [
                "calls=container_create:500,add_key:248,request_key:249,keyctl:250",
                "operations=get_acl:39,container_intercept:36"
            ]
        );
    }

    #[test]
    fn a_kernel_that_has_all_of_it_has_no_faults() {
        assert_eq!(inventory().compare(BOTH, SAID), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_is_missing_or_wrong_is_a_fault() {
        for (line, other) in [
            ("file /proc/keys", "file"),
            ("file /proc/sys/kernel/containers/abi", "file"),
            ("container_create 500", "container_create 501"),
            ("abi keyctl.get_acl 39", "abi abi 1"),
            ("call container_create -14", "call container_create -38"),
            ("call add_key -14", "call add_key -38"),
            ("operation get_acl -22", "operation get_acl -95"),
            ("encrypted 1", "encrypted -22"),
            ("kernel <4>Checking things", "kernel <4>WARNING: at x.c:1"),
            ("look: end", "look: mount 0"),
        ] {
            let said = SAID.replace(line, other);
            assert_eq!(inventory().compare(BOTH, &said).len(), 1, "{line}");
        }
    }

    #[test]
    fn what_is_switched_off_must_not_be_there() {
        let with = Combination {
            containers: false,
            keys: true,
        };
        let faults = inventory().compare(with, SAID);
        assert_eq!(faults.len(), 4, "{faults:?}");
        let with = Combination {
            containers: true,
            keys: false,
        };
        let faults = inventory().compare(with, SAID);
        assert_eq!(faults.len(), 8, "{faults:?}");
    }
}
