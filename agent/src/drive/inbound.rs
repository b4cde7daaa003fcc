//! What comes down: topic and frame must agree, and nothing is believed that is not signed or hashed.

use bellwether_agent_core::{Input, Told, outbox};
use bellwether_protocol::frame;
use bellwether_protocol::message::Down;
use bellwether_protocol::topic::{DownTopic, Part, Topic};

use super::Driver;

impl Driver {
    /// Takes a message.
    pub(super) fn message(&mut self, topic: &str, payload: &[u8]) {
        let device = &self.brain.config().device;
        let Some(Topic::Down(to, topic)) = Topic::parse(topic) else {
            tracing::debug!(topic, "not a topic for devices");
            return;
        };
        if to != *device {
            tracing::warn!(%to, "a message for another device");
            return;
        }
        match (topic, frame::decode::<Down<'_>>(payload)) {
            (DownTopic::Desired, Ok(Down::Desired(desired))) => {
                // Refusals are logged by `handle` and told in the report.
                let _ = self.handle(Input::Desired(&desired));
            }
            (DownTopic::Command, Ok(Down::Command(signed))) => {
                let _ = self.handle(Input::Command(&signed));
            }
            (DownTopic::Trust, Ok(Down::Root(signed))) => {
                self.told("root", Told::Root(&signed));
            }
            (DownTopic::Trust, Ok(Down::Recall(signed))) => {
                self.told("recall", Told::Recall(&signed));
            }
            (DownTopic::Trust, Ok(Down::Checkpoint(signed))) => {
                self.told("checkpoint", Told::Checkpoint(&signed));
            }
            (DownTopic::Trust, Ok(Down::Epoch(signed))) => {
                if self.told("epoch", Told::Epoch(&signed))
                    && let Some(tick) = self.brain.state().trust.counters().tick()
                {
                    self.conditions.told(tick.epoch, self.clock.now());
                    self.look_at_conditions();
                }
            }
            (DownTopic::Ack, Ok(Down::Ack(signed))) => {
                match outbox::acknowledged(self.brain.root(), device, self.outbox.newest(), &signed) {
                    Ok(through) => self.forget(through),
                    Err(why) => tracing::warn!(%why, "an acknowledgement is refused"),
                }
            }
            (DownTopic::Part(transfer, part @ Part::Chunk(_)), Ok(Down::Chunk(chunk))) => {
                self.part(transfer, part, chunk.bytes);
            }
            (DownTopic::Part(transfer, Part::Table), Ok(Down::Table(table))) => {
                self.part(transfer, Part::Table, table.digests);
            }
            (_, Ok(_)) => tracing::warn!("a message on the topic of another kind"),
            // A retained desired state is cleared with an empty payload.
            (_, Err(_)) if payload.is_empty() => {}
            (_, Err(why)) => {
                tracing::warn!(%why, bytes = payload.len(), "a message does not decode")
            }
        }
    }

    /// Whether a statement that changes what counts is taken.
    fn told(&mut self, statement: &'static str, told: Told<'_>) -> bool {
        let is_taken = self.handle(Input::Told(told)).is_ok();
        if is_taken {
            let root = self.brain.root().root().version;
            let checkpoint = self.brain.state().trust.counters().checkpoint_number();
            tracing::info!(statement, root, checkpoint, "taken");
        }
        is_taken
    }

    fn forget(&mut self, through: u64) {
        if let Err(why) = self.outbox.acknowledged(through) {
            tracing::error!(%why, "the outbox cannot be written");
        }
    }
}
