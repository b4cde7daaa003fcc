//! End to end: hub, agents and command line as processes, a module for each story.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and says where"
)]

mod access;
mod bad_input;
mod broker_rules;
mod ceremony;
mod crashes;
mod drift;
mod enrolment;
mod first_fleet;
mod holds;
mod hosts;
mod interchange;
mod new_keys;
mod previous;
mod recovery;
mod refusals;
mod registry;
mod secrets;
mod tls;
mod triton;
mod watched;
mod webhooks;
