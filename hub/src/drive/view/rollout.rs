//! Rollouts as the API shows them.

use bellwether_hub_core::Rules;
use bellwether_hub_core::rollout::{Counts, Failures, OnFailure, Rollout, Stage, State, Step, Verb, label};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Cohort, Mode};

use crate::api::types::{
    ActionsView, CohortView, CountsView, FailureAction, FailureView, RolloutMode, RolloutPhase, RolloutState,
    RolloutView, StageState, StageView,
};

/// A rollout, without its timeline.
pub(in crate::drive) fn rollout(rules: &Rules, rollout: &Rollout, now: Millis) -> RolloutView {
    let place = rollout.place();
    let counts = rules.counts(rollout, now);
    RolloutView {
        id: rollout.id.to_string(),
        model: rollout.model.name.to_string(),
        version: rollout.model.version.number(),
        from_version: rollout.from.map(|version| version.number()),
        state: match rollout.state {
            State::Going { .. } => RolloutState::Running,
            State::Paused { .. } => RolloutState::Paused,
            State::Completed => RolloutState::Completed,
            State::Aborted => RolloutState::Aborted,
            State::RollingBack { .. } => RolloutState::RollingBack,
            State::RolledBack { .. } => RolloutState::RolledBack,
        },
        phase: place.map(|(_, step)| match step {
            Step::WaitingForGrant => RolloutPhase::WaitingForGrant,
            Step::Offering { .. } => RolloutPhase::Offering,
            Step::Soaking { .. } => RolloutPhase::Soaking,
        }),
        waiting_on: waiting_on(rollout, counts, now),
        stopped_because: match &rollout.state {
            State::Paused { why, .. } | State::RollingBack { why, .. } | State::RolledBack { why, .. } => {
                Some(why.text())
            }
            State::Going { .. } | State::Completed | State::Aborted => None,
        },
        stage: stage(rollout).try_into().unwrap_or(u32::MAX),
        stages: (0..)
            .zip(&rollout.stages)
            .map(|(index, stage)| stage_view(rules, rollout, index, stage, now))
            .collect(),
        failures: rules.failures(rollout).iter().map(failure).collect(),
        actions: ActionsView {
            pause: rules.refusal(rollout, Verb::Pause, now),
            resume: rules.refusal(rollout, Verb::Resume, now),
            promote: rules.refusal(rollout, Verb::Promote, now),
            abort: rules.refusal(rollout, Verb::Abort, now),
            rollback: rules.refusal(rollout, Verb::RollBack, now),
        },
        soak_seconds: u32::try_from(rollout.policy.soak.0 / 1000).unwrap_or(u32::MAX),
        max_failures: rollout.policy.failures_max,
        on_failure: match rollout.policy.on_failure {
            OnFailure::Pause => FailureAction::Pause,
            OnFailure::RollBack => FailureAction::Rollback,
        },
        max_p95_us: rollout.policy.p95_us_max,
        mode: match rollout.policy.mode {
            Mode::Active => RolloutMode::Active,
            Mode::Shadow => RolloutMode::Shadow,
            Mode::Urgent => RolloutMode::Urgent,
            Mode::Patient => RolloutMode::Patient,
        },
        agreement: rules.agreement(rollout).map(super::device::shadow),
        started_ms: rollout.started_at.0,
        started_by: rollout.started_by.clone(),
        ended_ms: rollout.ended_at.map(|at| at.0),
        timeline: Vec::new(),
    }
}

/// The stage it is in, was stopped in, or ended with.
fn stage(rollout: &Rollout) -> usize {
    match rollout.state {
        State::Going { stage, .. }
        | State::Paused { stage, .. }
        | State::RollingBack { stage, .. }
        | State::RolledBack { stage, .. } => stage,
        State::Completed | State::Aborted => rollout.stages.len().saturating_sub(1),
    }
}

fn waiting_on(rollout: &Rollout, counts: Counts, now: Millis) -> String {
    match &rollout.state {
        State::Completed => "nothing: every stage passed".to_owned(),
        State::Aborted if rollout.from.is_none() => {
            "nothing: it was taken back; devices that have it keep it, as there is no version before".to_owned()
        }
        State::Aborted => "nothing: it was taken back".to_owned(),
        State::RolledBack { .. } => "nothing: every device that could be reached went back".to_owned(),
        State::RollingBack { .. } => "devices to return to what they had".to_owned(),
        State::Paused { .. } => "a person: resume, promote or abort".to_owned(),
        State::Going { stage, step: Step::WaitingForGrant } => {
            let cohort = rollout.stages.get(*stage).map(|stage| label(&stage.cohort)).unwrap_or_default();
            format!("a signed grant for {cohort}: bellwether grant {}", rollout.model)
        }
        State::Going { step: Step::Offering { .. }, .. } if counts.updating > 0 => {
            format!("{} of {} devices, still installing", counts.updating, counts.total)
        }
        State::Going { step: Step::Offering { .. }, .. } if counts.held > 0 => {
            format!("{} of {} devices, held by a condition of their own", counts.held, counts.total)
        }
        State::Going { step: Step::Offering { .. }, .. } => "a device of this stage to come online".to_owned(),
        State::Going { step: Step::Soaking { since }, .. } => {
            let left = rollout.policy.soak.since(now.since(*since)).0.div_ceil(1000);
            format!("{left} s of soaking")
        }
    }
}

fn stage_view(rules: &Rules, rollout: &Rollout, index: usize, stage: &Stage, now: Millis) -> StageView {
    let current = rollout.place().map(|(current, _)| current);
    let state = match (&rollout.state, current) {
        (State::Completed, _) => StageState::Done,
        (_, Some(current)) if index < current => StageState::Done,
        (_, Some(current)) if index == current => StageState::Now,
        (State::RollingBack { stage, .. } | State::RolledBack { stage, .. }, _) if index == *stage => {
            StageState::Stopped
        }
        (State::Aborted | State::RollingBack { .. } | State::RolledBack { .. }, _) if stage.passed_at.is_some() => {
            StageState::Done
        }
        _ => StageState::Next,
    };
    let Counts { total, healthy, updating, held, failed, offline, slow, .. } =
        rules.counts_of_stage(rollout, stage, now);
    let view = cohort(rules, &stage.cohort);
    StageView {
        label: view.label(),
        cohort: view,
        state,
        granted: rules.stage_granted(rollout, index),
        counts: CountsView { total, healthy, updating, held, failed, offline, slow },
        since_ms: stage.offered_at.map(|at| at.0),
    }
}

fn failure(failures: &Failures) -> FailureView {
    FailureView {
        code: failures.reject.code(),
        text: failures.reject.text().to_owned(),
        count: failures.count,
        devices: failures.devices.iter().map(ToString::to_string).collect(),
    }
}

/// A cohort with its devices by name.
pub(in crate::drive) fn cohort(rules: &Rules, cohort: &Cohort) -> CohortView {
    match cohort {
        Cohort::Buckets(below) => CohortView::Percent(f64::from(*below) / 10.0),
        Cohort::Devices(keys) => {
            let name = |key| {
                let found = rules.devices().find(|device| device.key_id() == key);
                found.map_or_else(|| key.to_string(), |device| device.id.to_string())
            };
            CohortView::Devices(keys.iter().map(|key| name(*key)).collect())
        }
    }
}
