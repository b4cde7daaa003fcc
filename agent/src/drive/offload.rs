//! What goes up of offload, and what a release that stops the engine comes to.

use std::collections::BTreeMap;

use bellwether_agent_core::Input;
use bellwether_agent_core::update::{Install, Step};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::limit::CAUSE_BYTES_MAX;
use bellwether_protocol::trust::{Accelerator, Offload, RecordBody, Running, ScoredBy};

use super::Driver;
use super::failure::cut;
use crate::error::Failed;
use crate::offload::{Offloaded, Origin, Setup, Totals};

/// What models did with the accelerator of this device.
#[derive(Default)]
pub(super) struct Offloads {
    accelerator: Option<Accelerator>,
    /// Not told the hub yet.
    waiting: BTreeMap<ModelName, (Running, Totals)>,
    /// Who scored when it was last told.
    told: BTreeMap<ModelName, (Running, ScoredBy)>,
    /// The release with which the engine last scored.
    proved: Option<Digest>,
}

impl Offloads {
    pub(super) fn new(accelerator: Option<Accelerator>) -> Self {
        Self { accelerator, ..Self::default() }
    }
}

impl Driver {
    /// A model's process said what it did. Only what answers is told: how a shadow does is told elsewhere.
    pub(super) fn offloaded(&mut self, said: Offloaded) {
        let Offloaded { origin: Origin { name, running }, since } = said;
        let mut models = self.brain.state().models.iter();
        let Some(model) = models.find(|model| model.name == name && model.answers() == Some(running.release)) else {
            return;
        };
        let is_on_trial = matches!(model.install, Install::Probation { .. });
        let offloads = &mut self.rest.offloads;
        if since.by == ScoredBy::Engine {
            offloads.proved = Some(running.release);
        }
        let is_at_fault = since.by == ScoredBy::Twin
            && !since.cause.is_empty()
            && is_on_trial
            && offloads.proved.is_some_and(|release| release != running.release);
        let (cause, is_news) = (since.cause.clone(), offloads.told.get(&name) != Some(&(running, since.by)));
        match offloads.waiting.get_mut(&name).filter(|(before, _)| *before == running) {
            Some((_, totals)) => totals.add(since),
            None => drop(offloads.waiting.insert(name.clone(), (running, since))),
        }
        if is_news {
            self.note_offloads();
        }
        if is_at_fault {
            let reject = Reject::AcceleratorFault;
            self.keep_trouble(&name, running.version, Failed { reject, cause, ended: None });
            let step = Step::Failed(reject);
            // Never refused for a release in probation.
            let _ = self.handle(Input::Install { name: &name, release: running.release, step });
        }
    }

    /// Puts what is not told yet into the outbox.
    pub(super) fn note_offloads(&mut self) {
        let Some(accelerator) = self.rest.offloads.accelerator else { return };
        for (name, (running, totals)) in std::mem::take(&mut self.rest.offloads.waiting) {
            let small = |rows: u64| u32::try_from(rows).unwrap_or(u32::MAX);
            self.note(RecordBody::Offload(Offload {
                name: name.clone(),
                version: running.version,
                accelerator,
                build: totals.build,
                by: totals.by,
                engine_rows: small(totals.engine_rows),
                twin_rows: small(totals.twin_rows),
                cycles: totals.cycles,
                macs: totals.macs,
                clock_khz: Setup::CLOCK_KHZ,
                recovered: totals.recovered,
                cause: cut(&totals.cause, CAUSE_BYTES_MAX),
            }));
            self.rest.offloads.told.insert(name, (running, totals.by));
        }
    }
}
