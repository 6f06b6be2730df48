//! The program that makes the key: found, given its arguments, and executed.

mod pipe;

use std::ffi::{CStr, CString};
use std::io::Write as _;

use keyns::errno_text::text_of;
use keyns::request_key_conf::{
    self as rules, Argument, BadMacro, Choice, Command, Event, MAX_ARGUMENTS, Macro, Places,
};
use keyns_sys::execute;
use keyns_sys::process::Ending;
use keyns_sys::{KeySerial, key};

use crate::Failure;
use crate::key::Key;
use crate::options::Invocation;
use crate::report::Report;

const NEGATE: &CStr = c"negate";

/// All that is known about a request.
pub(crate) struct Request<'a> {
    pub(crate) invocation: &'a Invocation,
    pub(crate) key: &'a Key,
    pub(crate) places: &'a Places,
    pub(crate) report: &'a Report,
    /// Not so in debugging mode.
    pub(crate) execute: bool,
}

/// A program with all that it is executed with.
struct Prepared<'a> {
    choice: &'a Choice,
    program: CString,
    arguments: Vec<CString>,
}

/// What became of a program that was executed at the other end of pipes.
enum Piped {
    /// The key has its payload.
    Done,
    /// It cannot make the key, and said why in its own words.
    Ended(Ending),
    /// It could not be executed, which was told.
    NotExecuted,
}

impl Request<'_> {
    /// Executes the program for the request, and if it fails the one for negating it.
    ///
    /// There is one further look-up and not a second, whatever operation its line is for.
    pub(crate) fn serve(&self) -> Result<i32, Failure> {
        let operation = self.invocation.operation;
        let choice = self.search(operation)?.ok_or(": No matching action")?;
        let ended = match self.run(operation, &choice)? {
            Piped::Done => return Ok(0),
            Piped::NotExecuted => None,
            Piped::Ended(ending) => {
                self.report.debug(&[&told(ending)]);
                Some(ending)
            }
        };
        let Some(choice) = self.search(NEGATE)? else {
            return ended.map_or(Ok(1), |ending| Err(Failure(told(ending))));
        };
        match self.run(NEGATE, &choice)? {
            Piped::Done => Ok(0),
            Piped::NotExecuted => Ok(1),
            Piped::Ended(ending) => Err(Failure(told(ending))),
        }
    }

    fn search(&self, operation: &CStr) -> Result<Option<Choice>, Failure> {
        let request = rules::Request {
            operation: operation.to_bytes(),
            type_: &self.key.type_,
            description: &self.key.description,
            callout: &self.key.callout,
        };
        let quiet = !self.report.is_verbose();
        Ok(rules::search(self.places, request, &mut |event| {
            if !quiet {
                self.tell(&event);
            }
        })?)
    }

    fn tell(&self, event: &Event<'_>) {
        let report = self.report;
        let place = |file: &[u8], line: usize| [file, format!(":{line}: ").as_bytes()].concat();
        match *event {
            Event::Directory(name) => report.debug(&[b"__ SCAN ", name, b" __"]),
            Event::File(name) => report.debug(&[b"__ read ", name, b" __"]),
            Event::Compared {
                pattern,
                text,
                covered,
            } => {
                if report.is_very_verbose() {
                    let outcome = covered.map_or_else(
                        || ") = no".to_owned(),
                        |covered| format!(") = yes (w={covered})"),
                    );
                    report.debug(&[b"match(", pattern, b",", text, outcome.as_bytes()]);
                }
            }
            Event::Dropped { .. } => {}
            Event::Matches {
                file,
                line,
                skips,
                command,
            } => {
                let end = format!("' ({skips})");
                let place = place(file, line);
                report.debug(&[&place, b"Line matches '", command, end.as_bytes()]);
            }
            Event::Preferred { file, line, skips } => {
                let end = format!("Prefer command ({skips})");
                report.debug(&[&place(file, line), end.as_bytes()]);
            }
        }
    }

    /// Executes the command of a line. Returns only for one at the other end of pipes, or where
    /// nothing is executed.
    fn run(&self, operation: &CStr, choice: &Choice) -> Result<Piped, Failure> {
        let callout = &self.key.callout;
        let line = &choice.command;
        self.report
            .debug(&[b"execute_program('", callout, b"','", line, b"')"]);
        let command = Command::parse(line);
        let words = self.expanded(operation, choice, &command)?;
        let how: &[u8] = if command.piped { b"PipeThru " } else { b"Run " };
        self.report.debug(&[how, command.program]);
        let failed = |cause: &[u8]| failure(choice, cause);
        let name = command.name().ok_or_else(|| {
            let cause: [&[u8]; 3] = [b"Program path lacks a '/': '", command.program, b"'"];
            failed(&cause.concat())
        })?;
        let text = |bytes: &[u8]| CString::new(bytes).map_err(Failure::from);
        let mut arguments = vec![text(name)?];
        arguments.extend(words);
        for (number, argument) in arguments.iter().enumerate() {
            let start = format!("- argv[{number}] = \"");
            self.report
                .debug(&[start.as_bytes(), argument.to_bytes(), b"\""]);
        }
        let prepared = Prepared {
            choice,
            program: text(command.program)?,
            arguments,
        };
        if !self.execute {
            writeln!(std::io::stdout(), "-- exec disabled --")?;
            return Ok(Piped::Done);
        }
        if command.piped {
            return self.pipe(&prepared);
        }
        let words: Vec<&CStr> = prepared.arguments.iter().map(CString::as_c_str).collect();
        let error = execute::file(&prepared.program, &words);
        Err(prepared.not_executed(&error))
    }

    /// The arguments with their macros replaced.
    fn expanded(
        &self,
        operation: &CStr,
        choice: &Choice,
        command: &Command<'_>,
    ) -> Result<Vec<CString>, Failure> {
        let failed = |cause: &str| failure(choice, cause.as_bytes());
        let mut words = Vec::new();
        for word in command.arguments() {
            if words.len() == MAX_ARGUMENTS {
                return Err(failed("Too many arguments"));
            }
            let start = format!("argv[{}]: '", words.len() + 1);
            self.report.debug(&[start.as_bytes(), word, b"'"]);
            let bad = |bad: BadMacro| failed(&bad.to_string());
            let argument = Argument::parse(word).map_err(bad)?;
            let word = match argument {
                Argument::Text(text) => CString::new(text)?,
                Argument::Macro(of) => self.value(operation, of)?,
                Argument::Payload { type_, description } => {
                    self.report
                        .debug(&[b"Keysub: ", type_, b" key \"", description, b"\""]);
                    argument.key_is_named().map_err(bad)?;
                    payload(type_, description).map_err(|cause| failed(&cause))?
                }
            };
            words.push(word);
        }
        Ok(words)
    }

    fn value(&self, operation: &CStr, of: Macro) -> Result<CString, Failure> {
        let passed = self.invocation;
        Ok(match of {
            Macro::Operation => operation.to_owned(),
            Macro::Key => passed.key.to_owned(),
            Macro::Uid => passed.uid.to_owned(),
            Macro::Gid => passed.gid.to_owned(),
            Macro::Thread => passed.thread.to_owned(),
            Macro::Process => passed.process.to_owned(),
            Macro::Session => passed.session.to_owned(),
            Macro::Type => CString::new(self.key.type_.as_slice())?,
            Macro::Description => CString::new(self.key.description.as_slice())?,
            Macro::Callout => CString::new(self.key.callout.as_slice())?,
        })
    }
}

impl Prepared<'_> {
    fn not_executed(&self, error: &std::io::Error) -> Failure {
        let end = format!("': {}", text_of(error));
        let cause: [&[u8]; 3] = [
            b"Failed to execute '",
            self.program.to_bytes(),
            end.as_bytes(),
        ];
        failure(self.choice, &cause.concat())
    }
}

/// A message with the place of the line.
fn failure(choice: &Choice, cause: &[u8]) -> Failure {
    let line = format!(":{}: ", choice.line);
    Failure([&choice.file, line.as_bytes(), cause].concat())
}

fn told(ending: Ending) -> Vec<u8> {
    match ending {
        Ending::Exited(status) => format!("child exited {status}"),
        Ending::Killed(signal) => format!("child died on signal {signal}"),
    }
    .into_bytes()
}

/// The payload of another key of the requester, as a word. No look-up for it asks user space.
fn payload(type_: &[u8], description: &[u8]) -> Result<CString, String> {
    let text = |bytes| CString::new(bytes).map_err(|_| "Keysub key not found".to_owned());
    let (type_, description) = (text(type_)?, text(description)?);
    let serial = key::request_key(&type_, &description, None, KeySerial::NONE)
        .map_err(|error| format!("Keysub key not found: {}", text_of(&error)))?;
    let data = key::read_secret(serial)
        .map_err(|error| format!("Can't read keysub {serial} data: {}", text_of(&error)))?;
    let is_printable = |byte: &u8| (b' '..=b'~').contains(byte);
    if !data.as_slice().iter().all(is_printable) {
        // Not even the byte it is about: what is logged outlives the key.
        return Err(format!("keysub {serial} data not printable"));
    }
    CString::new(data.as_slice()).map_err(|_| format!("keysub {serial} data not printable"))
}
