//! The hub's rules: registry, approvals, fleet, rollouts. No clock, no I/O, no tokio.
//!
//! ```text
//!   shell (drive)                      rules (here)
//!   ------------------------------------------------------------------
//!   request, report, tick  -- now -->  a method looks, decides, and returns Changes or Denied
//!   store.commit(changes)              (nothing has changed yet)
//!                          --------->  Rules::apply(changes)
//!   publish, answer        <---------  what is now true
//! ```
//!
//! A method that decides takes `&self`: it cannot change anything, so a refusal or a failed write
//! leaves memory and disk as they were. [`Rules::apply`] is the only way in, and cannot fail.
//!
//! Map: [`registry`] models and versions; [`trust`] who signed what; [`chain`] later roots, recalls and
//! checkpoints; [`fleet`] devices, desired and
//! reported; [`keyring`] keys that ask to be listed; [`rollout`] stages and gates; [`intake`] what devices send in batches: rows,
//! failures and logs in [`collect`], profiles in [`drift`],
//! who scored where there is an FPGA in [`offload`]; [`event`] what happened, chained in [`audit`]; [`error`] who refused and why;
//! [`talk`] the frames between the hub and a device.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may"))]

pub mod audit;
pub mod chain;
mod clock;
pub mod collect;
pub mod drift;
pub mod error;
pub mod event;
pub mod fleet;
pub mod intake;
pub mod keyring;
pub mod offload;
pub mod registry;
pub mod rollout;
mod rules;
pub mod talk;
pub mod trust;

pub use error::Denied;
pub use rules::{Change, Changes, Rules};
