//! Tables of text: columns as wide as their widest cell, the last one as long as it needs.

use std::io::{self, Write};

use crate::style;

/// A table that is filled row by row.
pub struct Table<const N: usize> {
    headings: [&'static str; N],
    right: [bool; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// An empty table. A heading that begins with `>` is of a column aligned to the right.
    #[must_use]
    pub fn new(headings: [&'static str; N]) -> Self {
        Self {
            right: headings.map(|heading| heading.starts_with('>')),
            headings: headings.map(|heading| heading.trim_start_matches('>')),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Its cells must be safe for a terminal.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Writes the headings and the rows, or `nothing` if there is no row.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write, nothing: &str) -> io::Result<()> {
        if self.rows.is_empty() {
            return writeln!(out, "{nothing}");
        }
        let mut widths = self.headings.map(width);
        for row in &self.rows {
            for (w, cell) in widths.iter_mut().zip(row) {
                *w = (*w).max(width(cell));
            }
        }
        let bold = style::HEADING;
        write!(out, "{bold}")?;
        line(out, self.headings.iter().copied(), &widths, &self.right)?;
        write!(out, "{bold:#}")?;
        writeln!(out)?;
        for row in &self.rows {
            line(out, row.iter().map(String::as_str), &widths, &self.right)?;
            writeln!(out)?;
        }
        Ok(())
    }
}

fn line<'a>(
    out: &mut dyn Write,
    cells: impl Iterator<Item = &'a str>,
    widths: &[usize],
    right: &[bool],
) -> io::Result<()> {
    let last = widths.len().saturating_sub(1);
    for (index, ((cell, &w), &right)) in cells.zip(widths).zip(right).enumerate() {
        let gap = if index == 0 { "" } else { "  " };
        let fill = w.saturating_sub(width(cell));
        if right {
            write!(out, "{gap}{:fill$}{cell}", "")?;
        } else if index == last {
            write!(out, "{gap}{cell}")?;
        } else {
            write!(out, "{gap}{cell}{:fill$}", "")?;
        }
    }
    Ok(())
}

/// Columns a text takes, counting one for each character: descriptions are short and mostly ASCII,
/// and a table that is off by a column is still read.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// Writes `name: value` lines with the values aligned.
///
/// # Errors
/// Those of `out`.
pub fn fields(out: &mut dyn Write, fields: &[(&str, String)]) -> io::Result<()> {
    let w = fields
        .iter()
        .map(|(name, _)| width(name))
        .max()
        .unwrap_or(0);
    let bold = style::HEADING;
    for (name, value) in fields {
        let fill = w.saturating_sub(width(name)) + 1;
        writeln!(out, "{bold}{name}:{bold:#}{:fill$}{value}", "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Table;

    fn plain(table: &Table<3>) -> String {
        let mut out = Vec::new();
        table.write(&mut out, "nothing").unwrap();
        anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", ">ID", "NOTE"]);
        table.row(["a".into(), "1".into(), "x".into()]);
        table.row(["bücher".into(), "1000".into(), String::new()]);
        assert_eq!(
            plain(&table),
            "NAME      ID  NOTE\na          1  x\nbücher  1000  \n"
        );
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(plain(&Table::new(["A", "B", "C"])), "nothing\n");
    }
}
