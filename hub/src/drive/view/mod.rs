//! From what is true to what the API says.

mod device;
mod model;
mod rollout;

pub(super) use device::{device, is_in_state, state};
pub(super) use model::{model, signers, version};
pub(super) use rollout::{cohort, rollout};
