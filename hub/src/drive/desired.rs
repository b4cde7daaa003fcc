//! What goes down to a device: its signed assignment with the proof of every release in it,
//! commands, and acknowledgements.

use bellwether_hub_core::Change;
use bellwether_hub_core::Denied;
use bellwether_hub_core::Rules;
use bellwether_hub_core::fleet::{Device, Issued};
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::Vec as Few;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::{FRAME_BYTES_MAX, MODELS_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::message::{Desired, Down, Evidence};
use bellwether_protocol::topic::{DownTopic, Topic};
use bellwether_protocol::trust::{
    Ack, Assignment, Command, Granted, Mode, Order, OutboxId, Request, Signed, Statement, Wanted, seal,
};
use bytes::Bytes;

use super::{Hub, Refusal};

/// A message ready to be published: its topic and its bytes.
pub(super) type Message = (String, Bytes);

impl Hub {
    /// The desired state of a device; `None` while it was told nothing.
    pub(super) fn desired(&self, rules: &Rules, device: &Device) -> Result<Option<Message>, Denied> {
        let Some(issued) = &device.assignment else { return Ok(None) };
        let root = rules.trusted()?;
        let assignment = assignment(device, issued)?;
        let proofs = proofs(rules, device, issued)?;
        let mut evidence: Few<Evidence<'_>, MODELS_MAX> = Few::new();
        for (release, grant) in &proofs {
            let grant = grant.as_deref().map(frame::decode).transpose().map_err(Denied::Statement)?;
            let release = frame::decode(release).map_err(Denied::Statement)?;
            evidence.push(Evidence { release, grant }).map_err(|_| Denied::Statement(Reject::TooManyModels))?;
        }
        let mut body = vec![0; STATEMENT_BYTES_MAX];
        let keys = self.keys();
        let director = keys.director.under(root.root());
        let assignment = seal(&assignment, root.fleet(), director, &mut body).map_err(Denied::Statement)?;
        let down = Down::Desired(Desired { assignment, evidence });
        message(&device.id, DownTopic::Desired, &down).map(Some)
    }

    /// A signed command to a device, with the next number, which is durable before it is used.
    pub(super) fn command(&self, id: &DeviceId, request: Request) -> Result<Message, Refusal> {
        let (order, fleet, director) = self.decide_durably(|rules, now| {
            let device = rules.device(id)?;
            let root = rules.trusted()?;
            let commands = device.commands.saturating_add(1);
            let order = Order { generation: root.root().director_generation, sequence: commands };
            let mut changes = rules.changes("hub", now);
            changes.push(Change::Device(Box::new(Device { commands, ..device.clone() })));
            Ok(((order, root.fleet(), self.keys().director.under(root.root()).clone()), changes))
        })?;
        let command = Command { device: id.clone(), order, request };
        let mut body = vec![0; STATEMENT_BYTES_MAX];
        let signed = seal(&command, fleet, &director, &mut body).map_err(Denied::Statement)?;
        Ok(message(id, DownTopic::Command, &Down::Command(signed))?)
    }

    /// A signed acknowledgement of everything through `through`.
    pub(super) fn ack(&self, id: &DeviceId, outbox: OutboxId, through: u64) -> Result<Message, Denied> {
        let (rules, keys) = (self.rules(), self.keys());
        let root = rules.trusted()?;
        let ack = Ack { device: id.clone(), outbox, through };
        let mut body = vec![0; STATEMENT_BYTES_MAX];
        let signed =
            seal(&ack, root.fleet(), keys.director.under(root.root()), &mut body).map_err(Denied::Statement)?;
        message(id, DownTopic::Ack, &Down::Ack(signed))
    }
}

fn assignment(device: &Device, issued: &Issued) -> Result<Assignment, Denied> {
    let mut models = Few::new();
    for want in &issued.models {
        let wanted = Wanted { name: want.model.name.clone(), release: want.release, mode: Mode::Active };
        models.push(wanted).map_err(|_| Denied::Statement(Reject::TooManyModels))?;
    }
    Ok(Assignment { device: device.id.clone(), order: issued.order, models, audit: issued.audit })
}

/// The frames of a signed release and, where one reaches the device, of a grant.
type Proof = (Vec<u8>, Option<Vec<u8>>);

/// For each model the signed release that is wanted and, where one reaches the device, a grant. What
/// no longer holds goes down all the same: the device says so, and its other models do not suffer.
fn proofs(rules: &Rules, device: &Device, issued: &Issued) -> Result<Vec<Proof>, Denied> {
    let root = rules.trusted()?;
    let mut proofs = Vec::new();
    for want in &issued.models {
        let record = rules.version(&want.model)?;
        let release = record.releases().find(|release| release.digest() == want.release);
        let release = release.ok_or_else(|| Denied::NoRelease(want.model.clone()))?;
        let grant = root.approve(&release.signed()).ok().and_then(|approved| {
            let reaches = |granted: &Granted| root.reaches(&approved, granted, device.key_id());
            let found = rules.grants(record, &approved).find(|(granted, _)| reaches(granted));
            found.map(|(_, stored)| stored.statement.clone())
        });
        proofs.push((release.statement(), grant));
    }
    Ok(proofs)
}

/// A message for one device.
pub(super) fn message(id: &DeviceId, topic: DownTopic, down: &Down<'_>) -> Result<Message, Denied> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let length = frame::encode(down, &mut buffer).map_err(Denied::Statement)?.len();
    buffer.truncate(length);
    Ok((Topic::Down(id.clone(), topic).text().as_str().to_owned(), Bytes::from(buffer)))
}

/// Reads a statement that a device signed, whatever it says, checked against its enrolled key.
pub(super) fn from_device<'a, T: Statement + serde::Deserialize<'a>>(
    rules: &Rules,
    id: &DeviceId,
    signed: &Signed<'a>,
) -> Result<T, Denied> {
    let key = rules.device(id)?.key;
    bellwether_protocol::trust::open_by(rules.trusted()?.fleet(), signed, &key).map_err(Denied::Statement)
}
