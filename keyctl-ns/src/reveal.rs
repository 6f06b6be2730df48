//! Where payloads go: to files and programs as they are, to a terminal only when that is asked for.

use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::error::CommandError;
use crate::hex;
use crate::ui::Ui;

/// Options that say how secret bytes are shown.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct RevealArgs {
    /// Show it even though standard output is a terminal
    #[arg(long)]
    pub reveal: bool,
    /// Print the bytes as they are, also on a terminal
    #[arg(long, conflicts_with = "hex")]
    pub raw: bool,
    /// Print the bytes in hexadecimal
    #[arg(long)]
    pub hex: bool,
}

impl RevealArgs {
    /// To be asked before the secret is fetched: `secret` names it, as in “the payload of key @s”.
    ///
    /// # Errors
    /// A usage error when a terminal would show it unasked.
    pub fn permit(self, ui: &Ui, secret: &str) -> Result<(), CommandError> {
        if ui.is_terminal() && !self.reveal {
            return Err(CommandError::usage(format!("not showing {secret}"))
                .cause("standard output is a terminal, and what it shows stays readable there")
                .hint("add --reveal, or send the output to a file or program"));
        }
        Ok(())
    }

    /// Prints the bytes, or with `--json` the value that holds them.
    ///
    /// On a terminal, text is shown as text and anything else in hexadecimal.
    ///
    /// # Errors
    /// [`CommandError::output`].
    pub fn print<T: Serialize>(self, ui: &Ui, bytes: &[u8], value: &T) -> Result<(), CommandError> {
        if ui.is_json() {
            return ui.print(value, |_, _| Ok(()));
        }
        let text = ui.is_terminal() && !self.raw;
        if self.hex || (text && !printable(bytes)) {
            return ui.raw(&hex::lines(bytes)?);
        }
        ui.raw(bytes)?;
        if text && !bytes.ends_with(b"\n") {
            ui.raw(b"\n")?;
        }
        Ok(())
    }
}

/// Whether a terminal can show these bytes without acting on any of them.
#[must_use]
pub fn printable(bytes: &[u8]) -> bool {
    bytes.split(|b| matches!(b, b'\n' | b'\t')).all(|part| {
        // Backslashes are doubled by the escaping, nothing else of a harmless text is changed.
        let shown = Zeroizing::new(keyns::text::escape(part));
        shown.replace("\\\\", "\\").as_bytes() == part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_without_control_characters_is_printable() {
        assert!(printable("two\nlines\tand \\n ü".as_bytes()));
        assert!(!printable(b"\x1b[2J"));
        assert!(!printable(b"\xff"));
        assert!(!printable(b"a\rb"));
    }
}
