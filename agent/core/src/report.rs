//! What the device says of itself.

use bellwether_protocol::error::Reject;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::trust::{Event, ModelReport, Phase, Report, Running};

use crate::Brain;
use crate::update::{Install, Model};

impl Brain {
    /// The report to send now. Its number is used up by [`crate::Input::Reported`].
    #[must_use]
    pub fn report(&self) -> Report {
        let config = &self.config;
        Report {
            device: config.device.clone(),
            boot: config.boot,
            sequence: self.session.sequence,
            seen: self.state.seen,
            agent: config.agent,
            operators: config.operators,
            hardware: config.hardware.clone(),
            memory_kib: config.memory_kib,
            models: self.state.models.iter().map(|model| self.line(model)).collect(),
            refused: self.refused,
            audit: self.state.audit,
        }
    }

    fn line(&self, model: &Model) -> ModelReport {
        let progress = match model.install {
            Install::Idle | Install::Deferred(_) => 0,
            Install::Fetching(_) => self.progress,
            Install::Settled { phase: Phase::Rejected, .. } => 0,
            Install::Hashed(_)
            | Install::SelfTest { .. }
            | Install::Activating(_)
            | Install::Probation { .. }
            | Install::RollingBack { .. }
            | Install::Settled { .. }
            | Install::Shadow(_) => 1000,
        };
        ModelReport {
            name: model.name.clone(),
            active: model.active.map(|held| held.target.running),
            target: target(&model.install),
            phase: self.kept(model).map_or(model.install.phase(), Phase::Held),
            reject: reject(&model.install),
            progress,
        }
    }
}

/// What is being installed or was last tried.
pub(crate) fn target(install: &Install) -> Option<Running> {
    if let Install::Settled { running, .. } = install {
        return Some(*running);
    }
    install.target().map(|target| target.running)
}

/// Why it went no further.
pub(crate) const fn reject(install: &Install) -> Option<Reject> {
    match install {
        Install::Settled { reject, .. } => *reject,
        Install::RollingBack { reject, .. } => Some(*reject),
        Install::Idle
        | Install::Deferred(_)
        | Install::Fetching(_)
        | Install::Hashed(_)
        | Install::SelfTest { .. }
        | Install::Activating(_)
        | Install::Probation { .. }
        | Install::Shadow(_) => None,
    }
}

pub(crate) fn event(name: &ModelName, running: Running, phase: Phase, reject: Option<Reject>) -> Event {
    Event { name: name.clone(), version: running.version, phase, reject }
}
