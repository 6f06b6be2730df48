//! `unintercept`

use clap::Args;
use keyns::name::ContainerPath;
use keyns_interfaces::upcalls::Unintercept;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::view;

/// Remove an interception rule
///
/// Requests that wait because of it are still answered.
#[derive(Debug, Args)]
pub struct UninterceptArgs {
    /// The container
    #[arg(value_parser = args::container())]
    pub container: ContainerPath,
    /// Type of key, or *
    #[arg(value_parser = args::key_type)]
    pub r#type: String,
}

#[derive(Serialize)]
struct Output {
    container: String,
    r#type: String,
    removed: bool,
}

/// Removes the rule.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &UninterceptArgs) -> Result<(), CommandError> {
    let (container, type_) = (args.container.to_string(), args.r#type.clone());
    context.daemon()?.call(&Unintercept {
        container: container.clone(),
        type_: type_.clone(),
    })?;
    context.ui.print(
        &Output {
            container,
            r#type: type_,
            removed: true,
        },
        |out, done| {
            writeln!(
                out,
                "container “{}” has no rule for type {} any more",
                done.container,
                view::safe(&done.r#type)
            )
        },
    )
}
