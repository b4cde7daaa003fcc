//! The words both sides speak: ids, topics, frames, packages and signed statements.
//!
//! ```text
//!  device                                             hub
//!    |-- up/hello  Hello (boot, session) ------------->|
//!    |<- down/desired  Desired (Assignment + evidence) |   retained, signed, whole
//!    |-- up/need/{xfer}  Need (chunks I lack) -------->|
//!    |<- down/x/{xfer}/{n}  Chunk ---------------------|   each chunk verified by digest
//!    |-- up/state  Report (signed by the device) ----->|   what runs, what was refused and why
//!    |-- up/batch  Batch (signed, numbered) ---------->|
//!    |<- down/ack  Ack (signed by the director) -------|   only now may the outbox forget
//! ```
//!
//! Map of modules: [`id`], [`time`], [`limit`], [`digest`] are the nouns; [`topic`] is the only
//! file that spells a topic; [`frame`] turns messages into bytes and back; [`message`] holds what
//! travels; [`manifest`] and [`package`] describe a model package, [`policy`]
//! what it asks of devices, [`profile`] what its values look like; [`chunk`] says which parts of a
//! download are missing; [`trust`] holds the signed statements and the one verifier; [`error`] the
//! numbered refusals.
//!
//! Deliberately absent: allocation, clocks, sockets, files. Everything decodes from a borrowed
//! slice, never panics, and refuses what it does not know.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may"))]

pub mod chunk;
pub mod digest;
pub mod error;
pub mod frame;
pub mod id;
pub mod limit;
pub mod manifest;
pub mod message;
pub mod package;
pub mod policy;
pub mod profile;
pub mod time;
pub mod topic;
pub mod trust;

pub use ed25519_dalek::SigningKey;
pub use heapless;
