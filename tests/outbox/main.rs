//! The outbox through a hundred kills: what a device confirmed arrives once, in order, and its disk
//! stays small.
//!
//! ```text
//!   device (child) ── batches ──> loses, repeats ──> hub/core: each record once ──> ledger
//!     the agent's store on a disk  <── acks, late ──         │
//!     ^ kill -9, connection dropped ─────────────────────────┘
//! ```
//! The child says on its standard output through which record it is about to push, and through which
//! it has flushed: those are *confirmed*. A record is *lost* if it was confirmed and did not arrive,
//! *double* if it arrived twice, and out of order counts as both. What was pushed and not confirmed
//! when the child was killed may arrive or not, but only the first of it: whatever the store kept.
//!
//! Then a device that is away for long keeps its outbox full for many times its size, with kills, and
//! comes back: every number it ever gave is either taken or told as missing.
//!
//! A program of its own, since it starts itself again as the child. `BELLWETHER_OUTBOX_SEED` repeats
//! what is drawn; `BELLWETHER_OUTBOX_RECORDS` (1000000), and for the device that is away
//! `BELLWETHER_OUTBOX_MIB` (4) and `BELLWETHER_OUTBOX_TIMES` (16: how often so much is pushed) make it
//! shorter or longer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says where"
)]

mod away;
mod device;
mod hub;
mod kills;
mod ledger;
#[path = "../fuzz/mutate.rs"]
#[allow(dead_code, reason = "shared with the fuzzing, which needs all of it")]
mod mutate;
mod records;
mod space;
mod wire;
#[path = "../../hub/core/tests/rules/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the rules' tests, which need all of it")]
mod world;

use std::process::ExitCode;

use mutate::Random;

/// Records in all, as the project's own measure of the outbox has it.
const RECORDS: u64 = 1_000_000;

fn main() -> ExitCode {
    if let Some(code) = device::run_if_child() {
        return code;
    }
    let seed = told("BELLWETHER_OUTBOX_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let records = told("BELLWETHER_OUTBOX_RECORDS").unwrap_or(RECORDS);
    println!("outbox: {records} records, BELLWETHER_OUTBOX_SEED={seed}");
    let mut random = Random(seed);
    kills::through_a_hundred_kills_nothing_is_lost_and_nothing_comes_twice(records, &mut random);
    let size = (told("BELLWETHER_OUTBOX_MIB"), told("BELLWETHER_OUTBOX_TIMES"));
    away::a_full_outbox_stays_small_and_every_number_is_accounted_for(size, &mut random);
    ExitCode::SUCCESS
}

fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
