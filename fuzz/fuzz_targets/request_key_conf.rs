//! `request-key.conf`: the first line of the input is the request, four texts with semicolons
//! between them, and the rest is a file.

#![no_main]

use keyns::request_key_conf::{Argument, Command, Event, MAX_LINE, Request, Rule, Search};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (head, content) = match data.iter().position(|b| *b == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[][..]),
    };
    let mut texts = head.splitn(4, |b| *b == b';');
    let mut text = || texts.next().unwrap_or_default();
    let request = Request {
        operation: text(),
        type_: text(),
        description: text(),
        callout: text(),
    };
    let mut search = Search::new(request);
    let mut preferred = None;
    let mut observe = |event: Event<'_>| {
        if let Event::Preferred { line, .. } = event {
            preferred = Some(line);
        }
    };
    let outcome = search.file(b"fuzz", content, &mut observe);
    let choice = search.finish();
    if outcome.is_ok() {
        assert_eq!(choice.as_ref().map(|choice| choice.line), preferred);
    }
    if let Some(choice) = choice {
        let command = Command::parse(&choice.command);
        assert!(command.name().is_none_or(|name| !name.contains(&b'/')));
        for argument in command.arguments() {
            if let Ok(argument) = Argument::parse(argument) {
                let _ = argument.key_is_named();
            }
        }
    }
    for line in content.split(|b| *b == b'\n') {
        if let Ok(Some(rule)) = Rule::parse(line) {
            let printed = rule.to_line();
            // One more line break may be one byte too many.
            if printed.len() <= MAX_LINE {
                assert_eq!(Rule::parse(&printed), Ok(Some(rule)));
            }
        }
    }
});
