//! Many requests at once.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use keyns::errno::Errno;
use keyns_sys::{KeySerial, key};

use crate::calls::Answer;

/// A thread needs no more to make one system call.
const STACK: usize = 64 * 1024;

/// Requests `PREFIX0` … by as many threads at once, and counts the answers. `None` if the words
/// cannot name a key.
pub(crate) fn flood(type_: &str, prefix: &str, count: usize) -> Option<Answer> {
    let name = CString::new(type_).ok()?;
    let mut texts = Vec::new();
    for n in 0..count {
        texts.push(CString::new(format!("{prefix}{n}")).ok()?);
    }
    let start = Arc::new(Barrier::new(count));
    let mut threads = Vec::new();
    for text in texts {
        let (name, start) = (name.clone(), Arc::clone(&start));
        let ask = move || {
            start.wait();
            let begin = Instant::now();
            let answer = key::request_key(&name, &text, Some(c""), KeySerial::NONE);
            (answer.map_err(|error| Errno::of(&error)), begin.elapsed())
        };
        match thread::Builder::new().stack_size(STACK).spawn(ask) {
            Ok(handle) => threads.push(handle),
            Err(error) => {
                println!("clone() = -1 {}", crate::calls::refusal(&error));
                // The others wait at the barrier for a thread that will never come.
                std::process::exit(1);
            }
        }
    }
    let mut counts: BTreeMap<String, (usize, Duration, Duration)> = BTreeMap::new();
    let mut answer = Answer::Done;
    for handle in threads {
        let Ok((result, took)) = handle.join() else {
            continue;
        };
        let word = match result {
            Ok(_) => "a key".to_owned(),
            Err(errno) => {
                answer = Answer::Refused;
                errno.map_or_else(|| "?".to_owned(), |errno| errno.to_string())
            }
        };
        let entry = counts.entry(word).or_insert((0, took, took));
        *entry = (entry.0 + 1, entry.1.min(took), entry.2.max(took));
    }
    println!("{count} times request_key(\"{type_}\", \"{prefix}…\", \"\", 0) at once:");
    for (word, (n, least, most)) in counts {
        println!(
            "{n} x {word}, after {} to {} ms",
            least.as_millis(),
            most.as_millis()
        );
    }
    Some(answer)
}
