//! Rollouts: started, watched, steered.

use bellwether_hub_core::Rules;
use bellwether_hub_core::rollout::{OnFailure, Policy, Verb};
use bellwether_protocol::limit::GRANT_DEVICES_MAX;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Cohort, Mode};

use super::denied::{device_id, model_ref, rollout_id};
use super::{Hub, view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{
    ActionRequest, CohortView, FailureAction, Page, Role, RolloutAction, RolloutMode, RolloutRequest, RolloutView,
};
use crate::clock;

/// How long a stage is watched unless asked otherwise, in seconds.
const SOAK_SECONDS: u32 = 60;
/// Longest a stage is watched, in seconds: 30 days.
const SOAK_SECONDS_MAX: u32 = 30 * 24 * 3600;
/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 500;

impl Hub {
    /// Starts a rollout of an approved version.
    ///
    /// # Errors
    ///
    /// 403 unless operator; 409 if not approved or another one is going; 422 for a bad plan.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn start_rollout(&self, caller: &Caller, request: RolloutRequest) -> Result<RolloutView, Problem> {
        caller.need(Role::Operator)?;
        self.room()?;
        let model = model_ref(&request.model, request.version)?;
        caller.need_model(model.name.as_str())?;
        let stages = {
            let rules = self.rules();
            request.stages.iter().map(|stage| cohort(&rules, stage)).collect::<Result<Vec<Cohort>, Problem>>()?
        };
        let soak = request.soak_seconds.unwrap_or(SOAK_SECONDS).min(SOAK_SECONDS_MAX);
        let policy = Policy {
            soak: Millis::from_secs(soak.into()),
            failures_max: request.max_failures.unwrap_or(0),
            silence: Millis::from_secs(self.0.config.silence_seconds),
            on_failure: match request.on_failure.unwrap_or_default() {
                FailureAction::Pause => OnFailure::Pause,
                FailureAction::Rollback => OnFailure::RollBack,
            },
            p95_us_max: match request.max_p95_us {
                None => self.rules().version(&model)?.policy.p95_us_max,
                given => given,
            },
            mode: match request.mode {
                RolloutMode::Active => Mode::Active,
                RolloutMode::Shadow => Mode::Shadow,
                RolloutMode::Urgent => Mode::Urgent,
                RolloutMode::Patient => Mode::Patient,
            },
        };
        let id = self.decide_durably(|rules, now| rules.start_rollout(&model, stages, policy, &caller.name, now))?;
        bellwether_runtime::crash::point("hub.rollout.started");
        self.rollout(caller, &id.to_string())
    }

    /// All rollouts, latest first.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn rollouts(&self, caller: &Caller) -> Result<Page<RolloutView>, Problem> {
        let rules = self.rules();
        let now = clock::now();
        let covered = rules.rollouts().rev().filter(|rollout| caller.covers(rollout.model.name.as_str()));
        let latest = covered.take(crate::api::types::LIMIT_MAX as usize);
        Ok(Page::whole(latest.map(|rollout| view::rollout(&rules, rollout, now)).collect()))
    }

    /// A rollout with its timeline.
    ///
    /// # Errors
    ///
    /// 404.
    pub fn rollout(&self, caller: &Caller, id: &str) -> Result<RolloutView, Problem> {
        let number = rollout_id(id)?;
        let mut view = {
            let rules = self.rules();
            view::rollout(&rules, rules.rollout(number)?, clock::now())
        };
        caller.need_model(&view.model)?;
        view.timeline = self.timeline(number)?;
        Ok(view)
    }

    /// Pauses, resumes, promotes, aborts or rolls back.
    ///
    /// # Errors
    ///
    /// 403 unless operator; 404; 409 `not_now` with the reason.
    pub fn act_on_rollout(
        &self,
        caller: &Caller,
        id: &str,
        action: RolloutAction,
        request: ActionRequest,
    ) -> Result<RolloutView, Problem> {
        caller.need(Role::Operator)?;
        let number = rollout_id(id)?;
        caller.need_model(self.rules().rollout(number)?.model.name.as_str())?;
        let reason = request.reason.unwrap_or_default();
        if reason.len() > REASON_BYTES_MAX {
            return Err(Problem::bad_request("too_long", format!("a reason has at most {REASON_BYTES_MAX} bytes"))
                .hint("say it shorter, with a reference to the rest"));
        }
        let verb = match action {
            RolloutAction::Pause => Verb::Pause,
            RolloutAction::Resume => Verb::Resume,
            RolloutAction::Promote => Verb::Promote,
            RolloutAction::Abort => Verb::Abort,
            RolloutAction::Rollback => Verb::RollBack,
        };
        self.decide_durably(|rules, now| Ok(((), rules.steer(number, verb, reason.trim(), &caller.name, now)?)))?;
        self.rollout(caller, id)
    }
}

/// The devices of a stage, by their keys.
fn cohort(rules: &Rules, stage: &CohortView) -> Result<Cohort, Problem> {
    match stage {
        CohortView::Percent(percent) => {
            if !(percent.is_finite() && *percent > 0.0 && *percent <= 100.0) {
                return Err(Problem::unprocessable("bad_plan", format!("{percent} is no percentage of a fleet"))
                    .hint("a percentage lies above 0 and up to 100, in steps of 0.1"));
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1000, checked above")]
            let below = (percent * 10.0).round().max(1.0) as u16;
            Ok(Cohort::Buckets(below))
        }
        CohortView::Devices(names) => {
            let mut keys = bellwether_protocol::heapless::Vec::new();
            for name in names {
                let key = rules.device(&device_id(name)?)?.key_id();
                keys.push(key).map_err(|_| {
                    Problem::unprocessable("bad_plan", format!("a stage names at most {GRANT_DEVICES_MAX} devices"))
                        .hint("use a percentage for more")
                })?;
            }
            Ok(Cohort::Devices(keys))
        }
    }
}
