//! `supports`

use clap::Args;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::table::Table;

/// Show what this kernel can do with keys, or ask for one of it
///
/// With a name nothing is printed, and the exit code is 0 if the kernel can do it and 1 if not.
/// features shows what keyns makes of it.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns supports move_key && keyctl-ns move %user:token @s @u")]
pub struct SupportsArgs {
    /// Name of a capability
    #[arg(value_enum, conflicts_with = "raw", hide_possible_values = true)]
    pub capability: Option<Capability>,
    /// Print the bytes of KEYCTL_CAPABILITIES in hexadecimal
    #[arg(long)]
    pub raw: bool,
}

/// Something a kernel can do, by its name in keyctl(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "`detail` says what each of them is")]
pub enum Capability {
    Capabilities,
    PersistentKeyrings,
    DhCompute,
    PublicKey,
    BigKeyType,
    KeyInvalidate,
    RestrictKeyring,
    MoveKey,
    NsKeyringName,
    NsKeyTag,
    Notify,
}

impl Capability {
    /// Byte and bit in the answer to `KEYCTL_CAPABILITIES` (`include/uapi/linux/keyctl.h`).
    const fn place(self) -> (usize, u8) {
        match self {
            Self::Capabilities => (0, 0x01),
            Self::PersistentKeyrings => (0, 0x02),
            Self::DhCompute => (0, 0x04),
            Self::PublicKey => (0, 0x08),
            Self::BigKeyType => (0, 0x10),
            Self::KeyInvalidate => (0, 0x20),
            Self::RestrictKeyring => (0, 0x40),
            Self::MoveKey => (0, 0x80),
            Self::NsKeyringName => (1, 0x01),
            Self::NsKeyTag => (1, 0x02),
            Self::Notify => (1, 0x04),
        }
    }

    const fn detail(self) -> &'static str {
        match self {
            Self::Capabilities => "tells what it can do",
            Self::PersistentKeyrings => "keyrings of users that outlive their sessions",
            Self::DhCompute => "Diffie-Hellman computations",
            Self::PublicKey => "encryption and signatures with asymmetric keys",
            Self::BigKeyType => "keys of type big_key, up to 1 MiB",
            Self::KeyInvalidate => "destroying keys at once",
            Self::RestrictKeyring => "keyrings that take only certain keys",
            Self::MoveKey => "moving keys between keyrings in one step",
            Self::NsKeyringName => "names of keyrings are those of a user namespace",
            Self::NsKeyTag => "keys that belong to a network namespace",
            Self::Notify => "notifications about changes of keys",
        }
    }

    fn is_in(self, bytes: &[u8]) -> bool {
        let (byte, bit) = self.place();
        bytes.get(byte).is_some_and(|byte| byte & bit != 0)
    }
}

#[derive(Serialize)]
struct Row {
    name: Capability,
    supported: bool,
}

#[derive(Serialize)]
struct Output {
    capabilities: Vec<Row>,
    /// As the kernel returned them, in hexadecimal.
    raw: String,
}

/// Shows or asks.
///
/// # Errors
/// A failure if the kernel cannot do what was asked for.
pub fn run(context: &Context, args: &SupportsArgs) -> Result<(), CommandError> {
    let bytes = sys::capabilities()
        .map_err(|error| CommandError::io("cannot ask the kernel what it can do", &error))?;
    let row = |name: Capability| Row {
        name,
        supported: name.is_in(&bytes),
    };
    if let Some(wanted) = args.capability
        && !wanted.is_in(&bytes)
    {
        return Err(CommandError::failure(format!(
            "this kernel does not support {}",
            name(wanted)
        ))
        .cause(format!("it has no {}", wanted.detail())));
    }
    let output = Output {
        capabilities: match args.capability {
            Some(wanted) => vec![row(wanted)],
            None => <Capability as clap::ValueEnum>::value_variants()
                .iter()
                .map(|capability| row(*capability))
                .collect(),
        },
        raw: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    context.ui.print(&output, |out, done| {
        if args.raw {
            return writeln!(out, "{}", done.raw);
        }
        if args.capability.is_some() {
            return Ok(());
        }
        let mut table = Table::new(["CAPABILITY", "SUPPORTED", "WHAT"]);
        for row in &done.capabilities {
            let supported = if row.supported { "yes" } else { "no" };
            table.row([
                name(row.name),
                supported.to_owned(),
                row.name.detail().to_owned(),
            ]);
        }
        table.write(out, "nothing")
    })
}

fn name(capability: Capability) -> String {
    clap::ValueEnum::to_possible_value(&capability)
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_has_one_name() {
        let variants = <Capability as clap::ValueEnum>::value_variants();
        let mut places: Vec<_> = variants.iter().map(|it| it.place()).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), variants.len());
        assert!(places.iter().all(|(_, bit)| bit.count_ones() == 1));
        assert!(Capability::NsKeyTag.is_in(&[0, 2]));
        assert!(!Capability::NsKeyTag.is_in(&[0xff]));
    }
}
