//! Rows of columns: each has the cells that it needs, the last ones what is left, and those that the
//! screen has no room for are left out.

use super::tree_view::pad;
use crate::text;

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Cells that it has at least.
    pub cells: usize,
    /// Its share of the cells that are left.
    pub share: usize,
    /// The width of the list from which on it is shown.
    pub from: usize,
    /// Whether it is put to the right.
    pub is_number: bool,
}

impl Column {
    /// A column of text that is always as wide as this.
    #[must_use]
    pub const fn text(title: &'static str, cells: usize) -> Self {
        Self {
            title,
            cells,
            share: 0,
            from: 0,
            is_number: false,
        }
    }

    /// A column of numbers.
    #[must_use]
    pub const fn number(title: &'static str, cells: usize) -> Self {
        Self {
            is_number: true,
            ..Self::text(title, cells)
        }
    }

    /// It grows with the screen.
    #[must_use]
    pub const fn share(self, share: usize) -> Self {
        Self { share, ..self }
    }

    /// It is left out where the list is narrower.
    #[must_use]
    pub const fn from(self, from: usize) -> Self {
        Self { from, ..self }
    }
}

/// How wide each column is in a list of this width; 0: it is left out.
#[must_use]
pub fn widths(columns: &[Column], width: usize) -> Vec<usize> {
    let shown = |column: &&Column| column.from <= width;
    let used: usize = columns.iter().filter(shown).map(|it| it.cells + 1).sum();
    let shares: usize = columns.iter().filter(shown).map(|it| it.share).sum();
    let left = (width + 1).saturating_sub(used);
    let one = |column: &Column| match column.from <= width {
        true => column.cells + left * column.share / shares.max(1),
        false => 0,
    };
    columns.iter().map(one).collect()
}

/// A row of texts, which are safe already.
#[must_use]
pub fn row(columns: &[Column], widths: &[usize], texts: &[String]) -> String {
    let mut row = String::new();
    for ((column, width), shown) in columns.iter().zip(widths).zip(texts) {
        if *width == 0 {
            continue;
        }
        if !row.is_empty() {
            row.push(' ');
        }
        if column.is_number {
            let blanks = width.saturating_sub(text::width(shown));
            row.extend(std::iter::repeat_n(' ', blanks));
            row += &text::fit(shown, *width);
        } else {
            row += &pad(shown, *width);
        }
    }
    row
}

/// The headings.
#[must_use]
pub fn head(columns: &[Column], widths: &[usize]) -> String {
    let titles: Vec<String> = columns.iter().map(|it| it.title.to_owned()).collect();
    row(columns, widths, &titles)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column::number("ID", 4),
        Column::text("STATE", 6).from(20),
        Column::text("WHAT", 4).share(1),
    ];

    #[test]
    fn columns_fill_the_width_and_go_where_there_is_none() {
        for width in [10, 20, 33] {
            let widths = widths(&COLUMNS, width);
            let texts = [
                "7".to_owned(),
                "queued".to_owned(),
                "user: token".to_owned(),
            ];
            assert_eq!(
                text::width(&row(&COLUMNS, &widths, &texts)),
                width,
                "{width}"
            );
            assert_eq!(widths[1] == 0, width < 20);
        }
    }
}
