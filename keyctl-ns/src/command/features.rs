//! `features`

use clap::Args;
use keyns_interfaces::manager::GetFeatures;

use crate::context::Context;
use crate::error::CommandError;
use crate::style;
use crate::table::Table;
use crate::view;

/// Show what is enforced on this machine, and by whom
///
/// One row per feature: enforced by the kernel, by the daemon, by nobody (advisory), or unavailable.
#[derive(Debug, Args)]
pub struct FeaturesArgs {}

/// Shows the features.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, _: &FeaturesArgs) -> Result<(), CommandError> {
    let features = context.daemon()?.call(&GetFeatures {})?;
    context.ui.print(&features, |out, done| {
        let mut table = Table::new(["FEATURE", "ENFORCED BY", "HOW"]);
        for feature in &done.features {
            let faint = if feature.enforcer == "unavailable" {
                style::FAINT
            } else {
                anstyle::Style::new()
            };
            table.row([
                view::safe(&feature.name),
                view::safe(&feature.enforcer),
                format!("{faint}{}{faint:#}", view::safe(&feature.detail)),
            ]);
        }
        table.write(out, "no features")
    })
}
