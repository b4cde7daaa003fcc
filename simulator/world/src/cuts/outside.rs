//! The hub as one device sees it: it says what the script says, takes what comes up, and holds every
//! number that it hears against those that it heard before.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bellwether_hub_core::talk;
use bellwether_protocol::frame;
use bellwether_protocol::limit::{CHUNKS_IN_FLIGHT_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::message::{Down, Need, Up};
use bellwether_protocol::topic::{DownTopic, UpTopic};
use bellwether_protocol::trust::{Ack, Batch, Known, Order, OutboxId, Phase, Report, seal};

use super::script::{Kind, Message, Script, Stage, Until, Update};
use crate::disk::Mark;
use crate::people::{DIRECTOR, key};

/// Records that may still come again, for their acknowledgement came to no disk.
const AGAIN_MAX: u64 = 64;

/// Acknowledgements that were signed once, by outbox and number.
pub(super) type Acks = Rc<RefCell<BTreeMap<(OutboxId, u64), Message>>>;

/// What the hub knows; kept for good as soon as it hears it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside {
    /// How far the update is.
    pub(super) stage: usize,
    connects: u64,
    reports: u64,
    outbox: Option<OutboxId>,
    taken: u64,
    /// Marks of the records taken, by number.
    records: BTreeMap<u64, u64>,
    /// The outbox that is owed an acknowledgement.
    pub(super) owed: Option<OutboxId>,
    /// What the device said last: which order it has seen, of what it speaks, and whether that is over.
    pub(super) said: Option<(Order, Phase)>,
}

impl Outside {
    /// Another update begins; what is said at once.
    pub(super) fn offer(&mut self, update: &Update) -> Vec<Message> {
        let least = self.taken.saturating_sub(AGAIN_MAX);
        self.records.retain(|number, _| *number > least);
        self.stage = 0;
        let root = update.roots.last().filter(|_| update.kind == Kind::Rotated);
        root.cloned().into_iter().chain(self.desired(update)).collect()
    }

    fn desired(&self, update: &Update) -> Option<Message> {
        self.stage(update).map(|stage| stage.desired.clone())
    }

    pub(super) fn stage<'u>(&self, update: &'u Update) -> Option<&'u Stage> {
        update.stages.get(self.stage)
    }

    /// What tells it from others.
    pub(super) fn mark(&self) -> u64 {
        let records = self.records.iter().fold(0u64, |sum, (number, record)| {
            sum.wrapping_add(Mark::default().number(*number).number(*record).end())
        });
        let counters = [self.stage as u64, self.connects, self.reports, self.taken, records];
        counters.into_iter().fold(Mark::default(), Mark::number).end()
    }

    /// A session is opened.
    pub(super) fn connected(&mut self, counter: u64) -> Result<(), String> {
        if counter <= self.connects {
            return Err(format!("its connection number went from {} to {counter}", self.connects));
        }
        (self.connects, self.owed) = (counter, None);
        Ok(())
    }

    /// A message arrives; what is said to it.
    pub(super) fn hear(
        &mut self,
        (script, update): (&Script, &Update),
        topic: UpTopic,
        payload: &[u8],
    ) -> Result<Vec<Message>, String> {
        let up: Up<'_> = frame::decode(payload).map_err(|why| format!("a message cannot be read: {why}"))?;
        let unread = |why| format!("a statement cannot be read: {why}");
        match (topic, up) {
            (UpTopic::Hello, Up::Hello(_)) => Ok(self.desired(update).into_iter().collect()),
            (UpTopic::State, Up::State(signed)) => self.report(update, &signed.peek().map_err(unread)?),
            (UpTopic::Known, Up::Known(signed)) => Ok(self.known(update, &signed.peek().map_err(unread)?)),
            (UpTopic::Batch, Up::Batch(signed)) => {
                self.batch(&signed.peek().map_err(unread)?)?;
                Ok(Vec::new())
            }
            (UpTopic::Need(transfer), Up::Need(need)) => {
                let (table, chunks) = script.parts.get(&transfer).ok_or("it asks for what nobody offered")?;
                Ok(self.parts(update, table, chunks, need))
            }
            (
                UpTopic::Gone | UpTopic::Hello | UpTopic::State | UpTopic::Known | UpTopic::Batch | UpTopic::Need(_),
                _,
            ) => Err("a message on the wrong topic".to_owned()),
        }
    }

    /// The hub says the next thing: what changes what counts comes before what rests on it.
    fn next(&mut self, update: &Update) -> Vec<Message> {
        let before = self.stage(update).map(|stage| stage.recalls);
        self.stage += 1;
        let is_recalled = self.stage(update).map(|stage| stage.recalls) != before;
        let recall = update.recalls.last().filter(|_| is_recalled);
        recall.cloned().into_iter().chain(self.desired(update)).collect()
    }

    fn report(&mut self, update: &Update, report: &Report) -> Result<Vec<Message>, String> {
        if report.sequence <= self.reports {
            return Err(format!("its report number went from {} to {}", self.reports, report.sequence));
        }
        self.reports = report.sequence;
        let Some(stage) = self.stage(update) else { return Ok(Vec::new()) };
        let model = report.models.first();
        if let Some(model) = model {
            self.said = Some((report.seen, model.phase));
        }
        let is_due = model.is_some_and(|model| {
            stage.until == Until::Phase(model.phase)
                && model.target.is_some_and(|target| target.release == stage.release)
        });
        Ok(if is_due { self.next(update) } else { Vec::new() })
    }

    fn known(&self, update: &Update, known: &Known) -> Vec<Message> {
        // The first root is version 1.
        let roots = update.roots.iter().skip(known.root.saturating_sub(1) as usize);
        let lacks = self.stage(update).is_some_and(|stage| stage.recalls != known.recalls);
        // Those of earlier updates are on its disk for good.
        let recall = update.recalls.last().filter(|_| lacks);
        roots.chain(recall).cloned().collect()
    }

    fn parts(&mut self, update: &Update, table: &Message, chunks: &[Message], need: Need) -> Vec<Message> {
        let mut parts: Vec<Message> = need.table.then(|| table.clone()).into_iter().collect();
        let wanted = need.chunks(CHUNKS_IN_FLIGHT_MAX).filter_map(|n| chunks.get(usize::from(n)));
        parts.extend(wanted.cloned());
        if !need.table && self.stage(update).is_some_and(|stage| stage.until == Until::Need) {
            // Midway: one part is there, the others come too late.
            let late = parts.split_off(1.min(parts.len()));
            parts.extend(self.next(update));
            parts.extend(late);
        }
        parts
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), String> {
        if self.outbox.is_some_and(|outbox| outbox != batch.outbox) {
            return Err("its outbox has another id, so its numbers begin anew".to_owned());
        }
        self.outbox = Some(batch.outbox);
        if batch.first > self.taken + 1 {
            return Err(format!("records {} to {} never came, and never will", self.taken + 1, batch.first - 1));
        }
        let mut buffer = vec![0; STATEMENT_BYTES_MAX];
        for (number, record) in (batch.first..).zip(&batch.records) {
            let bytes: &[u8] = frame::encode(record, &mut buffer).map_err(|why| format!("record {number}: {why}"))?;
            let mark = Mark::default().bytes(bytes).end();
            if self.records.insert(number, mark).is_some_and(|before| before != mark) {
                return Err(format!("number {number} is that of two records"));
            }
            self.taken = self.taken.max(number);
        }
        self.owed = Some(batch.outbox);
        Ok(())
    }

    /// The acknowledgement that is owed, of all that was taken so far.
    pub(super) fn ack(&mut self, script: &Script, acks: &Acks) -> Result<Option<Message>, String> {
        self.owed.take().map(|outbox| ack(script, acks, (outbox, self.taken))).transpose()
    }
}

fn ack(script: &Script, acks: &Acks, (outbox, through): (OutboxId, u64)) -> Result<Message, String> {
    if let Some(ack) = acks.borrow().get(&(outbox, through)) {
        return Ok(ack.clone());
    }
    let ack = Ack { device: script.device.clone(), outbox, through };
    let mut body = vec![0; STATEMENT_BYTES_MAX];
    let signed = seal(&ack, script.fleet, &key(DIRECTOR), &mut body).map_err(|why| why.to_string())?;
    let (topic, frame) = talk::message(DownTopic::Ack, &Down::Ack(signed)).map_err(|why| why.to_string())?;
    let message = (topic, Rc::new(frame));
    acks.borrow_mut().insert((outbox, through), message.clone());
    Ok(message)
}
