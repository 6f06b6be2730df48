//! The program behind `/sbin/request-key`.
//!
//! The kernel starts it, as root and outside every container, whenever a key is requested that does
//! not exist; the requester sleeps uninterruptibly until it has ended. So it decides quickly, asks
//! nobody about requests of the host, which go to the program that was here before, and never ends
//! the request of a container without an answer: what the daemon says, or a rejection.
//!
//! What it does for a request of the host is kept short, and the original program finds everything
//! as the kernel left it: descriptors 0 to 2 closed, no signal blocked, the arguments in place, its
//! session keyring as it was but for an owner or a bit that nobody needs (see `depth`).
//!
//! Nothing that a requester can write decides where its request goes: the ids that the kernel gives,
//! the authorisation key and the namespaces of the thread it names do, compared with the routing
//! table.

mod auth_key;
mod container;
mod conversation;
mod depth;
mod invocation;
mod membership;
mod oom;
mod origin;
mod original;
mod routing;

use keyns_sys::arena::Arena;
use keyns_sys::helper_process::Arguments;
use keyns_sys::request::settle;
use keyns_sys::upcall_wire;

#[global_allocator]
static MEMORY: Arena = Arena::new();

/// Serves one request, or answers `--version`, and returns the exit status.
#[must_use]
pub fn run(arguments: Arguments) -> i32 {
    if arguments.count() == 2 && arguments.get(1) == Some(c"--version") {
        println!(
            "keyns-upcall {}, protocol {}",
            env!("CARGO_PKG_VERSION"),
            upcall_wire::VERSION
        );
        return 0;
    }
    let Some(invocation) = invocation::Invocation::parse(arguments) else {
        eprintln!("usage: keyns-upcall create KEY UID GID THREAD PROCESS SESSION (by the kernel)");
        return 2;
    };
    match routing::Table::open() {
        Ok(None) => original::run(&invocation),
        Ok(Some(table)) => container::serve(&invocation, &table),
        Err(_) => settle::undecidable(invocation.target),
    }
}
