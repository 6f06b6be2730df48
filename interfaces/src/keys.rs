//! `org.keyns.Keys`: keys of containers, lending and grants.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::method::{Empty, method};
use crate::payload::Payload;
use crate::text::ByteText;

/// A key as the kernel describes it. Never holds a payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Serial number.
    pub serial: i32,
    /// Type, e.g. `user`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Description.
    pub description: ByteText,
    /// Owner as a kernel uid.
    pub uid: u32,
    /// Group as a kernel gid.
    pub gid: u32,
    /// Permission mask, four bytes: possessor, owner, group, other from the top.
    pub mask: u32,
    /// Seconds left until it expires; absent: never.
    pub expires_in: Option<u64>,
    /// Full name of the container it belongs to, if any.
    pub container: Option<String>,
    /// `added` (through keyns), `lent` (by its owner), `copy` (made by a grant), `keyring`.
    pub origin: String,
    /// The rights granted to containers, for a source key.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

/// A grant of rights on a key to a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// Serial of the source key.
    pub key: i32,
    /// Full name of the container.
    pub container: String,
    /// Rights asked for.
    pub requested: Vec<String>,
    /// Rights the kernel gives: requested and implied ones.
    pub kernel: Vec<String>,
    /// Rights given beyond those asked for (accepted by the grantor).
    pub implied: Vec<String>,
    /// Serial of the container's copy.
    pub copy: Option<i32>,
    /// Permission mask of the copy; without rights for possessors, those are in its list of rights.
    pub mask: u32,
    /// Seconds left until the grant itself ends; absent: until taken back.
    pub expires_in: Option<u64>,
}

/// Creates a key in a container's store. Its denizens see it only once it is granted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Name or number of the container.
    pub container: String,
    /// Key type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Description.
    pub description: ByteText,
    /// Payload.
    pub payload: Payload,
    /// Seconds until it expires.
    #[serde(default)]
    pub timeout: Option<u32>,
}
method!(Add, "org.keyns.Keys.Add" => KeyReply);

/// A key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyReply {
    /// The key.
    pub key: KeyInfo,
}

/// Replaces the payload of a container's key, and of every copy of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// `CONTAINER/TYPE:DESCRIPTION` or `CONTAINER/SERIAL`.
    pub key: ByteText,
    /// The new payload.
    pub payload: Payload,
}
method!(Update, "org.keyns.Keys.Update" => KeyReply);

/// Reads the payload of a container's key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// `CONTAINER/TYPE:DESCRIPTION` or `CONTAINER/SERIAL`.
    pub key: ByteText,
}
method!(Read, "org.keyns.Keys.Read" => ReadReply);

/// A payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadReply {
    /// The payload.
    pub payload: Payload,
}

/// Describes a container's key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Describe {
    /// `CONTAINER/TYPE:DESCRIPTION` or `CONTAINER/SERIAL`.
    pub key: ByteText,
}
method!(Describe, "org.keyns.Keys.Describe" => KeyReply);

/// Invalidates a container's key and every copy of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invalidate {
    /// `CONTAINER/TYPE:DESCRIPTION` or `CONTAINER/SERIAL`.
    pub key: ByteText,
}
method!(Invalidate, "org.keyns.Keys.Invalidate" => Empty);

/// Lists the keys of one container, or of all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Name or number; absent: all containers.
    #[serde(default)]
    pub container: Option<String>,
}
method!(List, "org.keyns.Keys.List" => Listing);

/// Keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// The keys, by container and serial.
    pub keys: Vec<KeyInfo>,
}

/// Opens a drop keyring, into which the caller links the key it lends.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lend {}
method!(Lend, "org.keyns.Keys.Lend" => Drop);

/// A drop keyring: owned by the caller, who may write to it. It ends with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// Serial of the drop keyring.
    pub keyring: i32,
}

/// Grants a container rights on a key.
///
/// The key is one of a container (`CONTAINER/TYPE:DESCRIPTION`, `CONTAINER/SERIAL`), or one that was
/// lent before (`SERIAL`), or one that lies in the drop keyring of this connection (`SERIAL`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantTo {
    /// The key.
    pub key: ByteText,
    /// Name or number of the container.
    pub container: String,
    /// Rights by name: `view`, `read`, `write`, `search`, `link`, `setsec`, `inval`, `revoke`,
    /// `join`, `clear`.
    pub rights: Vec<String>,
    /// Rights beyond those that the caller accepts to be given with them.
    #[serde(default)]
    pub accept_implied: Vec<String>,
    /// Seconds until the grant ends by itself.
    #[serde(default)]
    pub duration: Option<u32>,
    /// Only say what would be.
    #[serde(default)]
    pub dry_run: bool,
}
method!(GrantTo, "org.keyns.Keys.Grant" => Granted);

/// A grant as applied (or as it would be).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Granted {
    /// The grant.
    pub grant: Grant,
    /// The source key.
    pub key: KeyInfo,
    /// False for a dry run.
    pub applied: bool,
}

/// Takes a grant back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ungrant {
    /// As in [`GrantTo`].
    pub key: ByteText,
    /// Name or number of the container.
    pub container: String,
}
method!(Ungrant, "org.keyns.Keys.Ungrant" => Ungranted);

/// What an ungrant did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ungranted {
    /// Whether a copy was invalidated (false: it was gone already).
    pub copy_removed: bool,
    /// Whether the daemon gave a lent key back (its last grant ended).
    pub given_back: bool,
    /// What no kernel can take back.
    pub note: String,
}

/// The access control list of a key known to the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetAcl {
    /// As in [`GrantTo`].
    pub key: ByteText,
}
method!(GetAcl, "org.keyns.Keys.GetAcl" => Acl);

/// A key's access control list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acl {
    /// The key.
    pub key: KeyInfo,
    /// Its entries: those of the mask first, then containers.
    pub entries: Vec<Ace>,
    /// Whether the daemon holds a link that its owner lent.
    pub lent: bool,
}

/// One entry of an access control list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ace {
    /// `possessor`, `owner`, `group`, `everyone`, `container:NAME`.
    pub subject: String,
    /// Rights in force.
    pub rights: Vec<String>,
    /// Of these, the ones nobody asked for.
    pub implied: Vec<String>,
    /// `kernel`, `daemon` or `advisory`.
    pub enforcer: String,
}

/// Moves a key from one container's store to another's; grants to the former end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// `CONTAINER/TYPE:DESCRIPTION` or `CONTAINER/SERIAL`.
    pub key: ByteText,
    /// Name or number of the container it goes to.
    pub to: String,
    /// Replace a key of the same type and description there.
    #[serde(default)]
    pub replace: bool,
}
method!(Move, "org.keyns.Keys.Move" => KeyReply);

/// Streams what happens to keys and grants.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {}
method!(Subscribe, "org.keyns.Keys.Subscribe" => stream Event);
