//! `features`

use clap::Args;
use keyns::probe::KernelFacts;
use keyns_interfaces::manager::{Feature, GetFeatures};
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::table::Table;
use crate::view;

/// Show what is enforced on this machine, and by whom
///
/// One row per feature: enforced by the kernel, by the daemon, by nobody (advisory), or unavailable.
/// Without the daemon only what the kernel itself has is shown.
#[derive(Debug, Args)]
pub struct FeaturesArgs {}

#[derive(Serialize)]
struct Output {
    /// Whether the daemon was asked; if not, its own rows are missing.
    daemon: bool,
    features: Vec<Feature>,
}

/// Shows the features.
///
/// # Errors
/// What the daemon says; without it, why the kernel cannot be examined.
pub fn run(context: &Context, _: &FeaturesArgs) -> Result<(), CommandError> {
    let asked = context
        .daemon()
        .and_then(|mut daemon| daemon.call(&GetFeatures {}));
    let output = match asked {
        Ok(reply) => Output {
            daemon: true,
            features: reply.features,
        },
        Err(error) if error.kind == ErrorKind::Unreachable => {
            context
                .ui
                .note(&format!("{error}; only what the kernel has is shown"));
            Output {
                daemon: false,
                features: of_kernel()?,
            }
        }
        Err(error) => return Err(error),
    };
    context.ui.print(&output, |out, done| {
        let mut table = Table::new(["FEATURE", "ENFORCED BY", "HOW"]);
        for feature in &done.features {
            table.row([
                view::safe(&feature.name),
                view::safe(&feature.enforcer),
                view::safe(&feature.detail),
            ]);
        }
        table.write(out, "no features")
    })
}

fn of_kernel() -> Result<Vec<Feature>, CommandError> {
    let facts = KernelFacts::probe()
        .map_err(|error| CommandError::io("cannot examine the kernel", &error))?;
    let feature = |row: keyns::feature::FeatureRow| Feature {
        name: row.name,
        enforcer: row.enforcer.to_string(),
        detail: row.detail,
    };
    Ok(facts.rows().into_iter().map(feature).collect())
}
