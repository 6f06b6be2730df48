//! Waiting for what a descriptor has to say, whatever it is of.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until there is something to be read from a descriptor, or it has hung up. Cancel safe.
///
/// # Errors
/// When it cannot be waited for (`epoll_ctl(2)`).
pub(crate) async fn readable(descriptor: OwnedFd) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "sound for what owns its descriptor, and its successor is not safe to call"
    )]
    let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
    drop(descriptor.readable().await?);
    Ok(())
}
