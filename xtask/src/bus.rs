//! Parts of the manual page of the bus, from the descriptions in `interfaces/`.

use std::io;

use crate::{roff, root};

/// A property, method or signal with the comment above it.
#[derive(Debug, Default)]
struct Member {
    kind: String,
    name: String,
    comment: String,
    varlink: Option<String>,
    input: Vec<(String, String)>,
    output: Vec<(String, String)>,
}

/// Everything of an interface: properties, methods, signals, each with its types and text.
///
/// # Errors
/// Those of reading `interfaces/INTERFACE.xml`.
pub fn interface(name: &str) -> io::Result<String> {
    let file = root().join("interfaces").join(format!("{name}.xml"));
    let members = members(&std::fs::read_to_string(file)?);
    let mut out = String::new();
    for (kind, heading) in [
        ("property", "Properties"),
        ("method", "Methods"),
        ("signal", "Signals"),
    ] {
        let mut of_kind = members
            .iter()
            .filter(|member| member.kind == kind)
            .peekable();
        if of_kind.peek().is_some() {
            out += &format!(".PP\n{heading}:\n");
        }
        for member in of_kind {
            out += &shown(member);
        }
    }
    Ok(out)
}

fn shown(member: &Member) -> String {
    let list = |of: &[(String, String)]| {
        let all: Vec<String> = of
            .iter()
            .map(|(type_, name)| {
                let name = roff::italic(name);
                format!("{} {name}", roff::text(type_))
            })
            .collect();
        all.join(", ")
    };
    let mut head = roff::bold(&member.name);
    if member.kind == "property" {
        let type_ = member.output.first().map_or("", |(type_, _)| type_);
        head += &format!(": {}", roff::text(type_));
    } else {
        head += &format!("({})", list(&member.input));
        if !member.output.is_empty() {
            head += &format!(" \\-> {}", list(&member.output));
        }
    }
    let mut text = member.comment.clone();
    if let Some(varlink) = &member.varlink {
        let names = varlink.replace("org.keyns.", "").replace(' ', ", ");
        text = format!("{text} [{names}]").trim().to_owned();
    }
    if text.is_empty() {
        return format!(".TP\n{head}\n");
    }
    format!(".TP\n{head}\n{}\n", roff::text(&text))
}

fn attribute(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("{name}=\""))?;
    rest.split('"').next().map(str::to_owned)
}

fn members(xml: &str) -> Vec<Member> {
    let mut all: Vec<Member> = Vec::new();
    let (mut comment, mut inside) = (String::new(), false);
    for line in xml.lines().map(str::trim) {
        if inside || line.starts_with("<!--") {
            let text = line.trim_start_matches("<!--").trim_end_matches("-->");
            if !inside {
                comment.clear();
            }
            comment = format!("{comment} {}", text.trim()).trim().to_owned();
            inside = !line.ends_with("-->");
            continue;
        }
        for kind in ["property", "method", "signal"] {
            if !line.starts_with(&format!("<{kind} ")) {
                continue;
            }
            let mut member = Member {
                kind: kind.to_owned(),
                name: attribute(line, "name").unwrap_or_default(),
                comment: std::mem::take(&mut comment),
                ..Member::default()
            };
            if let Some(type_) = attribute(line, "type") {
                member.output.push((type_, String::new()));
            }
            all.push(member);
        }
        let Some(member) = all.last_mut() else {
            // What came before the first member is about the whole.
            comment.clear();
            continue;
        };
        if line.starts_with("<arg ") {
            let argument = (
                attribute(line, "type").unwrap_or_default(),
                attribute(line, "name").unwrap_or_default(),
            );
            if line.contains("direction=\"out\"") {
                member.output.push(argument);
            } else {
                member.input.push(argument);
            }
        } else if line.contains("\"org.keyns.Varlink\"") {
            member.varlink = attribute(line, "value");
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_shown_with_its_types_text_and_contract() {
        let xml = r#"
            <!-- All of it. -->
            <interface name="x">
            <!-- One
                 two. -->
            <method name="Do">
              <annotation name="org.keyns.Varlink" value="org.keyns.Keys.List"/>
              <arg name="in" type="s" direction="in"/>
              <arg name="out" type="a{sv}" direction="out"/>
            </method>
            <property name="P" type="u" access="read"/>
            <signal name="S"><!-- nothing -->
              <arg name="n" type="t"/>
            </signal>"#;
        let all: Vec<String> = members(xml).iter().map(shown).collect();
        assert_eq!(
            all,
            [
                ".TP\n\\fBDo\\fR(s \\fIin\\fR) \\-> a{sv} \\fIout\\fR\nOne two. [Keys.List]\n",
                ".TP\n\\fBP\\fR: u\n",
                ".TP\n\\fBS\\fR(t \\fIn\\fR)\n",
            ]
        );
    }
}
