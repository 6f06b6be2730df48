//! The screen of a terminal as SVG.

use std::fmt::Write as _;

use vt100::{Cell, Color, Screen};

const COLUMN: f32 = 8.4;
const LINE: f32 = 18.0;
const MARGIN: f32 = 12.0;
const INK: &str = "#d5dae1";
const PAPER: &str = "#16191d";
/// The 16 colours, as a common terminal has them.
const COLOURS: [&str; 16] = [
    "#2b3038", "#e06c75", "#8fc379", "#e0b46c", "#61a8ef", "#c678dd", "#4fb8c4", "#d5dae1",
    "#7d8590", "#f08a91", "#aadb95", "#f5cc85", "#85c1fb", "#d99bec", "#76d3dd", "#ffffff",
];

/// How a run of cells looks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    ink: &'static str,
    paper: &'static str,
    bold: bool,
    underlined: bool,
}

impl Look {
    fn of(cell: &Cell) -> Self {
        let (mut ink, mut paper) = (colour(cell.fgcolor(), INK), colour(cell.bgcolor(), PAPER));
        if cell.inverse() {
            std::mem::swap(&mut ink, &mut paper);
        }
        Self {
            ink,
            paper,
            bold: cell.bold(),
            underlined: cell.underline(),
        }
    }
}

fn colour(colour: Color, default: &'static str) -> &'static str {
    match colour {
        Color::Idx(index) => COLOURS.get(usize::from(index)).copied().unwrap_or(default),
        _ => default,
    }
}

/// The screen as a picture with this title.
#[must_use]
pub fn draw(screen: &Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let width = f32::from(columns.get()) * COLUMN + 2.0 * MARGIN;
    let height = f32::from(rows.get()) * LINE + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"ui-monospace, 'DejaVu Sans Mono', \
         Menlo, Consolas, monospace\" font-size=\"14\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAPER}\"/>\n",
        escaped(title)
    );
    for row in 0..rows.get() {
        let mut runs: Vec<(u16, u16, Look, String)> = Vec::new();
        for column in 0..columns.get() {
            let Some(cell) = screen.cell(row, column) else {
                continue;
            };
            if cell.is_wide_continuation() {
                if let Some(run) = runs.last_mut() {
                    run.1 += 1;
                }
                continue;
            }
            let look = Look::of(cell);
            let text = if cell.has_contents() {
                cell.contents()
            } else {
                " "
            };
            match runs.last_mut() {
                Some(run) if run.2 == look => {
                    run.1 += 1;
                    run.3 += text;
                }
                _ => runs.push((column, 1, look, text.to_owned())),
            }
        }
        for (column, cells, look, text) in runs {
            run(&mut out, (row, column, cells), &look, &text);
        }
    }
    out += "</svg>\n";
    out
}

fn run(out: &mut String, (row, column, cells): (u16, u16, u16), look: &Look, text: &str) {
    let left = MARGIN + f32::from(column) * COLUMN;
    let top = MARGIN + f32::from(row) * LINE;
    let width = f32::from(cells) * COLUMN;
    if look.paper != PAPER {
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{LINE:.1}\" fill=\"{}\"/>",
            look.paper
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let weight = if look.bold {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let line = if look.underlined {
        " text-decoration=\"underline\""
    } else {
        ""
    };
    let _ = writeln!(
        out,
        "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" fill=\"{}\"{weight}{line}>{}</text>",
        top + LINE * 0.74,
        look.ink,
        escaped(text)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_reversed_cells_have_a_ground() {
        let mut parser = vt100::Parser::default();
        parser.process(b"a<b \x1b[7;1mon\x1b[0m \x1b[31mred");
        let svg = draw(parser.screen(), "x & y");
        assert!(svg.contains("<title>x &amp; y</title>"));
        assert!(svg.contains(">a&lt;b </text>"), "{svg}");
        assert!(svg.contains(&format!("fill=\"{INK}\"/>\n<text")), "{svg}");
        assert!(svg.contains("font-weight=\"bold\">on<"), "{svg}");
        assert!(svg.contains("fill=\"#e06c75\">red"), "{svg}");
    }
}
