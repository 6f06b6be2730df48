//! Values of the command line, checked as they are parsed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use jiff::{Span, SpanRelativeTo, Unit};
use keyns::engine::paths::Paths;
use keyns::errno::Errno;
use keyns::name::ContainerPath;
use keyns::rights::Rights;
use keyns::spec::{KeySpec, SpecError};
use keyns_interfaces::ByteText;
use keyns_interfaces::containers::{Namespace, Root};
use keyns_interfaces::upcalls::Rejection;

/// A key in one of the forms of [`KeySpec`]; any bytes.
pub fn key() -> impl TypedValueParser<Value = KeySpec> {
    OsStringValueParser::new().try_map(|text: OsString| KeySpec::from_os_str(&text))
}

/// The keyring a key is linked into when it has been made; `0` for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination(pub Option<KeySpec>);

/// A keyring in one of the forms of [`KeySpec`], or `0`: the kernel passes it for a keyring that its
/// requester does not have.
pub fn destination() -> impl TypedValueParser<Value = Destination> {
    OsStringValueParser::new().try_map(|text: OsString| {
        if text == "0" {
            return Ok::<_, SpecError>(Destination(None));
        }
        KeySpec::from_os_str(&text).map(|spec| Destination(Some(spec)))
    })
}

/// A container by name or number. A number is a valid name too; the daemon tells them apart.
pub fn container() -> impl TypedValueParser<Value = ContainerPath> {
    OsStringValueParser::new().try_map(|text: OsString| ContainerPath::from_bytes(text.as_bytes()))
}

/// Any bytes.
pub fn bytes() -> impl TypedValueParser<Value = ByteText> {
    OsStringValueParser::new().map(|text: OsString| ByteText(text.as_bytes().to_vec()))
}

/// Name of an instance, by the rule of the daemon.
pub fn instance(text: &str) -> Result<String, String> {
    Paths::new(text).map(|paths| paths.instance().to_owned())
}

/// A name that the daemon judges, but not an empty one.
pub fn not_empty(text: &str) -> Result<String, String> {
    match text {
        "" => Err("the name is empty".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// A type of key: 1 to 31 bytes.
pub fn key_type(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("the type is empty".to_owned()),
        1..=keyns_sys::key::MAX_TYPE => {
            if text.bytes().any(|b| b.is_ascii_control()) {
                return Err("a key type has no control characters".to_owned());
            }
            Ok(text.to_owned())
        }
        n => Err(format!("a key type has at most 31 bytes, this one has {n}")),
    }
}

/// At least one right.
pub fn rights(text: &str) -> Result<Rights, String> {
    let rights: Rights = text
        .parse()
        .map_err(|error: keyns::rights::RightsError| error.to_string())?;
    if rights.is_empty() {
        return Err("no right at all; to take rights back use ungrant".to_owned());
    }
    Ok(rights)
}

/// A time in seconds: `90`, `90s`, `15m`, `8h`, `2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub u32);

impl std::str::FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse() {
            return at_least_one(seconds);
        }
        let seconds = text
            .parse::<Span>()
            .and_then(|span| span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())))
            .map_err(|_| {
                "a time is a number with s, m, h or d, such as 90s, 15m, 8h, 2d, 1h30m".to_owned()
            })?;
        if seconds < 1.0 || seconds > f64::from(u32::MAX) || seconds.fract() != 0.0 {
            return Err("a time is 1 to 4294967295 whole seconds".to_owned());
        }
        // Whole and within range, as just checked.
        at_least_one(seconds as u32)
    }
}

fn at_least_one(seconds: u32) -> Result<Seconds, String> {
    if seconds == 0 {
        Err("a time is at least one second".to_owned())
    } else {
        Ok(Seconds(seconds))
    }
}

/// A time in seconds as [`Seconds`], or `0` or `never` for none.
pub fn timeout(text: &str) -> Result<u32, String> {
    match text {
        "0" | "never" => Ok(0),
        time => time.parse().map(|Seconds(seconds)| seconds),
    }
}

/// A user or group by number.
pub fn id(text: &str) -> Result<u32, String> {
    match text.parse() {
        // The kernel's “no id”.
        Ok(u32::MAX) => Err("it is a number from 0 to 4294967294".to_owned()),
        Ok(id) => Ok(id),
        Err(_) => Err(
            "it is a number from 0 to 4294967294; id -u NAME prints that of a user, \
             getent group NAME that of a group"
                .to_owned(),
        ),
    }
}

/// An error by name or number, or `rejected`, `revoked`, `expired` as keyctl(1) has them.
pub fn rejection_error(text: &str) -> Result<Errno, String> {
    match text {
        "rejected" => Ok(Errno::EKEYREJECTED),
        "revoked" => Ok(Errno::EKEYREVOKED),
        "expired" => Ok(Errno::EKEYEXPIRED),
        other => errno(other),
    }
}

/// For how long the kernel repeats a rejection: 1 to 60 seconds.
pub fn rejection_time(text: &str) -> Result<u32, String> {
    match text.parse::<Seconds>()? {
        Seconds(seconds @ 1..=60) => Ok(seconds),
        Seconds(_) => Err("a rejection is repeated for 1 to 60 seconds".to_owned()),
    }
}

/// How long a request may wait, in milliseconds: `1s` to `60s`.
pub fn deadline(text: &str) -> Result<u32, String> {
    match text.parse::<Seconds>()? {
        Seconds(seconds @ 1..=60) => Ok(seconds * 1000),
        Seconds(_) => Err("a deadline is 1 to 60 seconds".to_owned()),
    }
}

/// An error by name or number.
pub fn errno(text: &str) -> Result<Errno, String> {
    text.parse()
        .map_err(|error: keyns::errno::UnknownErrno| error.to_string())
}

/// `ERRNO[:SECONDS]`; 5 seconds unless said otherwise.
pub fn rejection(text: &str) -> Result<Rejection, String> {
    let (name, timeout) = match text.split_once(':') {
        Some((name, time)) => (name, rejection_time(time)?),
        None => (text, 5),
    };
    Ok(Rejection {
        errno: errno(name)?.raw(),
        timeout,
    })
}

/// Namespaces by name, joined by commas, or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces(pub Vec<Namespace>);

/// Every namespace with its name, in the order of listings.
pub const NAMESPACES: [(Namespace, &str); 7] = [
    (Namespace::User, "user"),
    (Namespace::Pid, "pid"),
    (Namespace::Mount, "mount"),
    (Namespace::Net, "net"),
    (Namespace::Ipc, "ipc"),
    (Namespace::Uts, "uts"),
    (Namespace::Cgroup, "cgroup"),
];

impl std::str::FromStr for Namespaces {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let mut found = Vec::new();
        for word in text.split(',') {
            let (namespace, _) = NAMESPACES.iter().find(|(_, name)| *name == word).ok_or_else(|| {
                format!(
                    "unknown namespace “{}”; there are user, pid, mount, net, ipc, uts, cgroup, or none",
                    keyns::text::Escaped::new(word).cut(40)
                )
            })?;
            if !found.contains(namespace) {
                found.push(*namespace);
            }
        }
        Ok(Self(found))
    }
}

/// `empty`, `usr`, `copy` or a directory.
pub fn root() -> impl TypedValueParser<Value = Root> {
    OsStringValueParser::new().try_map(|text: OsString| match text.as_bytes() {
        b"empty" => Ok(Root::Empty),
        b"usr" => Ok(Root::Usr),
        b"copy" => Ok(Root::Copy),
        b"" => Err("the directory is missing".to_owned()),
        _ => {
            // The daemon has a working directory of its own.
            let path =
                std::path::absolute(PathBuf::from(&text)).map_err(|error| error.to_string())?;
            if path.as_os_str() == "/" {
                return Err(
                    "the host's own root cannot be the root of a container; use copy".to_owned(),
                );
            }
            Ok(Root::Dir(ByteText(path.as_os_str().as_bytes().to_vec())))
        }
    })
}

/// `UID[:GID]`, as the container numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id; the user's number unless given.
    pub gid: u32,
}

impl std::str::FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = |text: &str| match text.parse::<u32>() {
            // The kernel's “no id”.
            Ok(u32::MAX) | Err(_) => Err("a user is UID or UID:GID, in numbers".to_owned()),
            Ok(id) => Ok(id),
        };
        match text.split_once(':') {
            Some((uid, gid)) => Ok(Self {
                uid: id(uid)?,
                gid: id(gid)?,
            }),
            None => id(text).map(|uid| Self { uid, gid: uid }),
        }
    }
}

/// `NAME=VALUE`, any bytes but NUL.
pub fn variable() -> impl TypedValueParser<Value = ByteText> {
    OsStringValueParser::new().try_map(|text: OsString| {
        match text.as_bytes().iter().position(|b| *b == b'=') {
            Some(1..) => Ok(ByteText(text.as_bytes().to_vec())),
            Some(_) => Err("the name before “=” is empty"),
            None => Err("a variable is NAME=VALUE"),
        }
    })
}

/// Signals by the names they may be given.
pub const SIGNALS: [(&str, i32); 12] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("TERM", 15),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("WINCH", 28),
];

/// A signal by name (with or without SIG) or number.
pub fn signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    match text.parse() {
        Ok(number @ 1..=64) => Ok(number),
        _ => Err(format!(
            "a signal is a number from 1 to 64 or one of {}",
            SIGNALS.map(|(name, _)| name).join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_have_units_or_are_seconds() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("15m", 900),
            ("8h", 28_800),
            ("2d", 172_800),
            ("1h30m", 5400),
        ] {
            assert_eq!(text.parse(), Ok(Seconds(seconds)), "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "-5",
            "-5s",
            "1.5s",
            "8x",
            "h",
            "4294967296",
            "200000d",
            "1mo",
        ] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_timeout_is_zero_or_never() {
        assert_eq!(timeout("never"), Ok(0));
        assert_eq!(timeout("0"), Ok(0));
        assert_eq!(timeout("8h"), Ok(28_800));
        for text in ["", "00", "-1", "4294967296", "none"] {
            assert!(timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_is_a_number_that_stands_for_somebody() {
        assert_eq!(id("0"), Ok(0));
        assert_eq!(id("4294967294"), Ok(4_294_967_294));
        for text in ["", "-1", "4294967295", "root", "0x10"] {
            assert!(id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_rejected_with_words_names_or_numbers() {
        assert_eq!(rejection_error("expired"), Ok(Errno::EKEYEXPIRED));
        assert_eq!(rejection_error("129"), Ok(Errno::EKEYREJECTED));
        assert_eq!(rejection_error("eacces"), Ok(Errno::EACCES));
        for text in ["", "0", "Rejected", "4096", "-13"] {
            assert!(rejection_error(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_deadline_has_bounds() {
        assert_eq!(deadline("1s"), Ok(1000));
        assert_eq!(deadline("1m"), Ok(60_000));
        assert!(deadline("61s").is_err());
        assert!(deadline("0").is_err());
    }

    #[test]
    fn a_rejection_is_an_error_and_a_time() {
        assert_eq!(
            rejection("ENOKEY"),
            Ok(Rejection {
                errno: 126,
                timeout: 5
            })
        );
        assert_eq!(
            rejection("eacces:2s"),
            Ok(Rejection {
                errno: 13,
                timeout: 2
            })
        );
        assert_eq!(
            rejection("129:60"),
            Ok(Rejection {
                errno: 129,
                timeout: 60
            })
        );
        for text in [
            "",
            "0",
            "4096",
            "ENOSUCH",
            "ENOKEY:",
            "ENOKEY:61",
            "ENOKEY:0",
        ] {
            assert!(rejection(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_user_is_one_or_two_numbers() {
        assert_eq!("0".parse(), Ok(User { uid: 0, gid: 0 }));
        assert_eq!(
            "1000:100".parse(),
            Ok(User {
                uid: 1000,
                gid: 100
            })
        );
        for text in ["", "root", "-1", "4294967295", "1:", ":1", "1:2:3"] {
            assert!(text.parse::<User>().is_err(), "{text}");
        }
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(signal("SIGTERM"), Ok(15));
        assert_eq!(signal("kill"), Ok(9));
        assert_eq!(signal("64"), Ok(64));
        for text in ["0", "65", "-9", "SIGFOO", "", "SIG"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn namespaces_are_words() {
        assert_eq!("none".parse(), Ok(Namespaces(Vec::new())));
        assert_eq!(
            "pid,user,pid".parse(),
            Ok(Namespaces(vec![Namespace::Pid, Namespace::User]))
        );
        for text in ["", "pid,", "time", "user pid"] {
            assert!(text.parse::<Namespaces>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<Seconds>();
            let _ = text.parse::<User>();
            let _ = text.parse::<Namespaces>();
            let _ = (signal(&text), rejection(&text), deadline(&text), rights(&text), errno(&text), instance(&text), key_type(&text));
            let _ = (timeout(&text), id(&text), rejection_error(&text));
        }
    }
}
