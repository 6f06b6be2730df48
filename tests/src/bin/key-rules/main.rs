//! Makes key system calls that are always the same, and prints what the kernel answered with serial
//! numbers left out: the transcripts of two kernels whose keys behave alike are equal.
//!
//! `key-rules` prints the transcript; `key-rules without-patches` what is not there in a kernel
//! without the patches of `kernel/`. It needs root, and a machine that nobody else uses: the lab.

mod actor;
mod rights;
mod states;

use std::io::{self, Write as _};
use std::process::ExitCode;

use keyns_sys::container_abi::ContainerAbi;
use keyns_sys::container_key::Subject;
use keyns_sys::process::SingleThreaded;
use keyns_sys::{KeySerial, container, container_key, key};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match *words {
        [] => transcript(),
        ["actor", uid, gid, group, session] => actor::obey([uid, gid, group], session == "fresh"),
        ["without-patches"] => without_patches(),
        _ => return ExitCode::from(2),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("key-rules: {error}");
            ExitCode::FAILURE
        }
    }
}

fn transcript() -> io::Result<()> {
    // Keys that are gone count until they are collected; nothing here is to depend on when.
    for limit in ["maxkeys", "maxbytes", "root_maxkeys", "root_maxbytes"] {
        std::fs::write(format!("/proc/sys/kernel/keys/{limit}"), "10000000")?;
    }
    key::join_session_keyring(None)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    capabilities(&mut out)?;
    rights::all(&mut out)?;
    states::all(&mut out)?;
    out.flush()
}

/// What the patches add is in bits of its own.
fn capabilities(out: &mut impl io::Write) -> io::Result<()> {
    let bytes = key::capabilities()?;
    let [first, second] = *bytes else {
        return Err(io::Error::other("not two bytes of capabilities"));
    };
    writeln!(out, "capabilities {first:02x} {:02x}", second & 0x07)
}

/// An errno as one letter, or as its number.
fn letter(result: &io::Result<()>) -> String {
    match result {
        Ok(()) => ".".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(libc::EACCES) => "A".to_owned(),
            Some(libc::EPERM) => "P".to_owned(),
            Some(libc::ENOKEY) => "K".to_owned(),
            Some(libc::EINVAL) => "I".to_owned(),
            Some(libc::EOPNOTSUPP) => "O".to_owned(),
            Some(number) => format!("({number})"),
            None => format!("({error})"),
        },
    }
}

/// The numbers that the patches take, all of them.
const NUMBERS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../keyns-sys/src/container_abi_whole.txt"
));

/// What the calls answer that only the patches bring, by name and error.
fn without_patches() -> io::Result<()> {
    use std::os::fd::AsFd as _;

    let abi = ContainerAbi::parse(NUMBERS.as_bytes()).map_err(io::Error::other)?;
    let file = std::fs::File::open("/dev/null")?;
    let fd = file.as_fd();
    let session = KeySerial::SESSION;
    let says = |name: &str, result: io::Result<()>| {
        println!("{name} {}", letter(&result));
    };
    println!(
        "abi file {}",
        std::path::Path::new(keyns_sys::container_abi::PATH).exists()
    );
    println!(
        "new bits {:02x}",
        key::capabilities()?.get(1).unwrap_or(&0) & 0xf8
    );
    says(
        "container_create",
        container::create(&abi, c"name", 0).map(drop),
    );
    says(
        "container_wait",
        container::ended(&abi, fd, false).map(drop),
    );
    says(
        "container_kill",
        container::kill(&abi, fd, 0, false).map(drop),
    );
    says(
        "container_socket",
        container::socket(&abi, fd, 2, 2, 0).map(drop),
    );
    says(
        "FSCONFIG_SET_CONTAINER",
        container::make_file_system_for(&abi, fd, fd),
    );
    says(
        "MOVE_MOUNT_T_CONTAINER_ROOT",
        container::set_root(&abi, fd, fd),
    );
    let single = SingleThreaded::prove()?;
    says(
        "fork_into_container",
        container::fork_into(&single, &abi, fd).map(drop),
    );
    says(
        "KEY_SPEC_CONTAINER_KEYRING",
        key::get_keyring_id(KeySerial::new(-9), true).map(drop),
    );
    says(
        "GRANT_PERMISSION",
        container_key::grant_permission(&abi, session, Subject::Owner, 1),
    );
    says("GET_ACL", container_key::get_acl(&abi, session).map(drop));
    says(
        "SET_CONTAINER_KEYRING",
        container_key::set_container_keyring(&abi, fd, session),
    );
    says(
        "GET_CONTAINER_KEYRING",
        container_key::get_container_keyring(&abi, fd, session, true).map(drop),
    );
    says(
        "CONTAINER_INTERCEPT",
        container_key::intercept(&abi, fd, c"user", None, session),
    );
    says(
        "QUERY_REQUEST_KEY_AUTH",
        container_key::query_request(&abi, session).map(drop),
    );
    says(
        "FIND_LRU",
        container_key::find_lru(&abi, session, c"user").map(drop),
    );
    Ok(())
}
