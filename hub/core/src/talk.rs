//! What is said between the hub and one device, as frames: what comes up is verified and decided,
//! what goes down is signed with the proof of every release in it.
//!
//! ```text
//!  frame up ──> Rules::hear ──> Changes, and Replies that are owed once those are durable
//!  Reply    ──> Rules::{desired, trust, ack} ──> frames down
//! ```
//! Nothing here waits or sends: the hub does both over MQTT, the simulator in virtual time.

use bellwether_protocol::SigningKey;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::Vec as Few;
use bellwether_protocol::id::{DeviceId, TransferId};
use bellwether_protocol::limit::{FRAME_BYTES_MAX, MODELS_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::message::{Desired, Down, Evidence, Need, Up};
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::{DownTopic, UpTopic};
use bellwether_protocol::trust::{
    Ack, Assignment, Batch, Command, Epoch, Granted, Known, Nonce, Order, OutboxId, PackageRef, PublicKey, Report,
    Request, RoleSet, Signed, Statement, Wanted, open_by, seal,
};
use serde::Deserialize;

use crate::error::Denied;
use crate::fleet::{Device, Issued, RETOLD_AFTER};
use crate::rules::{Change, Changes, Rules};

/// What a message from a device makes due, once everything decided is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Its desired state, again: it may have missed it, or could not read it before.
    Desired,
    /// What counts that it lacks, and the time if it asked with a nonce.
    Trust(Option<Nonce>),
    /// All records of this outbox through that number were taken.
    Ack(OutboxId, u64),
    /// Parts of a package that it was assigned.
    Parts(PackageRef, Need),
}

/// A message down to a device: where, and the frame.
pub type Message = (DownTopic, Vec<u8>);

/// Reads a statement that a device signed, whatever it says, checked against its enrolled key.
///
/// # Errors
///
/// [`Denied::NoDevice`], [`Denied::NoRoot`], or why the signature does not count.
pub fn from_device<'a, T: Statement + Deserialize<'a>>(
    rules: &Rules,
    id: &DeviceId,
    signed: &Signed<'a>,
) -> Result<T, Denied> {
    let key = rules.device(id)?.key;
    open_by(rules.trusted()?.fleet(), signed, &key).map_err(Denied::Statement)
}

/// Whose words a statement holds must be who sent it.
fn own(device: &DeviceId, named: &DeviceId) -> Result<(), Denied> {
    if device == named { Ok(()) } else { Err(Denied::Statement(Reject::WrongDevice)) }
}

/// What comes up.
impl Rules {
    /// Takes a message that arrived on this device's topic.
    ///
    /// # Errors
    ///
    /// Why it is refused; then nothing changes.
    pub fn hear(
        &self,
        device: &DeviceId,
        topic: UpTopic,
        payload: &[u8],
        now: Millis,
    ) -> Result<(Vec<Reply>, Changes), Denied> {
        let up: Up<'_> = frame::decode(payload).map_err(Denied::Statement)?;
        match (topic, up) {
            (UpTopic::Hello, Up::Hello(hello)) => Ok((vec![Reply::Desired], self.hello(device, hello, now)?)),
            (UpTopic::Gone, Up::Gone(gone)) => Ok((Vec::new(), self.gone(device, gone, now)?)),
            (UpTopic::State, Up::State(signed)) => self.hear_report(device, &signed, now),
            (UpTopic::Batch, Up::Batch(signed)) => self.hear_batch(device, &signed, now),
            (UpTopic::Known, Up::Known(signed)) => self.hear_known(device, &signed, now),
            (UpTopic::Need(transfer), Up::Need(need)) => {
                let package = self.assigned_package(device, transfer)?;
                Ok((vec![Reply::Parts(package, need)], self.changes(device.as_str(), now)))
            }
            _ => Err(Denied::Statement(Reject::Malformed)),
        }
    }

    fn hear_report(
        &self,
        device: &DeviceId,
        signed: &Signed<'_>,
        now: Millis,
    ) -> Result<(Vec<Reply>, Changes), Denied> {
        let report: Report = from_device(self, device, signed)?;
        own(device, &report.device)?;
        // The last hop may have lost it: no broker's word says that a device has it.
        let behind = self.device(device)?.is_behind(&report, now);
        // One, and it holds: that was checked just now.
        let signature = signed.signatures.first().ok_or(Denied::Statement(Reject::TooFewSignatures))?;
        let mut replies: Vec<Reply> = behind.then_some(Reply::Desired).into_iter().collect();
        // Nor that it was told what counts: it is told again until it says that it knows.
        let known = self.device(device)?;
        let is_late = known.learnt.as_ref().is_none_or(|learnt| now.apart(learnt.at) > RETOLD_AFTER);
        replies.extend((is_late && !self.knows_all(known)).then_some(Reply::Trust(None)));
        Ok((replies, self.report(report, signature.bytes, now)?))
    }

    fn hear_batch(&self, device: &DeviceId, signed: &Signed<'_>, now: Millis) -> Result<(Vec<Reply>, Changes), Denied> {
        let batch: Batch<'_> = from_device(self, device, signed)?;
        own(device, &batch.device)?;
        match self.batch(&batch, now) {
            Ok((changes, through)) => Ok((vec![Reply::Ack(batch.outbox, through)], changes)),
            // Saying how far it got makes the device send what lies between.
            Err(Denied::OutOfOrder { taken, .. }) => {
                Ok((vec![Reply::Ack(batch.outbox, taken)], self.changes(device.as_str(), now)))
            }
            Err(denied) => Err(denied),
        }
    }

    fn hear_known(&self, device: &DeviceId, signed: &Signed<'_>, now: Millis) -> Result<(Vec<Reply>, Changes), Denied> {
        let known: Known = from_device(self, device, signed)?;
        own(device, &known.device)?;
        let is_news = self.device(device)?.learnt.as_ref().is_none_or(|before| {
            known.root > before.root || known.checkpoint > before.checkpoint || known.recalls != before.recalls
        });
        let mut replies = vec![Reply::Trust(Some(known.nonce))];
        // What it was sent before may rest on what it knows only now.
        replies.extend(is_news.then_some(Reply::Desired));
        Ok((replies, self.learnt(&known, now)?))
    }

    /// The package behind a transfer, if the device was assigned it.
    ///
    /// # Errors
    ///
    /// [`Denied::NoDevice`]; [`Reject::NotGranted`] for what it was not assigned.
    pub fn assigned_package(&self, device: &DeviceId, transfer: TransferId) -> Result<PackageRef, Denied> {
        let wanted = self.device(device)?.assignment.iter().flat_map(|issued| &issued.models);
        let mut packages = wanted.filter_map(|want| self.version(&want.model).ok()).map(|record| record.package);
        packages.find(|package| package.digest.transfer() == transfer).ok_or(Denied::Statement(Reject::NotGranted))
    }
}

/// What goes down.
impl Rules {
    /// The desired state of a device, signed by the director; `None` while it was told nothing.
    ///
    /// # Errors
    ///
    /// [`Denied::NoRoot`], or what of its assignment the hub does not have any more.
    pub fn desired(&self, device: &Device, director: &SigningKey) -> Result<Option<Message>, Denied> {
        let Some(issued) = &device.assignment else { return Ok(None) };
        let root = self.trusted()?;
        let assignment = assignment(device, issued)?;
        let proofs = self.proofs(device, issued)?;
        let mut evidence: Few<Evidence<'_>, MODELS_MAX> = Few::new();
        for (release, grant) in &proofs {
            let grant = grant.as_deref().map(frame::decode).transpose().map_err(Denied::Statement)?;
            let release = frame::decode(release).map_err(Denied::Statement)?;
            evidence.push(Evidence { release, grant }).map_err(|_| Denied::Statement(Reject::TooManyModels))?;
        }
        let mut body = vec![0; STATEMENT_BYTES_MAX];
        let assignment = seal(&assignment, root.fleet(), director, &mut body).map_err(Denied::Statement)?;
        message(DownTopic::Desired, &Down::Desired(Desired { assignment, evidence })).map(Some)
    }

    /// An acknowledgement of everything through `through`.
    ///
    /// # Errors
    ///
    /// [`Denied::NoRoot`].
    pub fn ack(
        &self,
        device: &DeviceId,
        outbox: OutboxId,
        through: u64,
        director: &SigningKey,
    ) -> Result<Message, Denied> {
        let ack = Ack { device: device.clone(), outbox, through };
        let mut body = vec![0; STATEMENT_BYTES_MAX];
        let signed = seal(&ack, self.trusted()?.fleet(), director, &mut body).map_err(Denied::Statement)?;
        message(DownTopic::Ack, &Down::Ack(signed))
    }

    /// Gives a command to a device its number.
    ///
    /// # Errors
    ///
    /// [`Denied::NoDevice`], [`Denied::NoRoot`].
    pub fn number_command(
        &self,
        device: &DeviceId,
        request: Request,
        now: Millis,
    ) -> Result<(Command, Changes), Denied> {
        let known = self.device(device)?;
        let commands = known.commands.saturating_add(1);
        let order = Order { generation: self.trusted()?.root().director_generation, sequence: commands };
        let mut changes = self.changes("hub", now);
        changes.push(Change::Device(Box::new(Device { commands, ..known.clone() })));
        Ok((Command { device: device.clone(), order, request }, changes))
    }

    /// A numbered command, signed.
    ///
    /// # Errors
    ///
    /// [`Denied::NoRoot`].
    pub fn command(&self, command: &Command, director: &SigningKey) -> Result<Message, Denied> {
        let mut body = vec![0; STATEMENT_BYTES_MAX];
        let signed = seal(command, self.trusted()?.fleet(), director, &mut body).map_err(Denied::Statement)?;
        message(DownTopic::Command, &Down::Command(signed))
    }

    /// What a device lacks of what counts, in the order in which it must hear it, and the time if it
    /// asked and the root lists this key for it.
    ///
    /// # Errors
    ///
    /// [`Denied::NoDevice`], [`Denied::NoRoot`].
    pub fn trust(
        &self,
        device: &DeviceId,
        asked: Option<Nonce>,
        (time, epoch): (&SigningKey, u64),
    ) -> Result<Vec<Message>, Denied> {
        let lacking = self.lacking(self.device(device)?);
        let read = |bytes| frame::decode::<Signed<'_>>(bytes).map_err(Denied::Statement);
        let mut downs: Vec<Down<'_>> = Vec::new();
        for bytes in lacking.roots {
            downs.push(Down::Root(read(bytes)?));
        }
        for bytes in lacking.recalls {
            downs.push(Down::Recall(read(bytes)?));
        }
        if let Some(bytes) = lacking.checkpoint {
            downs.push(Down::Checkpoint(read(bytes)?));
        }
        let sent = downs.iter().map(|down| message(DownTopic::Trust, down));
        let mut messages = sent.collect::<Result<Vec<Message>, Denied>>()?;
        let root = self.trusted()?;
        let key = PublicKey(time.verifying_key().to_bytes()).id();
        let is_timed = root.root().key(key).is_some_and(|key| key.roles.contains(RoleSet::TIME));
        if let Some(nonce) = asked.filter(|_| is_timed) {
            let epoch = Epoch { generation: root.root().time_generation, epoch, nonce };
            let mut body = vec![0; STATEMENT_BYTES_MAX];
            let signed = seal(&epoch, root.fleet(), time, &mut body).map_err(Denied::Statement)?;
            messages.push(message(DownTopic::Trust, &Down::Epoch(signed))?);
        }
        Ok(messages)
    }

    /// For each model the signed release that is wanted and, where one reaches the device, a grant.
    /// What no longer holds goes down all the same: the device says so, and its other models do not
    /// suffer.
    fn proofs(&self, device: &Device, issued: &Issued) -> Result<Vec<Proof>, Denied> {
        let root = self.trusted()?;
        let mut proofs = Vec::new();
        for want in &issued.models {
            let record = self.version(&want.model)?;
            let release = record.releases().find(|release| release.digest() == want.release);
            let release = release.ok_or_else(|| Denied::NoRelease(want.model.clone()))?;
            let grant = self.proof(record, release).and_then(|approved| {
                let reaches = |granted: &Granted| root.reaches(&approved, granted, device.key_id());
                let found = self.grants(record, &approved).find(|(granted, _)| reaches(granted));
                found.map(|(_, stored)| stored.statement.clone())
            });
            proofs.push((release.statement(), grant));
        }
        Ok(proofs)
    }
}

/// The frames of a signed release and, where one reaches the device, of a grant.
type Proof = (Vec<u8>, Option<Vec<u8>>);

fn assignment(device: &Device, issued: &Issued) -> Result<Assignment, Denied> {
    let mut models = Few::new();
    for want in &issued.models {
        let wanted = Wanted { name: want.model.name.clone(), release: want.release, mode: want.mode };
        models.push(wanted).map_err(|_| Denied::Statement(Reject::TooManyModels))?;
    }
    Ok(Assignment { device: device.id.clone(), order: issued.order, models, audit: issued.audit })
}

/// A message down.
///
/// # Errors
///
/// [`Reject::TooLarge`] if it does not fit a frame.
pub fn message(topic: DownTopic, down: &Down<'_>) -> Result<Message, Denied> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let length = frame::encode(down, &mut buffer).map_err(Denied::Statement)?.len();
    buffer.truncate(length);
    Ok((topic, buffer))
}
