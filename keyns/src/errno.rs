//! Linux error numbers: their names, and what they mean for a key operation.
//!
//! The C library's texts mislead here: an exhausted key quota reads "Disk quota exceeded", and
//! "Permission denied" does not say that a mask was asked. [`explain`] speaks of keys.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Linux error number, 1 to 4095 (`MAX_ERRNO`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Errno(u16);

macro_rules! constants {
    ($($name:ident = $number:literal),* $(,)?) => {
        #[allow(missing_docs, reason = "the names are those of errno(3)")]
        impl Errno {
            $(pub const $name: Self = Self($number);)*
        }
    };
}

constants! {
    EPERM = 1, ENOENT = 2, EINTR = 4, EIO = 5, E2BIG = 7, EAGAIN = 11, ENOMEM = 12, EACCES = 13,
    EFAULT = 14, EBUSY = 16, EEXIST = 17, ENODEV = 19, ENOTDIR = 20, EINVAL = 22, ENFILE = 23,
    EMFILE = 24, ENOSPC = 28, EDEADLK = 35, ENAMETOOLONG = 36, ENOSYS = 38, ELOOP = 40,
    ENOPKG = 65, EBADMSG = 74, EMSGSIZE = 90, EOPNOTSUPP = 95, ETIMEDOUT = 110, EDQUOT = 122,
    ECANCELED = 125, ENOKEY = 126, EKEYEXPIRED = 127, EKEYREVOKED = 128, EKEYREJECTED = 129,
}

/// The largest number the kernel passes as an error.
const MAX: u16 = 4095;

/// Numbers and names of `asm-generic/errno.h`, which x86, Arm, RISC-V, s390 and POWER share but for
/// EDEADLOCK.
const TABLE: &[(u16, &str)] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (3, "ESRCH"),
    (4, "EINTR"),
    (5, "EIO"),
    (6, "ENXIO"),
    (7, "E2BIG"),
    (8, "ENOEXEC"),
    (9, "EBADF"),
    (10, "ECHILD"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (15, "ENOTBLK"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (18, "EXDEV"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (21, "EISDIR"),
    (22, "EINVAL"),
    (23, "ENFILE"),
    (24, "EMFILE"),
    (25, "ENOTTY"),
    (26, "ETXTBSY"),
    (27, "EFBIG"),
    (28, "ENOSPC"),
    (29, "ESPIPE"),
    (30, "EROFS"),
    (31, "EMLINK"),
    (32, "EPIPE"),
    (33, "EDOM"),
    (34, "ERANGE"),
    (35, "EDEADLK"),
    (36, "ENAMETOOLONG"),
    (37, "ENOLCK"),
    (38, "ENOSYS"),
    (39, "ENOTEMPTY"),
    (40, "ELOOP"),
    (42, "ENOMSG"),
    (43, "EIDRM"),
    (44, "ECHRNG"),
    (45, "EL2NSYNC"),
    (46, "EL3HLT"),
    (47, "EL3RST"),
    (48, "ELNRNG"),
    (49, "EUNATCH"),
    (50, "ENOCSI"),
    (51, "EL2HLT"),
    (52, "EBADE"),
    (53, "EBADR"),
    (54, "EXFULL"),
    (55, "ENOANO"),
    (56, "EBADRQC"),
    (57, "EBADSLT"),
    (59, "EBFONT"),
    (60, "ENOSTR"),
    (61, "ENODATA"),
    (62, "ETIME"),
    (63, "ENOSR"),
    (64, "ENONET"),
    (65, "ENOPKG"),
    (66, "EREMOTE"),
    (67, "ENOLINK"),
    (68, "EADV"),
    (69, "ESRMNT"),
    (70, "ECOMM"),
    (71, "EPROTO"),
    (72, "EMULTIHOP"),
    (73, "EDOTDOT"),
    (74, "EBADMSG"),
    (75, "EOVERFLOW"),
    (76, "ENOTUNIQ"),
    (77, "EBADFD"),
    (78, "EREMCHG"),
    (79, "ELIBACC"),
    (80, "ELIBBAD"),
    (81, "ELIBSCN"),
    (82, "ELIBMAX"),
    (83, "ELIBEXEC"),
    (84, "EILSEQ"),
    (85, "ERESTART"),
    (86, "ESTRPIPE"),
    (87, "EUSERS"),
    (88, "ENOTSOCK"),
    (89, "EDESTADDRREQ"),
    (90, "EMSGSIZE"),
    (91, "EPROTOTYPE"),
    (92, "ENOPROTOOPT"),
    (93, "EPROTONOSUPPORT"),
    (94, "ESOCKTNOSUPPORT"),
    (95, "EOPNOTSUPP"),
    (96, "EPFNOSUPPORT"),
    (97, "EAFNOSUPPORT"),
    (98, "EADDRINUSE"),
    (99, "EADDRNOTAVAIL"),
    (100, "ENETDOWN"),
    (101, "ENETUNREACH"),
    (102, "ENETRESET"),
    (103, "ECONNABORTED"),
    (104, "ECONNRESET"),
    (105, "ENOBUFS"),
    (106, "EISCONN"),
    (107, "ENOTCONN"),
    (108, "ESHUTDOWN"),
    (109, "ETOOMANYREFS"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
    (112, "EHOSTDOWN"),
    (113, "EHOSTUNREACH"),
    (114, "EALREADY"),
    (115, "EINPROGRESS"),
    (116, "ESTALE"),
    (117, "EUCLEAN"),
    (118, "ENOTNAM"),
    (119, "ENAVAIL"),
    (120, "EISNAM"),
    (121, "EREMOTEIO"),
    (122, "EDQUOT"),
    (123, "ENOMEDIUM"),
    (124, "EMEDIUMTYPE"),
    (125, "ECANCELED"),
    (126, "ENOKEY"),
    (127, "EKEYEXPIRED"),
    (128, "EKEYREVOKED"),
    (129, "EKEYREJECTED"),
    (130, "EOWNERDEAD"),
    (131, "ENOTRECOVERABLE"),
    (132, "ERFKILL"),
    (133, "EHWPOISON"),
];

/// A text or number that is no Linux error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "“{}” is no error; write a name such as ENOKEY, EKEYREJECTED or EACCES, or a number from 1 to 4095",
    crate::text::Escaped::new(.0).cut(40)
)]
pub struct UnknownErrno(pub String);

impl Errno {
    /// The error of this number; `None` outside 1 to 4095.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        u16::try_from(number)
            .ok()
            .filter(|n| (1..=MAX).contains(n))
            .map(Self)
    }

    /// The error number an I/O error carries, if it came from the kernel.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        Self::new(error.raw_os_error()?)
    }

    /// The number, as `KEYCTL_REJECT` takes it.
    #[must_use]
    pub fn raw(self) -> i32 {
        i32::from(self.0)
    }

    /// The name, such as `ENOKEY`; `None` for numbers without one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        TABLE
            .iter()
            .find(|(number, _)| *number == self.0)
            .map(|(_, name)| *name)
    }

    /// The error of this name, in capitals.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        // Second names of the same numbers.
        let name = match name {
            "EWOULDBLOCK" => "EAGAIN",
            "EDEADLOCK" => "EDEADLK",
            "ENOTSUP" => "EOPNOTSUPP",
            name => name,
        };
        TABLE
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(number, _)| Self(*number))
    }
}

/// A name in capitals or small letters, or a number.
impl FromStr for Errno {
    type Err = UnknownErrno;

    fn from_str(text: &str) -> Result<Self, UnknownErrno> {
        let number = || {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            digits
                .then(|| text.parse().ok().and_then(Self::new))
                .flatten()
        };
        Self::from_name(&text.to_ascii_uppercase())
            .or_else(number)
            .ok_or_else(|| UnknownErrno(text.to_owned()))
    }
}

impl TryFrom<String> for Errno {
    type Error = UnknownErrno;
    fn try_from(text: String) -> Result<Self, UnknownErrno> {
        text.parse()
    }
}

impl From<Errno> for String {
    fn from(errno: Errno) -> Self {
        errno.to_string()
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.raw())
    }
}

/// The name, or the number where there is none.
impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({self})")
    }
}

/// The key operations whose errors [`explain`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "one per key operation; keyctl(2) describes them"
)]
pub enum KeyOp {
    Add,
    Request,
    GetKeyringId,
    JoinSession,
    Update,
    Revoke,
    Chown,
    SetPerm,
    Describe,
    Clear,
    Link,
    Unlink,
    Move,
    Search,
    Read,
    Instantiate,
    Reject,
    SetTimeout,
    AssumeAuthority,
    GetSecurity,
    Invalidate,
    GetPersistent,
    Restrict,
}

impl KeyOp {
    /// What the operation does, to follow "cannot".
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Add => "add the key",
            Self::Request => "find the key",
            Self::GetKeyringId => "resolve the keyring",
            Self::JoinSession => "join the session keyring",
            Self::Update => "update the key",
            Self::Revoke => "revoke the key",
            Self::Chown => "change the owner of the key",
            Self::SetPerm => "change the permissions of the key",
            Self::Describe => "describe the key",
            Self::Clear => "clear the keyring",
            Self::Link => "link the key",
            Self::Unlink => "unlink the key",
            Self::Move => "move the key",
            Self::Search => "search the keyring",
            Self::Read => "read the key",
            Self::Instantiate => "instantiate the key",
            Self::Reject => "reject the request",
            Self::SetTimeout => "set the timeout of the key",
            Self::AssumeAuthority => "assume authority over the request",
            Self::GetSecurity => "read the security label of the key",
            Self::Invalidate => "invalidate the key",
            Self::GetPersistent => "get the persistent keyring",
            Self::Restrict => "restrict the keyring",
        }
    }

    /// What the mask has to allow (`security/keys/keyctl.c`).
    const fn needs(self) -> &'static str {
        match self {
            Self::Add => "WRITE on the keyring, and on the key if it is there already",
            Self::Request => "SEARCH on the key and every keyring on the way",
            Self::GetKeyringId | Self::JoinSession => "SEARCH on the keyring",
            Self::Update => "WRITE on the key",
            Self::Revoke => "WRITE or SETATTR on the key",
            Self::Chown | Self::SetPerm => "SETATTR on the key, and its owner or an administrator",
            Self::Describe | Self::GetSecurity => "VIEW on the key",
            Self::Clear | Self::Unlink => "WRITE on the keyring",
            Self::Link => "LINK on the key and WRITE on the keyring",
            Self::Move => "LINK on the key and WRITE on both keyrings",
            Self::Search => {
                "SEARCH on the keyrings, and for a destination WRITE on it and LINK on the key"
            }
            Self::Read => "READ on the key, or possession of it",
            Self::Instantiate | Self::Reject => "assumed authority, and WRITE on the destination",
            Self::SetTimeout | Self::Restrict => "SETATTR on the key",
            Self::AssumeAuthority => "SEARCH on the authorisation key",
            Self::Invalidate => "SEARCH on the key",
            Self::GetPersistent => "WRITE on the destination, and CAP_SETUID for another uid",
        }
    }
}

/// One clause that says why `op` failed. `quota_uid` is whose quota the operation counts against.
///
/// The C library's text is only used for errors that have no meaning of their own for keys.
#[must_use]
pub fn explain(op: KeyOp, errno: Errno, quota_uid: Option<u32>) -> String {
    let fixed = match errno {
        Errno::EDQUOT => {
            return match quota_uid {
                Some(uid) => format!("key quota of uid {uid} exceeded"),
                None => "key quota of the key's owner exceeded".to_owned(),
            };
        }
        Errno::EACCES => {
            return format!("the permissions do not allow it: it needs {}", op.needs());
        }
        Errno::ENOKEY => match op {
            KeyOp::AssumeAuthority | KeyOp::Instantiate | KeyOp::Reject => {
                "the request has ended or belongs to somebody else"
            }
            KeyOp::Request | KeyOp::Search => "no such key was found",
            _ => "the key does not exist any more, or never did",
        },
        Errno::EKEYEXPIRED => "the key has expired",
        Errno::EKEYREVOKED => "the key has been revoked",
        Errno::EKEYREJECTED => "the key was rejected by whoever was asked for it",
        Errno::EPERM => match op {
            KeyOp::Instantiate | KeyOp::Reject => "authority over the request was not assumed",
            KeyOp::Add | KeyOp::Request => "keys of this type cannot be made from user space",
            KeyOp::Link | KeyOp::Move | KeyOp::Restrict => "the keyring is restricted",
            _ => "only the owner of the key or an administrator may do it",
        },
        Errno::ENODEV => "the kernel does not know this type of key",
        Errno::ENOTDIR => "it is not a keyring",
        Errno::EOPNOTSUPP => match op {
            KeyOp::Read => "keys of this type cannot be read",
            KeyOp::Update => "keys of this type cannot be updated",
            _ => "keys of this type, or this kernel, cannot do it",
        },
        Errno::EINVAL => match op {
            KeyOp::Add | KeyOp::Update | KeyOp::Instantiate => {
                "keys of this type do not accept such a payload or description"
            }
            _ => "an argument is not valid for this key",
        },
        Errno::EEXIST => match op {
            KeyOp::Restrict => "the keyring is restricted already",
            _ => "the keyring already has a key of that type and description",
        },
        Errno::EDEADLK => "the keyring would contain itself",
        Errno::ELOOP => "keyrings are nested too deeply",
        Errno::ENFILE => "the keyring is full",
        Errno::ENOENT => match op {
            KeyOp::Unlink | KeyOp::Move => "the keyring has no link to the key",
            KeyOp::Request => "there is no /sbin/request-key to ask",
            _ => "there is no such key or keyring",
        },
        Errno::EBUSY => "the key has been completed already",
        Errno::ETIMEDOUT => "nobody answered in time",
        Errno::EAGAIN => "too many requests are waiting; try again",
        Errno::EINTR => "a signal interrupted it",
        Errno::ENOMEM => "the kernel has no memory for it",
        Errno::EMSGSIZE | Errno::ENAMETOOLONG => "the description or payload is too long",
        Errno::ENOSYS => "the kernel has no key service, or a filter forbids using it",
        other => return other.to_string_with_text(),
    };
    fixed.to_owned()
}

impl Errno {
    fn to_string_with_text(self) -> String {
        let text = io::Error::from_raw_os_error(self.raw()).to_string();
        // The standard library appends " (os error N)".
        let text = text.split(" (os error").next().unwrap_or_default();
        format!("{text} ({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: [KeyOp; 23] = [
        KeyOp::Add,
        KeyOp::Request,
        KeyOp::GetKeyringId,
        KeyOp::JoinSession,
        KeyOp::Update,
        KeyOp::Revoke,
        KeyOp::Chown,
        KeyOp::SetPerm,
        KeyOp::Describe,
        KeyOp::Clear,
        KeyOp::Link,
        KeyOp::Unlink,
        KeyOp::Move,
        KeyOp::Search,
        KeyOp::Read,
        KeyOp::Instantiate,
        KeyOp::Reject,
        KeyOp::SetTimeout,
        KeyOp::AssumeAuthority,
        KeyOp::GetSecurity,
        KeyOp::Invalidate,
        KeyOp::GetPersistent,
        KeyOp::Restrict,
    ];

    #[test]
    fn names_and_numbers_belong_together() {
        for (number, name) in [
            (1, "EPERM"),
            (11, "EAGAIN"),
            (122, "EDQUOT"),
            (126, "ENOKEY"),
            (127, "EKEYEXPIRED"),
            (128, "EKEYREVOKED"),
            (129, "EKEYREJECTED"),
            (133, "EHWPOISON"),
        ] {
            let errno = Errno::new(number).unwrap();
            assert_eq!(errno.name(), Some(name));
            assert_eq!(name.parse(), Ok(errno));
            assert_eq!(name.to_lowercase().parse(), Ok(errno));
            assert_eq!(number.to_string().parse(), Ok(errno));
            assert_eq!(errno.raw(), number);
        }
        assert_eq!("EWOULDBLOCK".parse(), Ok(Errno::EAGAIN));
    }

    #[test]
    fn the_table_agrees_with_the_c_library() {
        // Every named number has a text there, and no number is listed twice.
        for pair in TABLE.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{pair:?}");
        }
        for (number, name) in TABLE {
            let text = io::Error::from_raw_os_error(i32::from(*number)).to_string();
            assert!(!text.starts_with("Unknown error"), "{name}: {text}");
        }
    }

    #[test]
    fn what_is_no_error_is_refused() {
        for text in ["", "0", "-1", "+5", "4096", "99999999999", "ENOSUCH", "E"] {
            assert!(text.parse::<Errno>().is_err(), "{text}");
        }
        assert_eq!(Errno::new(0), None);
        assert_eq!(Errno::new(-126), None);
        assert_eq!("4095".parse::<Errno>().unwrap().to_string(), "4095");
    }

    #[test]
    fn a_quota_is_a_key_quota_and_names_the_uid() {
        for op in OPS {
            let text = explain(op, Errno::EDQUOT, Some(100_000));
            assert_eq!(text, "key quota of uid 100000 exceeded");
            assert!(!explain(op, Errno::EDQUOT, None).contains("disk"));
        }
    }

    #[test]
    fn every_error_gets_a_sentence_for_every_operation() {
        for op in OPS {
            for number in 1..=133 {
                let text = explain(op, Errno::new(number).unwrap(), None);
                assert!(
                    !text.is_empty() && !text.to_lowercase().contains("disk quota"),
                    "{text}"
                );
            }
            assert!(explain(op, Errno::EACCES, None).contains("it needs"));
        }
        assert_eq!(
            explain(KeyOp::Read, Errno::EIO, None),
            "Input/output error (EIO)"
        );
    }

    #[test]
    fn json_is_the_name() {
        assert_eq!(serde_json::to_string(&Errno::ENOKEY).unwrap(), "\"ENOKEY\"");
        assert_eq!(
            serde_json::from_str::<Errno>("\"EACCES\"").unwrap(),
            Errno::EACCES
        );
        assert!(serde_json::from_str::<Errno>("\"disk\"").is_err());
    }
}
