//! Refusing a version that waits for approval.

use bellwether_protocol::id::ModelRef;
use clap::Args;

use super::Context;
use super::failure::{Exit, Failure};
use super::model::show;

#[derive(Debug, Args)]
pub(super) struct Reject {
    /// Model and version
    model: ModelRef,
    /// Why; its publisher reads it
    #[arg(long)]
    reason: String,
}

pub(super) async fn run(context: &Context, given: Reject) -> Result<Exit, Failure> {
    let Reject { model, reason } = given;
    let view = context.client.reject(model.name.as_str(), model.version.number(), reason).await?;
    show(context, &view)
}
