//! Requests that are refused whatever the rules say.
//!
//! Some key types are asked for by the kernel alone, for file systems of the whole host, and some of
//! their answers go to caches that all containers share. User space can ask for them too, with a
//! text of its choice, and root programs that believed the text have been attacked that way. From a
//! container they are refused, and so is whatever cannot be attributed to one thread for certain.

use keyns_sys::upcall_wire::{Doubts, Rejection};

use super::errno;

/// Types whose requests come from the kernel, and whose answers serve the whole host.
const KERNEL_ONLY: [&[u8]; 4] = [b"cifs.spnego", b"cifs.idmap", b"id_resolver", b"id_legacy"];
/// Asked for by the kernel with credentials of its own, answered once per network namespace.
const DNS_RESOLVER: &[u8] = b"dns_resolver";

/// Whether requests of containers for this type are refused whatever the rules say.
#[must_use]
pub fn is_kernel_only(type_: &[u8]) -> bool {
    KERNEL_ONLY.contains(&type_) || type_.starts_with(b".")
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A type that only the kernel asks for, or a name only it can give.
    Forged,
    /// A DNS answer would go to the host, whose network the container shares.
    SharedDns,
    /// The thread that the kernel names is not the one that waits.
    NotTheRequester,
    /// It was made while answering another request that leads here again.
    Loop,
    /// No container of this daemon, although it was sent here.
    Stranger,
    /// The container is being killed.
    Dying,
}

impl Refusal {
    /// What the requester gets.
    #[must_use]
    pub fn rejection(self) -> Rejection {
        match self {
            Self::Forged | Self::SharedDns => errno::rejection(errno::EPERM, 5),
            Self::NotTheRequester => errno::rejection(errno::EPERM, 1),
            Self::Loop => errno::rejection(errno::EDEADLK, 1),
            Self::Stranger | Self::Dying => errno::rejection(errno::ENOKEY, 1),
        }
    }

    /// Why, for the log.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Forged => "only the kernel asks for this, and only for the host",
            Self::SharedDns => "the container shares the network of the host",
            Self::NotTheRequester => {
                "the thread named by the kernel does not wait for this request"
            }
            Self::Loop => "it was made by the answerer of a request that led to it",
            Self::Stranger => "no container of this daemon",
            Self::Dying => "the container is being killed",
        }
    }
}

/// The network of a requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its container, or one around it, has a network namespace of its own.
    pub own: bool,
    /// The requester itself is in the host's network namespace.
    pub host: bool,
}

/// Judges a request by what is asked for and by who can have asked.
///
/// `other_request` says that the daemon holds another request of the same thread, which can wait
/// for one only: the second was made by somebody acting with the authority over the first.
///
/// # Errors
/// The [`Refusal`].
pub fn judge(
    type_: &[u8],
    description: &[u8],
    doubts: Doubts,
    other_request: bool,
    network: Network,
) -> Result<(), Refusal> {
    if is_kernel_only(type_) || description.starts_with(b".") {
        return Err(Refusal::Forged);
    }
    if doubts.not_waiting || other_request {
        return Err(Refusal::NotTheRequester);
    }
    if type_ == DNS_RESOLVER {
        // The kernel asks with ids of its own here, so those say nothing.
        return if network.own && !network.host {
            Ok(())
        } else {
            Err(Refusal::SharedDns)
        };
    }
    if doubts.other_ids {
        return Err(Refusal::NotTheRequester);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAR: Doubts = Doubts {
        not_waiting: false,
        other_ids: false,
    };
    const OWN: Network = Network {
        own: true,
        host: false,
    };

    #[test]
    fn kernel_only_types_and_dotted_names_are_refused() {
        for (type_, description) in [
            (&b"cifs.spnego"[..], &b"ver=0x2"[..]),
            (b"cifs.idmap", b"os:S-1"),
            (b"id_resolver", b"uid:root"),
            (b"id_legacy", b"uid:root"),
            (b".request_key_auth", b"1"),
            (b"user", b".dns"),
        ] {
            assert_eq!(
                judge(type_, description, CLEAR, false, OWN),
                Err(Refusal::Forged)
            );
        }
        for type_ in [&b"user"[..], b"cifs", b"id_resolver2", b"rxrpc"] {
            assert_eq!(judge(type_, b"x.y", CLEAR, false, OWN), Ok(()));
        }
    }

    #[test]
    fn dns_needs_a_network_of_its_own() {
        let other_ids = Doubts {
            other_ids: true,
            ..CLEAR
        };
        assert_eq!(judge(b"dns_resolver", b"a", other_ids, false, OWN), Ok(()));
        for network in [
            Network {
                own: false,
                host: true,
            },
            // A namespace the denizen made by itself, or one it was lent from the host.
            Network {
                own: false,
                host: false,
            },
            Network {
                own: true,
                host: true,
            },
        ] {
            let judged = judge(b"dns_resolver", b"a", CLEAR, false, network);
            assert_eq!(judged, Err(Refusal::SharedDns));
        }
    }

    #[test]
    fn a_request_in_anothers_name_is_refused() {
        let not_waiting = Doubts {
            not_waiting: true,
            ..CLEAR
        };
        let other_ids = Doubts {
            other_ids: true,
            ..CLEAR
        };
        for (doubts, other) in [(not_waiting, false), (other_ids, false), (CLEAR, true)] {
            let judged = judge(b"user", b"a", doubts, other, OWN);
            assert_eq!(judged, Err(Refusal::NotTheRequester));
        }
    }
}
