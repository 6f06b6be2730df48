//! Text for roff.

/// Text in which nothing is a request or an escape any more. Dashes stay dashes when they are
/// copied, and what is not ASCII is written so that no locale and no preprocessor matters.
#[must_use]
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for (at, c) in text.char_indices() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' if at == 0 => out.push_str("\\(aq"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '.' if at == 0 => out.push_str("\\&."),
            c if c.is_ascii() => out.push(c),
            c => out.push_str(&special(c)),
        }
    }
    out
}

/// A whole page: what is not ASCII in text that is roff already.
#[must_use]
pub fn ascii(page: &str) -> String {
    page.chars()
        .map(|c| {
            if c.is_ascii() {
                c.to_string()
            } else {
                special(c)
            }
        })
        .collect()
}

fn special(c: char) -> String {
    match c {
        '“' => "\\(lq".to_owned(),
        '”' => "\\(rq".to_owned(),
        '’' => "\\(cq".to_owned(),
        '–' => "\\(en".to_owned(),
        '—' => "\\(em".to_owned(),
        '×' => "\\(mu".to_owned(),
        '−' => "\\(mi".to_owned(),
        c => format!("\\[u{:04X}]", u32::from(c)),
    }
}

/// Bold.
#[must_use]
pub fn bold(words: &str) -> String {
    format!("\\fB{}\\fR", text(words))
}

/// Italic.
#[must_use]
pub fn italic(words: &str) -> String {
    format!("\\fI{}\\fR", text(words))
}

/// What a page says, without fonts and escapes: for searching in it.
#[must_use]
pub fn plain(page: &str) -> String {
    page.lines()
        .filter(|line| !line.starts_with(".\\\""))
        .map(|line| {
            let mut line = line.to_owned();
            for (from, to) in [
                ("\\fB", ""),
                ("\\fI", ""),
                ("\\fR", ""),
                ("\\fP", ""),
                ("\\-", "-"),
                ("\\&", ""),
                ("\\(aq", "'"),
                ("\\(ti", "~"),
                ("\\(ha", "^"),
                ("\\(ga", "`"),
                ("\\e", "\\"),
            ] {
                line = line.replace(from, to);
            }
            line + "\n"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_be_taken_for_a_request() {
        assert_eq!(text(".so /etc/shadow"), "\\&.so /etc/shadow");
        assert_eq!(text("'br"), "\\(aqbr");
        assert_eq!(text("a\\fB"), "a\\efB");
    }

    #[test]
    fn options_can_be_copied_from_the_page_and_found_in_it() {
        assert_eq!(text("--for 8h"), "\\-\\-for 8h");
        assert_eq!(plain(".B \\-\\-for\n"), ".B --for\n");
    }

    #[test]
    fn what_is_not_ascii_is_named() {
        assert_eq!(text("“x” →"), "\\(lqx\\(rq \\[u2192]");
    }
}
