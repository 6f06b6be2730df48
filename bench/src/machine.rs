//! Which machine the figures are from.

use std::fs;

/// Kernel, processors, memory and load in one line.
pub(crate) fn line() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let cpu = read("/proc/cpuinfo");
    let model = value(&cpu, "model name")
        .unwrap_or("unknown processor")
        .to_owned();
    let processors = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let virtual_ = if value(&cpu, "flags").is_some_and(|f| f.split(' ').any(|f| f == "hypervisor"))
    {
        ", virtual"
    } else {
        ""
    };
    let memory = read("/proc/meminfo");
    let memory = value(&memory, "MemTotal").and_then(|m| m.split(' ').next()?.parse::<u64>().ok());
    let load = read("/proc/loadavg");
    format!(
        "Linux {}, {processors} × {model}{virtual_}, {} MiB, load {} before",
        release.trim(),
        memory.unwrap_or(0) / 1024,
        load.split(' ').next().unwrap_or("?"),
    )
}

/// What follows `key` and a colon.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}
