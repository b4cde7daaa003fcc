//! The deterministic simulator: the shipped code of hub and device in virtual time, on a network that
//! loses, repeats and reorders, on disks that lose power in the middle of a write.
//!
//! ```text
//!   people ──statements──> Hub (hub/core) <──frames──> Network <──frames──> Device
//!                          memory + disk                                    agent/core + agent/disk
//!                                                                           on a Disk with a fuse
//! ```
//! One seed is one run: what people do, what breaks and when, is drawn from it, and the same seed
//! gives the same trace. After each step the [`check`]s of safety are made, and after the breaking
//! ends everything must come to rest: each rollout ended, each device as it should be, no record
//! lost or counted twice.
//!
//! Rooms: [`world`] time and what happens; [`scenario`] what a seed draws; [`people`] keys and
//! statements; [`model`] packages and how they behave; [`hub`], [`device`], [`disk`]; [`check`] what
//! must hold; [`shrink`] the least that still breaks; [`trace`] what is told of a run;
//! [`cuts`] one device, and power cuts at every operation of its disk.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may"))]

mod chance;
mod check;
pub mod cuts;
mod device;
mod disk;
mod hub;
mod model;
mod people;
mod scenario;
mod shrink;
mod trace;
mod world;

use serde::Serialize;

pub use scenario::{Fault, Faults, Scenario};
pub use shrink::shrink;

/// Bugs that are planted to prove that the checks find them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// A device acts before its state is on disk.
    ActBeforePersist,
    /// A staged package is not synced.
    StageWithoutSync,
    /// A slot is loaded without a look at its digest.
    UncheckedSlots,
    /// The floor rises when a release is staged.
    FloorAtStage,
    /// The outbox forgets what the broker took.
    ForgetOnSend,
    /// The outbox sends numbers that are not on disk.
    UnflushedNumbers,
    /// The hub acknowledges before it is on disk.
    AckBeforeFlush,
    /// The hub gives out assignments before they are on disk.
    TellBeforeFlush,
    /// The hub forgets at a crash which records it has taken.
    ForgetOutboxes,
    /// The gate counts who says nothing as healthy.
    SilentIsHealthy,
    /// The gate bears whatever fails.
    DeafGate,
    /// A device installs whatever it is told to wait for.
    DeafToHolds,
    /// The hub does not notice that its clock was set.
    UnnoticedClocks,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::ActBeforePersist,
        Self::StageWithoutSync,
        Self::UncheckedSlots,
        Self::FloorAtStage,
        Self::ForgetOnSend,
        Self::UnflushedNumbers,
        Self::AckBeforeFlush,
        Self::TellBeforeFlush,
        Self::ForgetOutboxes,
        Self::SilentIsHealthy,
        Self::DeafGate,
        Self::DeafToHolds,
        Self::UnnoticedClocks,
    ];

    /// Its name in words, as the command line takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActBeforePersist => "act-before-persist",
            Self::StageWithoutSync => "stage-without-sync",
            Self::UncheckedSlots => "unchecked-slots",
            Self::FloorAtStage => "floor-at-stage",
            Self::ForgetOnSend => "forget-on-send",
            Self::UnflushedNumbers => "unflushed-numbers",
            Self::AckBeforeFlush => "ack-before-flush",
            Self::TellBeforeFlush => "tell-before-flush",
            Self::ForgetOutboxes => "forget-outboxes",
            Self::SilentIsHealthy => "silent-is-healthy",
            Self::DeafGate => "deaf-gate",
            Self::DeafToHolds => "deaf-to-holds",
            Self::UnnoticedClocks => "unnoticed-clocks",
        }
    }
}

/// How one seed went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// What did not hold, the first thing.
    pub violation: Option<String>,
    /// Things that happened.
    pub steps: u64,
    /// Virtual milliseconds times devices.
    pub device_ms: u64,
    /// Operations on devices' disks: each of them could have been the one that lost power.
    pub disk_operations: u64,
    /// Operations that lost power in the middle.
    pub cut_points: u64,
    /// Releases that devices committed.
    pub commits: u64,
    /// Rows that the hub stored.
    pub rows: u64,
    /// Digest of everything that happened.
    pub trace: String,
    /// What happened, the last of it at the end, if it was asked for or something did not hold.
    pub timeline: Vec<String>,
}

/// Runs one scenario.
#[must_use]
pub fn run(scenario: &Scenario) -> Run {
    world::World::new(scenario).map_or_else(
        || Run { seed: scenario.seed, violation: Some("the world cannot be made".to_owned()), ..Run::default() },
        world::World::run,
    )
}
