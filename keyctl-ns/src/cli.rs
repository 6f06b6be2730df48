//! The command line as a whole.

use std::path::PathBuf;

use clap::{Args, Parser};

use crate::command::Command;
use crate::style;
use crate::ui::Color;

/// Keys, grants and upcalls of containers
///
/// Keys of your own are used by system calls and need no daemon. Keys of containers, grants to
/// containers and upcalls go through keynsd.
#[derive(Debug, Parser)]
#[command(
    name = "keyctl-ns",
    bin_name = "keyctl-ns",
    version,
    styles = style::help(),
    max_term_width = 100,
    subcommand_required = true,
    disable_help_subcommand = true,
    after_long_help = AFTER_HELP
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalArgs {
    /// Print JSON: one object, or a JSON text sequence (RFC 7464) where the output has no end
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but results, warnings and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// When to use colours (auto also honours NO_COLOR)
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    pub color: Color,
    /// Socket of the daemon, instead of the one of --instance
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "KEYNS_SOCKET",
        hide_env_values = true
    )]
    pub socket: Option<PathBuf>,
    /// Instance of the daemon; its socket is /run/keyns/NAME/keynsd
    #[arg(long, global = true, value_name = "NAME", default_value = "main", value_parser = crate::args::instance)]
    pub instance: String,
}

const AFTER_HELP: &str = "\
How to write a KEY:
  @s @u @us @p @t           a keyring of your own: session, user, user session, process, thread
  474754113, 0x1c4c2841     a serial number
  %TYPE:DESC                the key of that type and description that your keyrings hold
  CONTAINER/TYPE:DESC       a key of a container; CONTAINER.CHILD/… for one nested in it
  CONTAINER/474754113       the same by serial number

Rights: view, read, write, search, link, setsec, inval, revoke, join, clear,
        or their letters v r w s l S I R j c; several are joined by commas.

Payloads are read from standard input, a file or a descriptor. On the command line, where every
process can read them, they are taken as keyctl takes them, with a warning. They are shown on a
terminal only with --reveal.

Commands can be shortened to three letters or more, as long as only one begins with them.

Exit codes:
  0  done
  1  failed for a reason without a code of its own
  2  the command line is wrong
  3  denied
  4  no such key, container, upcall, rule, agent or process
  5  a key quota is used up
  6  the daemon cannot be reached
  7  timed out
  8  this kernel cannot enforce exactly that; an acknowledgement is needed";
