//! What it means that the hub's clock was set: spans that are being measured go on as if it had not
//! been. What is written of the past stays as it was written.

use bellwether_protocol::time::Millis;

use crate::event::What;
use crate::fleet::{Caused, Device, Session};
use crate::rollout::{Rollout, State, Step};
use crate::rules::{Change, Changes, Rules};

impl Rules {
    /// The hub's clock was set forward by `by_ms`, or back, and says `now`: no soak is over for it, no
    /// device silent, no quota spent.
    #[must_use]
    pub fn clock_set(&self, by_ms: i64, now: Millis) -> Changes {
        let moved = |at: Millis| Millis(at.0.saturating_add_signed(by_ms));
        let mut changes = self.changes("hub", now);
        changes.event(What::ClockSet { by_ms });
        for rollout in self.rollouts.values() {
            let state = match rollout.state.clone() {
                State::Going { stage, step: Step::Offering { since } } => {
                    State::Going { stage, step: Step::Offering { since: moved(since) } }
                }
                State::Going { stage, step: Step::Soaking { since } } => {
                    State::Going { stage, step: Step::Soaking { since: moved(since) } }
                }
                State::RollingBack { stage, why, since } => State::RollingBack { stage, why, since: moved(since) },
                State::Going { step: Step::WaitingForGrant, .. }
                | State::Paused { .. }
                | State::Completed
                | State::Aborted
                | State::RolledBack { .. } => continue,
            };
            changes.push(Change::Rollout(Box::new(Rollout { state, ..rollout.clone() })));
        }
        for device in self.devices.values() {
            let caused = |caused: Caused| Caused { since: moved(caused.since), ..caused };
            let mut device = Device {
                retold: moved(device.retold),
                session: Session { last_seen: device.session.last_seen.map(moved), ..device.session },
                events: caused(device.events),
                rows: caused(device.rows),
                ..device.clone()
            };
            if let Some(learnt) = &mut device.learnt {
                learnt.at = moved(learnt.at);
            }
            changes.push(Change::Device(Box::new(device)));
        }
        for window in self.windows.values() {
            let mut window = window.clone();
            window.opened_at = moved(window.opened_at);
            changes.push(Change::Window(Box::new(window)));
        }
        changes
    }
}
