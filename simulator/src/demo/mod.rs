//! The story of `cargo demo`: a hub, a fleet, two versions rolled out, one refused, one rolled
//! back, and a site whose cameras degrade. Every step is a
//! command that a user would type, run by this very program; nothing is taken for done that the hub
//! does not confirm.

mod chapters;
mod console;
mod forged;
mod story;

use std::path::{Path, PathBuf};

use anyhow::bail;
use bellwether_agent::Accelerator;

pub use console::CLI;
pub use story::Outcome;

/// What one site of the demo has for an FPGA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fpga {
    /// The engine's twin, in software: needs nothing.
    Twin,
    /// The engine's Verilog, simulated cycle by cycle: needs `fpga/rtl/build sim`, and that needs Verilator.
    Rtl,
}

impl Fpga {
    /// What devices are told they have.
    fn accelerator(self) -> anyhow::Result<Accelerator> {
        match self {
            Self::Twin => Ok(Accelerator::Twin {}),
            Self::Rtl => {
                let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fpga/sim/bw_sim");
                if program.is_file() {
                    return Ok(Accelerator::Simulated { program });
                }
                bail!(
                    "there is no simulated engine: make it with `fpga/rtl/build sim` (needs Verilator), or leave out --fpga rtl"
                )
            }
        }
    }
}

/// What the demo is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// End after the story instead of waiting for Ctrl-C.
    pub once: bool,
    /// Print the outcome as one JSON object on the last line.
    pub json: bool,
    /// How many devices.
    pub devices: usize,
    /// What one site offloads models to.
    pub fpga: Fpga,
    /// Directory for everything; a new one in the system's temporary directory if absent.
    pub data: Option<PathBuf>,
}

/// Tells the story.
///
/// # Errors
///
/// The first step that did not happen, with what was said about it.
pub async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let accelerator = options.fpga.accelerator()?;
    let mut demo = story::Demo::open(options).await?;
    let told = demo.tell(options.devices, accelerator).await;
    let told = match told {
        Ok(outcome) if !options.once => demo.wait_for_ctrl_c(outcome).await,
        other => other,
    };
    demo.close().await;
    told
}
