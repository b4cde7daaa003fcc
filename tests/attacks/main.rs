//! The attack table, a test for each row: against a real agent under a hub that was taken over, or
//! against the real hub, and beside it against verifier and brain alone. Each asserts the code of
//! the refusal, and that what answered before still answers.
//!
//! `tests/run attacks` ends with the number of rows. The table and what each row means stand in
//! `docs/security.md`; rows whose depth lies elsewhere say where.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::large_futures,
    reason = "a test fails by panicking, and says where; its futures live once"
)]

mod data;
mod hub;
mod mixing;
mod mutation;
mod replay;
mod rogue;
mod root;
mod signatures;
mod stage;
mod time;
