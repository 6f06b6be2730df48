//! The few forms of Markdown in which a document is both read as it is and part of a manual page:
//! headings, paragraphs, lists with dashes, tables, `code` and *stress*.

use crate::roff;

/// The document as roff, without its title. Headings of the second level become sections; the rows
/// of a table become entries, the first column as what is explained and the others named by the
/// heads of their columns.
#[must_use]
pub fn to_roff(markdown: &str) -> String {
    let mut out = String::new();
    let mut blocks: Vec<Vec<&str>> = vec![Vec::new()];
    for line in markdown.lines() {
        let begins_item = line.starts_with("- ");
        if line.is_empty() || begins_item {
            blocks.push(Vec::new());
        }
        if let (false, Some(block)) = (line.is_empty(), blocks.last_mut()) {
            block.push(line);
        }
    }
    let mut after_heading = false;
    for block in blocks {
        let Some(first) = block.first() else {
            continue;
        };
        if first.starts_with("# ") {
            continue;
        }
        if let Some(heading) = first.strip_prefix("## ") {
            out += &format!(".SH {}\n", roff::text(&heading.to_uppercase()));
            after_heading = true;
            continue;
        } else if first.starts_with('|') {
            out += &table(&block);
        } else {
            let text = block.iter().map(|line| line.trim()).collect::<Vec<_>>();
            let text = text.join(" ");
            match text.strip_prefix("- ") {
                Some(item) => out += &format!(".IP \\(bu 2\n{}\n", inline(item)),
                // The heading has made the paragraph already, as has that of the template.
                None if out.is_empty() || after_heading => out += &(inline(&text) + "\n"),
                None => out += &format!(".PP\n{}\n", inline(&text)),
            }
        }
        after_heading = false;
    }
    out
}

fn table(lines: &[&str]) -> String {
    let cells = |line: &str| -> Vec<String> {
        // A bar within a cell is written with a backslash.
        let line = line.trim_matches('|').replace("\\|", "\0");
        line.split('|')
            .map(|cell| cell.trim().replace('\0', "|"))
            .collect()
    };
    let heads = cells(lines.first().copied().unwrap_or_default());
    let mut out = String::new();
    // Behind the heads comes the line that rules them off.
    for row in lines.iter().skip(2) {
        let row = cells(row);
        out += &format!(".TP\n{}\n", inline(row.first().map_or("", String::as_str)));
        let mut parts = Vec::new();
        for (head, cell) in heads.iter().zip(&row).skip(1) {
            if !cell.is_empty() {
                parts.push(format!("{}: {}", roff::italic(head), inline(cell)));
            }
        }
        out += &(parts.join("\n.br\n") + "\n");
    }
    out
}

/// Code in bold, stress in italics.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (number, piece) in text.split('`').enumerate() {
        if number % 2 == 1 {
            out += &roff::bold(piece);
            continue;
        }
        for (number, piece) in piece.split('*').enumerate() {
            out += &match (number % 2, piece) {
                (_, "") => String::new(),
                (1, piece) => roff::italic(piece),
                (_, piece) => roff::text(piece).replacen("\\&.", ".", usize::from(!out.is_empty())),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_paragraphs_and_lists_are_kept() {
        let roff =
            to_roff("# title\n\nTwo\nlines.\n\n## Next part\n\n- one\n  more\n- `-x` is *odd*\n");
        assert_eq!(
            roff,
            "Two lines.\n.SH NEXT PART\n.IP \\(bu 2\none more\n.IP \\(bu 2\n\\fB\\-x\\fR is \\fIodd\\fR\n"
        );
    }

    #[test]
    fn rows_of_a_table_are_entries_with_the_heads_as_names() {
        let roff = to_roff("| What | A | B |\n|---|---|---|\n| `p \\| q` | 1 | |\n");
        assert_eq!(roff, ".TP\n\\fBp | q\\fR\n\\fIA\\fR: 1\n");
    }
}
