//! `doctor upcall`

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use keyns::errno_text::text_of;
use keyns::request_key_conf::{
    Argument, Candidate, Choice, Command, Finding, MAX_ARGUMENTS, Macro, Places, Request,
    SearchError, Verdict, explain, inspect,
};
use keyns::text::Escaped;
use keyns_interfaces::ByteText;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::table::Table;
use crate::view;

const NEGATE: &[u8] = b"negate";

/// Show which program request-key would run for a request of the host, and why
///
/// Reads request-key.d and request-key.conf as for a real request and says of every line whether it
/// matches, which one wins, and what would be executed. Nothing is executed, and no key is looked
/// up or made. Exit code 4: no line matches; 1: the request would fail for another reason.
#[derive(Debug, Args)]
pub struct UpcallArgs {
    /// Type of the key
    #[arg(value_parser = args::key_type)]
    pub r#type: String,
    /// Description of the key
    #[arg(value_parser = args::bytes())]
    pub description: ByteText,
    /// Callout information, as request_key(2) is given it
    #[arg(default_value = "", hide_default_value = true, value_parser = args::bytes())]
    pub callout: ByteText,
    /// Directory that holds request-key.d and request-key.conf
    #[arg(long, value_name = "DIR", default_value = "/etc")]
    pub config: PathBuf,
    /// Operation: create, or negate as after a failed program
    #[arg(long, value_name = "OP", default_value = "create", value_parser = args::bytes())]
    pub op: ByteText,
}

/// What would happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// A program takes the place of request-key.
    Executes,
    /// A program is run whose output becomes the payload.
    Pipes,
    /// No line matches.
    NoRule,
    /// It would fail.
    Fails,
}

#[derive(Debug, Serialize)]
struct Output {
    operation: ByteText,
    #[serde(rename = "type")]
    type_: String,
    description: ByteText,
    callout: ByteText,
    config: String,
    #[serde(flatten)]
    plan: Plan,
    /// What follows if a program that is run through pipes fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    if_it_fails: Option<Plan>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Plan {
    outcome: Outcome,
    /// Why it would fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    lines: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<ByteText>,
    /// The program's own name first; macros that only a real request has are as written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    argv: Vec<ByteText>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    file: ByteText,
    line: usize,
    matches: bool,
    chosen: bool,
    /// How many bytes the wildcards of its four columns cover.
    #[serde(skip_serializing_if = "Option::is_none")]
    covered: Option<[usize; 4]>,
    reason: String,
}

/// Explains the request.
///
/// # Errors
/// Only those of the output: what is wrong with the files is the result.
pub fn run(context: &Context, args: &UpcallArgs) -> Result<u8, CommandError> {
    let places = Places::below(&args.config);
    let plan = Plan::of(&places, args, args.op.bytes());
    let is_piped = plan.outcome == Outcome::Pipes && args.op.bytes() != NEGATE;
    let if_it_fails = is_piped.then(|| Plan::of(&places, args, NEGATE));
    let output = Output {
        operation: args.op.clone(),
        type_: args.r#type.clone(),
        description: args.description.clone(),
        callout: args.callout.clone(),
        config: args.config.to_string_lossy().into_owned(),
        plan,
        if_it_fails,
        warnings: warnings(&places),
    };
    context.ui.print(&output, show)?;
    Ok(match output.plan.outcome {
        Outcome::Executes | Outcome::Pipes => 0,
        Outcome::NoRule => ErrorKind::NotFound.exit_code(),
        Outcome::Fails => ErrorKind::Failure.exit_code(),
    })
}

impl Plan {
    fn of(places: &Places, args: &UpcallArgs, operation: &[u8]) -> Self {
        let request = Request {
            operation,
            type_: args.r#type.as_bytes(),
            description: args.description.bytes(),
            callout: args.callout.bytes(),
        };
        let explained = explain(places, request);
        let choice = explained.outcome.as_ref().ok().and_then(Option::as_ref);
        let lines = explained.candidates.iter();
        let lines = lines.map(|line| Line::of(line, choice, &request)).collect();
        let mut plan = Self {
            outcome: Outcome::NoRule,
            problem: None,
            lines,
            program: None,
            argv: Vec::new(),
            notes: Vec::new(),
        };
        match &explained.outcome {
            Ok(None) => {}
            Ok(Some(choice)) => plan.command(choice, &request),
            Err(error) => plan.fails(cause(error)),
        }
        plan
    }

    fn fails(&mut self, problem: String) {
        self.outcome = Outcome::Fails;
        self.problem = Some(problem);
    }

    /// What the command of the line that has won would do.
    fn command(&mut self, choice: &Choice, request: &Request<'_>) {
        let command = Command::parse(&choice.command);
        self.outcome = if command.piped {
            Outcome::Pipes
        } else {
            Outcome::Executes
        };
        self.program = Some(command.program.into());
        let place = place(&choice.file, choice.line);
        self.argv.push(command.name().unwrap_or_default().into());
        for (number, word) in command.arguments().enumerate() {
            if number == MAX_ARGUMENTS {
                return self.fails(format!("{place} has more than {MAX_ARGUMENTS} arguments"));
            }
            match Argument::parse(word).and_then(|a| a.key_is_named().map(|()| a)) {
                Ok(argument) => {
                    let word = self.expanded(argument, word, request);
                    self.argv.push(word);
                }
                Err(bad) => {
                    let word = Escaped::new(word).cut(80);
                    return self.fails(format!("{place}: “{word}” is no argument: {bad}"));
                }
            }
        }
        if command.name().is_none() {
            let program = Escaped::new(command.program);
            self.fails(format!(
                "{place}: the path of the program “{program}” has no “/”"
            ));
        } else if let Some(problem) = unexecutable(command.program) {
            self.fails(format!("{place}: {problem}"));
        }
    }

    fn expanded(&mut self, argument: Argument<'_>, word: &[u8], request: &Request<'_>) -> ByteText {
        let known = match argument {
            Argument::Text(text) => Some(text),
            Argument::Macro(Macro::Operation) => Some(request.operation),
            Argument::Macro(Macro::Type) => Some(request.type_),
            Argument::Macro(Macro::Description) => Some(request.description),
            Argument::Macro(Macro::Callout) => Some(request.callout),
            Argument::Macro(of) => {
                self.note(format!(
                    "{} is {}, which only a real request has",
                    Escaped::new(word),
                    of.meaning()
                ));
                None
            }
            Argument::Payload { type_, description } => {
                self.note(format!(
                    "{} is the payload of the key “{}: {}” of the requester; without that key, or \
                     if a byte of it cannot be printed, the request fails",
                    Escaped::new(word),
                    Escaped::new(type_),
                    Escaped::new(description)
                ));
                None
            }
        };
        known.unwrap_or(word).into()
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

impl Line {
    fn of(candidate: &Candidate, choice: Option<&Choice>, request: &Request<'_>) -> Self {
        let is_choice =
            |choice: &Choice| choice.file == candidate.file && choice.line == candidate.line;
        let chosen = choice.is_some_and(is_choice);
        let (covered, reason) = match &candidate.verdict {
            Verdict::Dropped { field, pattern } => {
                let (pattern, text) = (Escaped::new(pattern), Escaped::new(request.field(*field)));
                let name = field.name();
                let reason = format!(
                    "its {name} “{}” does not match “{}”",
                    pattern.cut(60),
                    text.cut(60)
                );
                (None, reason)
            }
            Verdict::Matches { skips, .. } => {
                let reason = match choice {
                    _ if chosen => "matches, and its wildcards cover least".to_owned(),
                    Some(choice) if choice.skips == *skips => {
                        "matches as closely, but comes later".to_owned()
                    }
                    Some(_) => "matches, but its wildcards cover more".to_owned(),
                    None => "matches".to_owned(),
                };
                (Some(skips.0), reason)
            }
        };
        Self {
            file: candidate.file.clone().into(),
            line: candidate.line,
            matches: covered.is_some(),
            chosen,
            covered,
            reason,
        }
    }
}

fn place(file: &[u8], line: usize) -> String {
    format!("line {line} of {}", Escaped::new(file))
}

fn cause(error: &SearchError) -> String {
    match error {
        SearchError::Open { name, error } => {
            format!(
                "{} cannot be opened: {}",
                Escaped::new(name),
                text_of(error)
            )
        }
        SearchError::Read { name, error } => {
            format!("{} cannot be read: {}", Escaped::new(name), text_of(error))
        }
        SearchError::Malformed(line) => {
            format!("{}: {}", place(&line.file, line.line), line.defect.clause())
        }
    }
}

/// Why the kernel would not execute the program, as far as its file tells; helpers start in `/`.
fn unexecutable(program: &[u8]) -> Option<String> {
    let path = Path::new("/").join(std::ffi::OsStr::from_bytes(program));
    let shown = Escaped::new(program);
    match fs::metadata(&path) {
        Err(error) => Some(format!("{shown} cannot be executed: {}", text_of(&error))),
        Ok(found) if !found.is_file() => Some(format!("{shown} is no file")),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            Some(format!("{shown} is not executable"))
        }
        Ok(_) => None,
    }
}

/// What an administrator should know, whatever the request. Files that cannot be read are told as
/// the result already.
fn warnings(places: &Places) -> Vec<String> {
    let findings = inspect(places).unwrap_or_default();
    let told = |finding: &Finding| match finding {
        Finding::Writable(path) => format!(
            "{} may be changed by others than root, who so decide what runs as root",
            Escaped::new(path.as_os_str().as_bytes())
        ),
        Finding::Malformed { file, line, defect } => format!(
            "{}: {}; requests that match it so far fail",
            place(file, *line),
            defect.clause()
        ),
    };
    findings.iter().map(told).collect()
}

fn show(out: &mut dyn Write, output: &Output) -> io::Result<()> {
    writeln!(
        out,
        "{} “{}: {}” with callout “{}”",
        view::bytes(&output.operation),
        view::safe(&output.type_),
        view::short(&output.description),
        view::short(&output.callout)
    )?;
    writeln!(out)?;
    show_plan(out, &output.plan, |_| true)?;
    if let Some(plan) = &output.if_it_fails {
        writeln!(out)?;
        writeln!(
            out,
            "If that program fails, there is one more look-up, for negate:"
        )?;
        writeln!(out)?;
        // Nearly all other lines are for create.
        show_plan(out, plan, |line| line.matches)?;
    }
    for warning in &output.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn show_plan(out: &mut dyn Write, plan: &Plan, is_shown: impl Fn(&Line) -> bool) -> io::Result<()> {
    let mut table = Table::new(["FILE", ">LINE", "COVERS", "RESULT"]);
    for line in plan.lines.iter().filter(|line| is_shown(line)) {
        let covered = line.covered.map_or_else(String::new, |covered| {
            covered.map(|n| n.to_string()).join(",")
        });
        table.row([
            view::bytes(&line.file),
            line.line.to_string(),
            covered,
            line.reason.clone(),
        ]);
    }
    table.write(out, "no line to choose from")?;
    writeln!(out)?;
    match plan.outcome {
        Outcome::NoRule => writeln!(
            out,
            "no line matches: the request fails, and the requester gets ENOKEY"
        )?,
        Outcome::Fails => writeln!(
            out,
            "the request fails, and the requester gets ENOKEY: {}",
            plan.problem.as_deref().unwrap_or_default()
        )?,
        Outcome::Executes => writeln!(out, "would execute {}", program(plan))?,
        Outcome::Pipes => writeln!(
            out,
            "would execute {}, with the callout information as its input and its output as the \
             payload",
            program(plan)
        )?,
    }
    if matches!(plan.outcome, Outcome::Executes | Outcome::Pipes) {
        for (number, word) in plan.argv.iter().enumerate() {
            writeln!(out, "  argv[{number}]  {}", view::bytes(word))?;
        }
    }
    for note in &plan.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

fn program(plan: &Plan) -> String {
    plan.program.as_ref().map(view::bytes).unwrap_or_default()
}
