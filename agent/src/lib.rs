//! The Linux agent: verifies, installs, scores.
//!
//! ```text
//!             MQTT                         ┌── brain (agent/core): the rules
//!  hub ──────────────> link ──> drive ─────┤
//!   ^                            │  │      └── store: its state, the outbox, the connect counter
//!   │      up/*                  │  └──> fetch ──> slot ──> work (trial in a child, switch)
//!   └────────────────────────────┘                             │ active model
//!                                                              v
//!  caller ──HTTP (Open Inference Protocol v2)──> score::http ──> score ──> host ──> child: runtime
//! ```
//!
//! Map of rooms: [`config`] one file, validated once; `identity` and `enrol` who the device is;
//! `store` what survives; `slot` two places per model and a pointer; `fetch` a download in chunks;
//! `conditions` when installs may go on; `local` what applications ask beside scores; `offload` what of a model an FPGA scores; `outbox` what must reach the hub; [`journal`] the last lines logged; `trial` a model's first load,
//! in a process of its own; `host` the process in which a model answers; `ended` how such processes
//! end; `drive` the loop; [`score`] the models that answer; `run` puts it together. A process may hold many agents: nothing here is global.
#![cfg_attr(test, allow(clippy::float_cmp, reason = "tests compare exact numbers"))]

mod clock;
mod conditions;
pub mod config;
mod drive;
mod ended;
mod enrol;
mod error;
mod host;
mod identity;
pub mod journal;
mod local;
mod offload;
mod outbox;
mod room;
mod run;
pub mod score;
mod slot;
mod store;
mod trial;

pub use bellwether_agent_disk::{Bounds, Outbox};
pub use config::{Config, ConfigError, FileError};
pub use error::AgentError;
pub use offload::Accelerator;
pub use outbox::TreeRows;
pub use run::{Agent, Running, Status, device_key};
pub use store::Store;

/// Does the work of a child if the arguments say that this process is there for it: a model's trial,
/// or a model that answers. Every program in which agents run calls this first.
#[must_use]
pub fn run_if_child() -> Option<std::process::ExitCode> {
    trial::run_if_child().or_else(host::run_if_child)
}
