//! What goes down to a device, signed with the key for the root in force.

use bellwether_hub_core::fleet::Device;
use bellwether_hub_core::{Denied, Rules, talk};
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::message::Down;
use bellwether_protocol::topic::{DownTopic, Topic};
use bellwether_protocol::trust::{OutboxId, Request};
use bytes::Bytes;

use super::{Hub, Refusal};

/// A message ready to be published: its topic and its bytes.
pub(super) type Message = (String, Bytes);

impl Hub {
    /// The desired state of a device; `None` while it was told nothing.
    pub(super) fn desired(&self, rules: &Rules, device: &Device) -> Result<Option<Message>, Denied> {
        let keys = self.keys();
        let director = keys.director.under(rules.trusted()?.root());
        Ok(rules.desired(device, director)?.map(|message| to(&device.id, message)))
    }

    /// A signed command to a device, with the next number, which is durable before it is used.
    pub(super) fn command(&self, id: &DeviceId, request: Request) -> Result<Message, Refusal> {
        let command = self.decide_durably(|rules, now| rules.number_command(id, request, now))?;
        let (rules, keys) = (self.rules(), self.keys());
        let director = keys.director.under(rules.trusted()?.root());
        Ok(to(id, rules.command(&command, director)?))
    }

    /// A signed acknowledgement of everything through `through`.
    pub(super) fn ack(&self, id: &DeviceId, outbox: OutboxId, through: u64) -> Result<Message, Denied> {
        let (rules, keys) = (self.rules(), self.keys());
        let director = keys.director.under(rules.trusted()?.root());
        Ok(to(id, rules.ack(id, outbox, through, director)?))
    }
}

/// A message for one device.
pub(super) fn message(id: &DeviceId, topic: DownTopic, down: &Down<'_>) -> Result<Message, Denied> {
    talk::message(topic, down).map(|message| to(id, message))
}

pub(super) fn to(id: &DeviceId, (topic, frame): talk::Message) -> Message {
    (Topic::Down(id.clone(), topic).text().as_str().to_owned(), Bytes::from(frame))
}
