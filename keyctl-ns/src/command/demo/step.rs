//! One step: what it runs, what came back, what was checked.
//!
//! For people everything is printed as it happens; with `--json` each step is one record of a JSON
//! text sequence when it has ended.

use std::cell::RefCell;
use std::fmt::Display;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::shell::{Line, Ran, Running, Shell};
use crate::error::CommandError;
use crate::style;
use crate::ui::Ui;

/// A step of the demo, in its order.
#[derive(Debug, Clone, Copy)]
pub struct Title {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub about: &'static str,
}

/// What a step has come to.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// Name of the step.
    pub step: &'static str,
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// Whether it ran to its end and every check came out as expected.
    pub ok: bool,
    /// What it ran.
    pub commands: Vec<Command>,
    /// What it checked.
    pub checks: Vec<Check>,
    /// Why it ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long it took.
    pub milliseconds: u64,
}

/// A command line and its answer.
#[derive(Debug, Clone, Serialize)]
pub struct Command {
    /// The command line.
    pub command: String,
    /// Exit status; absent for what the demo did by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// Standard output, then standard error.
    pub output: String,
}

/// One comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Name, unique within its step.
    pub check: &'static str,
    /// Whether it shows that the same thing succeeds when the protection is left out.
    pub control: bool,
    /// What the kernel or a program answered.
    pub got: String,
    /// What should be.
    pub expected: String,
    /// Whether the two are the same.
    pub ok: bool,
    /// What it means.
    pub meaning: String,
}

/// A step while it runs.
pub struct Step<'a> {
    ui: &'a Ui,
    shell: &'a Shell,
    record: RefCell<Record>,
    begun: Instant,
}

impl<'a> Step<'a> {
    /// Begins a step and says so.
    #[must_use]
    pub fn begin(ui: &'a Ui, shell: &'a Shell, title: Title, number: usize, of: usize) -> Self {
        let record = Record {
            step: title.name,
            number,
            of,
            ok: false,
            commands: Vec::new(),
            checks: Vec::new(),
            failure: None,
            milliseconds: 0,
        };
        let step = Self {
            ui,
            shell,
            record: RefCell::new(record),
            begun: Instant::now(),
        };
        let bold = style::HEADING;
        step.print(&format!(
            "\n{bold}{number:2} of {of}  {}{bold:#}: {}",
            title.name, title.about
        ));
        step
    }

    /// The shell of the demo.
    #[must_use]
    pub fn shell(&self) -> &Shell {
        self.shell
    }

    /// Runs a command line and shows it with its output.
    ///
    /// # Errors
    /// When it cannot be run or does not end; its exit status is the caller's to judge.
    pub fn run(&self, line: &Line) -> Result<Ran, CommandError> {
        self.show_line(line);
        let ran = self.shell.run(line)?;
        self.show_output(&ran, usize::MAX);
        Ok(ran)
    }

    /// The same for a command that must succeed.
    ///
    /// # Errors
    /// Also when it does not.
    pub fn must(&self, line: &Line) -> Result<Ran, CommandError> {
        let ran = self.run(line)?;
        succeeded(&ran)?;
        Ok(ran)
    }

    /// Starts a command line in the background and shows it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start(&self, line: &Line) -> Result<Running, CommandError> {
        self.print(&format!("      $ {line} &"));
        self.shell.start(line)
    }

    /// Waits for a command of the background and shows its output.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn finish(&self, running: Running, patience: Duration) -> Result<Ran, CommandError> {
        self.end_of(running, patience, usize::MAX)
    }

    /// The same with no more than a few lines shown to people.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn finish_briefly(
        &self,
        running: Running,
        patience: Duration,
    ) -> Result<Ran, CommandError> {
        self.end_of(running, patience, 3)
    }

    fn end_of(
        &self,
        running: Running,
        patience: Duration,
        lines: usize,
    ) -> Result<Ran, CommandError> {
        self.print(&format!("      # the end of: {}", running.line()));
        let ran = self.shell.finish(running, patience)?;
        self.show_output(&ran, lines);
        Ok(ran)
    }

    /// Shows something that the demo did by itself, with what came of it.
    pub fn did(&self, what: impl Display, output: impl Display) {
        let (what, output) = (what.to_string(), output.to_string());
        self.print(&format!("      # {what}"));
        self.indent(&output);
        self.record.borrow_mut().commands.push(Command {
            command: what,
            exit: None,
            output,
        });
    }

    /// Explains what comes next.
    pub fn say(&self, text: impl Display) {
        self.print(&format!("      {text}"));
    }

    /// Compares what was answered with what should be.
    pub fn check(
        &self,
        check: &'static str,
        got: impl Display,
        expected: impl Display,
        meaning: impl Display,
    ) {
        self.compare(
            check,
            false,
            got.to_string(),
            expected.to_string(),
            meaning.to_string(),
        );
    }

    /// Compares what happens without the protection with what should happen then.
    pub fn control(
        &self,
        check: &'static str,
        got: impl Display,
        expected: impl Display,
        meaning: impl Display,
    ) {
        self.compare(
            check,
            true,
            got.to_string(),
            expected.to_string(),
            meaning.to_string(),
        );
    }

    fn compare(
        &self,
        check: &'static str,
        control: bool,
        got: String,
        expected: String,
        meaning: String,
    ) {
        let ok = got == expected;
        let word = if control { "control: " } else { "" };
        if ok {
            let good = style::GOOD;
            self.print(&format!("      {good}ok{good:#}  {word}{meaning}"));
        } else {
            let bad = style::ERROR;
            self.print(&format!("      {bad}FAILED{bad:#}  {word}{meaning}"));
            self.print(&format!(
                "              {check}: expected “{expected}”, got “{got}”"
            ));
        }
        let check = Check {
            check,
            control,
            got,
            expected,
            ok,
            meaning,
        };
        self.record.borrow_mut().checks.push(check);
    }

    /// Ends the step, and says so.
    ///
    /// # Errors
    /// Those of writing the record.
    pub fn end(self, result: Result<(), CommandError>) -> Result<Record, CommandError> {
        let mut record = self.record.borrow().clone();
        record.milliseconds = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        record.ok = result.is_ok() && record.checks.iter().all(|check| check.ok);
        if let Err(error) = result {
            let cause = error
                .cause
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            let failure = format!("{}{cause}", error.message);
            let bad = style::ERROR;
            self.print(&format!("      {bad}FAILED{bad:#}  {failure}"));
            record.failure = Some(failure);
        }
        if self.ui.is_json() {
            self.ui.record(&record, |_, _| Ok(()))?;
        }
        Ok(record)
    }

    fn show_line(&self, line: &Line) {
        self.print(&format!("      $ {line}"));
    }

    fn show_output(&self, ran: &Ran, lines: usize) {
        let mut output = ran.stdout.clone();
        output.push_str(&ran.stderr);
        let shown: Vec<&str> = output.lines().take(lines).collect();
        self.indent(&shown.join("\n"));
        let hidden = output.lines().count().saturating_sub(lines);
        if hidden > 0 {
            self.indent(&format!("… and {hidden} lines more"));
        }
        if !ran.ok() {
            self.indent(&format!("(exit status {})", ran.status));
        }
        self.record.borrow_mut().commands.push(Command {
            command: ran.line.clone(),
            exit: Some(ran.status),
            output,
        });
    }

    fn indent(&self, text: &str) {
        let faint = style::FAINT;
        for line in text.lines() {
            self.print(&format!("      {faint}|{faint:#} {line}"));
        }
    }

    fn print(&self, line: &str) {
        if !self.ui.is_json() {
            // A reader that went away does not keep the machine from being put right.
            let _ = self.ui.print(&(), |out, ()| writeln!(out, "{line}"));
        }
    }
}

/// Fails for a command that did not succeed.
///
/// # Errors
/// Names the command and its exit status.
pub fn succeeded(ran: &Ran) -> Result<(), CommandError> {
    if ran.ok() {
        return Ok(());
    }
    Err(CommandError::failure(format!(
        "exit status {} of: {}",
        ran.status, ran.line
    )))
}

/// `yes` or `no`, for checks.
#[must_use]
pub const fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
