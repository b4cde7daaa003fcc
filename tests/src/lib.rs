//! Fixtures: real processes on free ports with their own folders, waiting for a condition, and the
//! steps that every story begins with.
//!
//! | room | what it knows |
//! |---|---|
//! | [`process`] | a program, its output, its end |
//! | [`wait`] | until something is so, and no longer |
//! | [`hub`], [`agent`], [`mosquitto`] | how each is started and what it says first |
//! | [`cli`] | `bellwether` and what it answered |
//! | [`dev_ca`] | certificates to try TLS with |
//! | [`keepers`] | an ssh-agent and a token of its own for a test |
//! | [`fleet`] | a hub with a root, registered versions, devices |
//! | [`raw`] | a device without an agent, an HTTP request without a library |
//! | [`files`] | where binaries and data lie |
//! | [`http`] | an HTTP client as tests want it |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a fixture that cannot do its work fails the test that uses it, and says where"
)]

pub mod agent;
pub mod cli;
pub mod dev_ca;
pub mod files;
pub mod fleet;
pub mod http;
pub mod hub;
pub mod keepers;
pub mod mosquitto;
pub mod process;
pub mod raw;
pub mod wait;

pub use agent::Agent;
pub use cli::{Cli, Ran};
pub use dev_ca::DevCa;
pub use fleet::Fleet;
pub use hub::Hub;
pub use mosquitto::Mosquitto;
pub use process::Process;
pub use wait::wait_until;
