//! What answers, or scores in the shadow, once a device has power again.

use bellwether_agent_core::Input;
use bellwether_agent_core::update::{Held, Install, Model, Step};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::time::Millis;

use super::Device;
use crate::Mutant;
use crate::model::Behaviour;

impl Device {
    /// What answered before answers again, if it is still what was approved.
    pub(super) fn load_all(&mut self, now: Millis, behaviour: &dyn Fn(&Digest) -> Option<Behaviour>) {
        let Some(agent) = &self.agent else { return };
        let models: Vec<(ModelName, Held)> =
            agent.brain.state().models.iter().filter_map(|model| Some((model.name.clone(), model.active?))).collect();
        for (name, held) in models {
            let mut answering = Some(held);
            while let Some(held) = answering {
                if self.loads(&name, &held, behaviour) {
                    if let Some(agent) = &mut self.agent {
                        agent.serving.push((name.clone(), held.target.running));
                    }
                    break;
                }
                let release = held.target.running.release;
                if !self.disk.is_rotten(&name, held.slot) {
                    self.lost = Some(name.clone());
                }
                let step = Step::Failed(Reject::DigestMismatch);
                self.handle(now, Input::Install { name: &name, release, step });
                answering = self.active(&name).filter(|other| other.target.running.release != release);
            }
        }
    }

    /// What scored in the shadow does so again, if it is still what was approved.
    pub(super) fn load_shadows(&mut self, now: Millis, behaviour: &dyn Fn(&Digest) -> Option<Behaviour>) {
        let Some(agent) = &self.agent else { return };
        let shadow = |model: &Model| {
            let Install::Shadow(target) = model.install else { return None };
            Some((model.name.clone(), Held { target, slot: model.spare() }))
        };
        let shadows: Vec<(ModelName, Held)> = agent.brain.state().models.iter().filter_map(shadow).collect();
        for (name, held) in shadows {
            let is_whole = self.disk.is_whole(&name, held.slot, &held.target.package);
            if !is_whole || behaviour(&held.target.package.digest).is_none() {
                let step = Step::Failed(Reject::DigestMismatch);
                self.handle(now, Input::Install { name: &name, release: held.target.running.release, step });
            }
        }
    }

    pub(super) fn active(&self, name: &ModelName) -> Option<Held> {
        self.agent.as_ref()?.brain.state().models.iter().find(|model| model.name == *name)?.active
    }

    /// Whether a slot holds what was approved, and it can be loaded.
    pub(super) fn loads(
        &mut self,
        name: &ModelName,
        held: &Held,
        behaviour: &dyn Fn(&Digest) -> Option<Behaviour>,
    ) -> bool {
        let is_whole = self.disk.is_whole(name, held.slot, &held.target.package);
        let is_taken = is_whole || self.mutant == Some(Mutant::UncheckedSlots);
        if is_taken {
            self.wrong.retain(|wrong| wrong != name);
            if !is_whole {
                self.wrong.push(name.clone());
            }
        }
        is_taken && behaviour(&held.target.package.digest).is_some()
    }
}
