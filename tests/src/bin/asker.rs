//! A denizen that asks for keys as it is told, one line each, and prints what it got: `ok VALUE` or
//! `err ERRNO`. Run as `asker serve SOCKET NAME TYPE` it is an agent that takes requests and never
//! answers; as `asker send SOCKET CALL` it sends one varlink call and prints the reply.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;

use keyns_interfaces::Client;
use keyns_interfaces::agents::Serve;
use keyns_sys::{KeySerial, cred, key};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "serve", socket, name, type_] => return take_requests(socket, name, type_),
        [_, "send", socket, call] => return send(socket, call),
        _ => {}
    }
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match obey(&words) {
            Ok(value) => writeln!(out, "ok {value}")?,
            Err(error) => writeln!(out, "err {}", error.raw_os_error().unwrap_or(0))?,
        }
        out.flush()?;
    }
    Ok(())
}

fn obey(words: &[&str]) -> io::Result<String> {
    match *words {
        ["ask", type_, description, callout] => {
            ask(type_, description, Some(callout)).map(|serial| serial.to_string())
        }
        // Asks and reads what came.
        ["value", type_, description, callout] => {
            let serial = ask(type_, description, Some(callout))?;
            Ok(String::from_utf8_lossy(&key::read(serial)?).into_owned())
        }
        // Looks without causing an upcall.
        ["find", type_, description] => {
            let serial = ask(type_, description, None)?;
            Ok(String::from_utf8_lossy(&key::read(serial)?).into_owned())
        }
        ["add", type_, description, payload] => {
            let (type_, description) = (text(type_)?, text(description)?);
            let session = KeySerial::new(-3);
            key::add_key(&type_, &description, payload.as_bytes(), session)
                .map(|serial| serial.to_string())
        }
        ["join"] => key::join_session_keyring(None).map(|serial| serial.to_string()),
        ["become", id] => become_user(number(id)?).map(|()| "done".to_owned()),
        ["flood", count, uids, prefix] => flood(number(count)?, number(uids)?, prefix),
        _ => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
    }
}

/// Takes an id for good, as a handler does before it enters a container.
fn become_user(id: u32) -> io::Result<()> {
    nix::unistd::setresgid(id.into(), id.into(), id.into())?;
    nix::unistd::setresuid(id.into(), id.into(), id.into())?;
    Ok(())
}

fn ask(type_: &str, description: &str, callout: Option<&str>) -> io::Result<KeySerial> {
    let callout = callout.map(text).transpose()?;
    let (type_, description) = (text(type_)?, text(description)?);
    key::request_key(&type_, &description, callout.as_deref(), KeySerial::NONE)
}

/// So many threads ask at once, for the user ids in turn; prints how many got which error.
fn flood(count: u32, uids: u32, prefix: &str) -> io::Result<String> {
    let mut threads = Vec::new();
    for n in 0..count {
        let prefix = prefix.to_owned();
        let thread = thread::Builder::new().stack_size(64 << 10);
        threads.push(thread.spawn(move || {
            // Each uid has its own quota of 200 keys.
            cred::set_fsuid(n % uids)?;
            ask("user", &format!("{prefix}-{n}"), Some("x"))
        })?);
    }
    let mut counts = BTreeMap::<i32, u32>::new();
    for thread in threads {
        let errno = match thread.join() {
            Ok(Ok(_)) => 0,
            Ok(Err(error)) => error.raw_os_error().unwrap_or(-1),
            Err(_) => -1,
        };
        *counts.entry(errno).or_default() += 1;
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(errno, n)| format!("{errno}={n}"))
        .collect();
    Ok(counts.join(" "))
}

fn text(word: &str) -> io::Result<CString> {
    CString::new(word).map_err(io::Error::other)
}

fn number(word: &str) -> io::Result<u32> {
    word.parse().map_err(io::Error::other)
}

fn send(socket: &str, call: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(call.as_bytes())?;
    stream.write_all(&[0])?;
    let mut reply = Vec::new();
    io::BufReader::new(stream).read_until(0, &mut reply)?;
    println!("{}", String::from_utf8_lossy(&reply));
    Ok(())
}

fn take_requests(socket: &str, name: &str, type_: &str) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::connect(socket).await.map_err(io::Error::other)?;
        let call = Serve {
            name: name.to_owned(),
            types: vec![type_.to_owned()],
            containers: Vec::new(),
            max_in_flight: None,
        };
        let mut requests = client.subscribe(&call).await.map_err(io::Error::other)?;
        while let Some(reply) = requests.next().await {
            let reply = reply.map_err(io::Error::other)?;
            match reply.request {
                Some(request) => println!("{}", request.id),
                None => println!("registered"),
            }
            io::stdout().flush()?;
        }
        Ok(())
    })
}
