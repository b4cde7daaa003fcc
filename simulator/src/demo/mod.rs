//! The story of `cargo demo`: a hub, a fleet, two versions rolled out, one refused, one rolled
//! back, and a site whose cameras degrade. Every step is a
//! command that a user would type, run by this very program; nothing is taken for done that the hub
//! does not confirm.

mod chapters;
mod console;
mod forged;
mod story;

use std::path::PathBuf;

pub use console::CLI;
pub use story::Outcome;

/// What the demo is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// End after the story instead of waiting for Ctrl-C.
    pub once: bool,
    /// Print the outcome as one JSON object on the last line.
    pub json: bool,
    /// How many devices.
    pub devices: usize,
    /// Directory for everything; a new one in the system's temporary directory if absent.
    pub data: Option<PathBuf>,
}

/// Tells the story.
///
/// # Errors
///
/// The first step that did not happen, with what was said about it.
pub async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let mut demo = story::Demo::open(options).await?;
    let told = demo.tell(options.devices).await;
    let told = match told {
        Ok(outcome) if !options.once => demo.wait_for_ctrl_c(outcome).await,
        other => other,
    };
    demo.close().await;
    told
}
