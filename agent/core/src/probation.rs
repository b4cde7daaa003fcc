//! What takes a new model back while it is in probation: failed calls, and slow ones.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::time::Millis;

use crate::update::Install;
use crate::{Brain, Refused};

/// Calls without which nothing is said of a model's latency: its 95th percentile would be its worst.
pub const LATENCY_CALLS_MIN: u32 = 20;

impl Brain {
    pub(crate) fn scoring_errors(&mut self, now: Millis, name: &ModelName, errors: u32) -> Result<(), Refused> {
        let model = self.state.models.iter().find(|model| model.name == *name).ok_or(Refused::OutOfTurn)?;
        if matches!(model.install, Install::Probation { .. }) {
            self.errors = self.errors.saturating_add(errors);
            let is_too_many = self.errors > self.config.errors_max;
            self.fails_probation(now, name, |_| is_too_many, Reject::ScoringErrors);
        }
        Ok(())
    }

    /// A model answered `calls` calls; the 95th percentile of their time is held against its budget.
    pub(crate) fn latency(
        &mut self,
        now: Millis,
        (name, release): (&ModelName, Digest),
        calls: u32,
        (p95_us, p95_us_max): (u32, u32),
    ) {
        let is_slow = calls >= LATENCY_CALLS_MIN && p95_us > p95_us_max;
        self.fails_probation(now, name, |target| is_slow && target == release, Reject::LatencyBudget);
    }

    /// Takes back what is in probation, if `is_bad` says so of its release.
    pub(crate) fn fails_probation(
        &mut self,
        now: Millis,
        name: &ModelName,
        is_bad: impl Fn(Digest) -> bool,
        reject: Reject,
    ) {
        let Some(model) = self.state.models.iter_mut().find(|model| model.name == *name) else { return };
        let before = model.install;
        if let Install::Probation { target, .. } = before
            && is_bad(target.running.release)
        {
            model.install = Install::RollingBack { target, reject };
            self.moved(now, name, before);
        }
    }
}
