//! Everything in which the two programs may differ, and nothing else.

use super::Outcome;

/// The messages about a command, which ours begin with file and line, and the C program with an
/// empty name and a number that means nothing.
const ABOUT_COMMANDS: [&str; 9] = [
    "Missing macro name",
    "Unsupported macro",
    "Keysub ",
    "keysub ",
    "Can't read keysub ",
    "Unterminated keysub macro",
    "Too many arguments",
    "Failed to execute ",
    "Child: :",
];

/// Traces of how the C program waits for a piped program: numbers of its descriptors, and how much
/// came at once, which is not the same twice.
const WAITING: [&str; 4] = ["select ", "wrote ", "read ", "EPIPE"];

/// What is left of an outcome when everything in which both may differ is taken out.
pub(super) fn comparable(outcome: &Outcome) -> Outcome {
    // The C program has some messages without a line break before or behind these traces.
    let text = outcome.stderr.replace("select r=", "\nselect r=");
    let text = text.replace("EPIPE", "EPIPE\n");
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !WAITING.iter().any(|trace| line.starts_with(trace)));
    let lines: Vec<String> = lines.map(without_place).collect();
    Outcome {
        stderr: lines.join("\n"),
        ..outcome.clone()
    }
}

fn without_place(line: &str) -> String {
    let about = |rest: &str| ABOUT_COMMANDS.iter().any(|start| rest.starts_with(start));
    let Some((place, rest)) = line.split_once(": ") else {
        return line.to_owned();
    };
    let number = place.rsplit_once(':').map_or("", |(_, number)| number);
    let is_place = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    if is_place && about(rest) {
        return format!("PLACE: {rest}");
    }
    line.to_owned()
}
