//! From what is true to what the API says.

mod device;
mod model;
mod monitor;
mod offload;
mod rollout;

pub(super) use device::{device, is_in_state, report, state, troubles};
pub(super) use model::{model, signers, version};
pub(super) use monitor::{monitor, monitor_detail, runs};
pub(super) use rollout::{cohort, rollout};
