//! What is done about a model that ends its own process: taken back in probation, counted once it
//! was committed, and given up when it is counted too often.
//!
//! ```text
//!  Crashed ── on probation ──> RollingBack(Crashed)
//!     │
//!     └─ committed ── count + 1 ── below the limit ──> the shell starts it again, later each time
//!                        ^  │
//!      quiet for so long │  └───── at the limit ──> the previous release answers again; where there
//!      or ordered anew ──┘                          is none, it is kept, and the report says so
//! ```
//!
//! The count is part of the state, so that a device that restarts in between counts on. A start of
//! the agent that was not in good order is no crash of a committed model: power is cut more often
//! than a process with limits takes a machine down.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::time::Millis;
use serde::{Deserialize, Serialize};

use crate::update::{Install, Step};
use crate::{Brain, Refused, State};

/// Crashes of a committed release, each within [`CRASHES_QUIET`] of the one before, after which it is
/// given up: once is bad luck, a row that kills it may come by a few times.
pub const CRASHES_MAX: u8 = 5;
/// Time without a crash of any model, in one run of the agent, after which those before are forgotten.
pub const CRASHES_QUIET: Millis = Millis(600_000);

/// How often what answers crashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crashes {
    /// The model.
    pub name: ModelName,
    /// Digest of the release.
    pub release: Digest,
    /// How often.
    pub count: u8,
}

impl State {
    /// Counts one more crash of a release; how often it crashed now.
    fn count_crash(&mut self, name: &ModelName, release: Digest) -> u8 {
        let before = self.crashes_of(name, release);
        let count = before.saturating_add(1);
        let models = &self.models;
        self.crashes.retain(|crashes| crashes.name != *name && models.iter().any(|model| model.name == crashes.name));
        let counted = self.crashes.push(Crashes { name: name.clone(), release, count });
        assert!(counted.is_ok(), "there is at most one for each other model");
        count
    }

    /// How often a release crashed, as far as that is not forgotten.
    #[must_use]
    pub fn crashes_of(&self, name: &ModelName, release: Digest) -> u8 {
        let of = self.crashes.iter().find(|crashes| crashes.name == *name && crashes.release == release);
        of.map_or(0, |crashes| crashes.count)
    }

    /// Whether a release that answers crashed so often that it would give way if it could.
    pub(crate) fn is_given_up(&self, name: &ModelName, release: Digest) -> bool {
        self.crashes_of(name, release) >= CRASHES_MAX
    }
}

impl Brain {
    /// The process of what answers ended by itself, or was ended for what it did.
    pub(crate) fn crashed(&mut self, now: Millis, name: &ModelName, release: Digest) -> Result<(), Refused> {
        let model = self.state.models.iter().find(|model| model.name == *name).ok_or(Refused::OutOfTurn)?;
        let before = model.install;
        if let Install::Shadow(target) = before
            && target.running.release == release
        {
            // It answers nobody: it has only itself to lose.
            return self.install(now, name, release, Step::Failed(Reject::Crashed));
        }
        if model.answers() != Some(release) {
            return Err(Refused::OutOfTurn);
        }
        self.forget_crashes(now);
        self.crashed_at = Some(now);
        match before {
            Install::Probation { .. } => {
                self.fails_probation(now, name, |target| target == release, Reject::Crashed);
                return Ok(());
            }
            // It is on its way out.
            Install::RollingBack { target, .. } if target.running.release == release => return Ok(()),
            Install::Idle
            | Install::Deferred(_)
            | Install::Fetching(_)
            | Install::Hashed(_)
            | Install::SelfTest { .. }
            | Install::Activating(_)
            | Install::RollingBack { .. }
            | Install::Settled { .. }
            | Install::Shadow(_) => {}
        }
        // The device's one place for an install may be taken: the next crash decides then.
        if self.state.count_crash(name, release) >= CRASHES_MAX
            && self.in_flight().is_none()
            && let Some(model) = self.state.models.iter_mut().find(|model| model.name == *name)
        {
            model.quarantine();
            if model.install != before {
                self.moved(now, name, before);
            }
        }
        Ok(())
    }

    /// Forgets crashes after which it was quiet for long.
    pub(crate) fn forget_crashes(&mut self, now: Millis) {
        let since = *self.crashed_at.get_or_insert(now);
        if !self.state.crashes.is_empty() && now.since(since) >= CRASHES_QUIET {
            self.state.crashes.clear();
        }
    }

    /// Somebody wants this model anew, whatever became of it.
    pub(crate) fn forgive_crashes(&mut self, name: &ModelName) {
        self.state.crashes.retain(|crashes| crashes.name != *name);
    }
}
