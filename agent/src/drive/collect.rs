//! What was watched beside scoring goes into the outbox; what a latency budget says goes to the brain.

use bellwether_agent_core::Input;
use bellwether_agent_core::update::{Install, Model};
use bellwether_protocol::trust::Record;

use super::Driver;
use crate::clock;

impl Driver {
    /// Puts rows to be collected into the outbox, and profiles where their window is over.
    pub(super) fn collect(&mut self, profiles: bool) {
        if profiles {
            self.rest.profile_at = self.clock.now().saturating_add(self.profile_window);
        }
        let has_room = self.store.room().is_there();
        let outbox = &mut self.outbox;
        // On a full disk they are let go: what the outbox holds is worth more.
        for watched in self.scoring.take_watched(profiles).into_iter().filter(|_| has_room) {
            watched.records(|at, body| {
                if let Err(why) = outbox.push(&Record { at: at.unwrap_or_else(clock::wall), body }) {
                    tracing::error!(%why, "the outbox cannot be written: a record is lost");
                }
            });
        }
    }

    /// Tells the brain how fast a model in probation is, before it decides anything else.
    pub(super) fn look_at_trial(&mut self) {
        let on_probation = |model: &Model| {
            let Install::Probation { target, .. } = model.install else { return None };
            Some((model.name.clone(), target.running.release))
        };
        let Some((name, release)) = self.brain.state().models.iter().find_map(on_probation) else { return };
        let Some(trial) = self.scoring.trial(&name, release) else { return };
        let (calls, p95_us, p95_us_max) = (trial.calls, trial.p95_us, trial.p95_us_max);
        let input = Input::Latency { name: &name, release, calls, p95_us, p95_us_max };
        // Never refused for a model in probation.
        let _ = self.brain.handle(self.clock.now(), input);
    }
}
