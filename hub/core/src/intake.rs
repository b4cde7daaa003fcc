//! Takes batches in: each record once, whatever is sent twice, out of order or out of thin air.

use std::collections::BTreeMap;

use bellwether_protocol::id::ModelRef;
use bellwether_protocol::limit::LOG_BYTES_MAX;
use bellwether_protocol::manifest::{TensorSignature, TensorSpec};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Agreement, Batch, Failure, Log, LogWhy, Offload, OutboxId, Record, RecordBody, Sample, Scores,
};

use crate::collect::{self, FAILURES_MAX, Failed, LOGGED_BYTES_MAX, Logged, Row, Troubles};
use crate::drift::{Key, Window};
use crate::error::Denied;
use crate::event::What;
use crate::fleet::{
    Agreed, Caused, Device, JUDGED_ROWS_MIN, OUTBOXES_MAX, SCORED_MODELS_MAX, SCORED_VERSIONS_MAX, Totals, may_tell,
};
use crate::offload::{Offloaded, Turn};
use crate::rules::{Change, Changes, Rules};

/// Rows that one device may have stored in [`ROWS_SPAN`] unless it is said otherwise: ten a second.
/// What is beyond counts as missing, so that no device fills the hub's disk.
pub const ROWS_MAX: u32 = 36_000;
/// The span that they are counted in.
pub const ROWS_SPAN: Millis = Millis::from_secs(3600);

/// What a batch changes, gathered record by record.
struct Intake<'r> {
    rules: &'r Rules,
    device: Device,
    changes: Changes,
    /// Records that the device had to drop.
    lost: u64,
    troubles: Option<Troubles>,
    windows: BTreeMap<Key, Window>,
    now: Millis,
}

impl Rules {
    /// How many rows of one device are stored in [`ROWS_SPAN`] from now on.
    pub const fn limit_rows(&mut self, most: u32) {
        self.rows_max = Some(most);
    }

    /// Takes what is new in a batch, already verified against the device's key, and says through
    /// which sequence everything was taken. A batch taken before changes nothing.
    ///
    /// # Errors
    ///
    /// [`Denied::OutOfOrder`] if records between the last taken and this batch are still in the
    /// device's outbox: it will send them.
    pub fn batch(&self, batch: &Batch<'_>, now: Millis) -> Result<(Changes, u64), Denied> {
        let device = self.device(&batch.device)?.clone();
        let changes = self.changes(batch.device.as_str(), now);
        let taken = device.outboxes.get(&batch.outbox).copied().unwrap_or(0);
        if batch.records.is_empty() {
            return Ok((changes, taken));
        }
        let mut intake =
            Intake { rules: self, device, changes, lost: 0, troubles: None, windows: BTreeMap::new(), now };
        if batch.first > taken.saturating_add(1) {
            if batch.first != batch.oldest {
                return Err(Denied::OutOfOrder { first: batch.first, taken });
            }
            intake.lost = batch.first - taken - 1;
        }
        let mut through = taken;
        for (offset, record) in (0..).zip(&batch.records) {
            // A device may claim any number; past the last there is none.
            let Some(sequence) = batch.first.checked_add(offset) else { break };
            if sequence > taken {
                intake.take((batch.outbox, sequence), record);
                through = sequence;
            }
        }
        Ok((intake.finish((batch.outbox, taken, through)), through))
    }
}

impl Intake<'_> {
    fn take(&mut self, place: (OutboxId, u64), record: &Record<'_>) {
        match &record.body {
            RecordBody::Scores(scores) => self.scores(scores),
            RecordBody::Event(event) => {
                let model = ModelRef { name: event.name.clone(), version: event.version };
                if may_tell(&mut self.device, self.now) {
                    let (phase, reject) = (event.phase, event.reject);
                    self.changes.event(What::Install { device: self.device.id.clone(), model, phase, reject });
                }
            }
            // The records before it that it stands for are counted by the jump in sequence; it took the
            // number of the last.
            RecordBody::Gap(_) => self.lost = self.lost.saturating_add(1),
            RecordBody::Profile(profile) => {
                let site = self.device.site().map(ToOwned::to_owned);
                self.rules.merge(&mut self.windows, profile, site.as_deref(), self.now);
            }
            RecordBody::Sample(sample) => {
                if !self.sample(place, record.at, sample) {
                    self.device.missing = self.device.missing.saturating_add(1);
                }
            }
            RecordBody::Failure(failure) => self.failure(failure),
            RecordBody::Log(log) => self.log(log),
            RecordBody::Agreement(agreement) => self.agreement(agreement),
            RecordBody::Offload(offload) => self.offload(offload),
        }
    }

    fn scores(&mut self, scores: &Scores) {
        let is_new = !self.device.scores.contains_key(&scores.name);
        if !(is_new && self.device.scores.len() >= SCORED_MODELS_MAX) {
            count(self.device.scores.entry(scores.name.clone()).or_default(), scores, self.now);
        }
    }

    fn agreement(&mut self, told: &Agreement) {
        let agreements = &mut self.device.agreements;
        if !agreements.contains_key(&told.name) && agreements.len() >= SCORED_MODELS_MAX {
            return;
        }
        let sums = agreements.entry(told.name.clone()).or_default();
        let (version, against) = (told.version.number(), told.against.number());
        if (sums.version, sums.against) != (version, against) {
            *sums = Agreed { version, against, ..Agreed::default() };
        }
        sums.rows = sums.rows.saturating_add(u64::from(told.rows));
        sums.agreed = sums.agreed.saturating_add(u64::from(told.agreed.min(told.rows)));
        sums.passed_by = sums.passed_by.saturating_add(u64::from(told.passed_by));
        sums.errors = sums.errors.saturating_add(u64::from(told.errors));
        sums.p95_us = told.p95_us;
    }

    fn offload(&mut self, told: &Offload<'_>) {
        let offloads = &mut self.device.offloads;
        if !offloads.contains_key(&told.name) && offloads.len() >= SCORED_MODELS_MAX {
            return;
        }
        let (sums, turn) = Offloaded::after(offloads.remove(&told.name), told);
        offloads.insert(told.name.clone(), sums);
        let Some(turn) = turn.filter(|_| may_tell(&mut self.device, self.now)) else { return };
        let device = self.device.id.clone();
        let model = ModelRef { name: told.name.clone(), version: told.version };
        self.changes.event(match turn {
            Turn::Fell(why) => What::OffloadFell { device, model, why },
            Turn::Returned => What::OffloadReturned { device, model },
        });
    }

    /// Stores a row; false if nobody can make sense of it or there are too many.
    fn sample(&mut self, (outbox, sequence): (OutboxId, u64), at: Millis, sample: &Sample<'_>) -> bool {
        let model = ModelRef { name: sample.name.clone(), version: sample.version };
        let Ok(record) = self.rules.version(&model) else { return false };
        let TensorSignature { inputs, outputs } = &record.manifest.tensors;
        if row_bytes(inputs) != Some(sample.inputs.len()) || row_bytes(outputs) != Some(sample.outputs.len()) {
            return false;
        }
        let rows = &mut self.device.rows;
        if self.now.apart(rows.since) > ROWS_SPAN {
            *rows = Caused { since: self.now, count: 0 };
        }
        rows.count = rows.count.saturating_add(1);
        if rows.count > self.rules.rows_max.unwrap_or(ROWS_MAX) {
            return false;
        }
        self.device.collected = self.device.collected.saturating_add(1);
        self.changes.push(Change::Row(Box::new(Row {
            device: self.device.id.clone(),
            outbox,
            sequence,
            model,
            at,
            taken_at: self.now,
            site: self.device.site().map(ToOwned::to_owned),
            reason: sample.reason,
            inputs: sample.inputs.to_vec(),
            outputs: sample.outputs.to_vec(),
        })));
        true
    }

    fn troubles(&mut self) -> &mut Troubles {
        let id = &self.device.id;
        let before = || {
            let none = || Troubles { device: id.clone(), failures: std::collections::VecDeque::new(), log: None };
            self.rules.troubles.get(id).cloned().unwrap_or_else(none)
        };
        self.troubles.get_or_insert_with(before)
    }

    fn failure(&mut self, failure: &Failure<'_>) {
        let failed = Failed {
            at: self.now,
            model: ModelRef { name: failure.name.clone(), version: failure.version },
            reject: failure.reject,
            cause: failure.cause.chars().take(bellwether_protocol::limit::CAUSE_BYTES_MAX).collect(),
            exit: failure.exit,
            peak_kib: failure.peak_kib,
            log: Vec::new(),
        };
        let failures = &mut self.troubles().failures;
        if failures.len() >= FAILURES_MAX {
            failures.pop_front();
        }
        failures.push_back(failed);
    }

    fn log(&mut self, log: &Log<'_>) {
        let now = self.now;
        let troubles = self.troubles();
        match log.why {
            LogWhy::Failure => {
                // A piece that comes first to a log that has begun belongs to a failure that was dropped.
                if let Some(failed) = troubles.failures.back_mut().filter(|f| log.piece > 0 || f.log.is_empty()) {
                    collect::append(&mut failed.log, log.text, LOG_BYTES_MAX);
                }
            }
            LogWhy::Asked => {
                let awaited = log.pieces.saturating_sub(log.piece.saturating_add(1));
                let begun = troubles.log.take().filter(|_| log.piece > 0);
                let mut text = begun.map(|logged| logged.text).unwrap_or_default();
                collect::append(&mut text, log.text, LOGGED_BYTES_MAX);
                troubles.log = Some(Logged { at: now, awaited, text });
            }
        }
    }

    fn finish(self, (outbox, taken, through): (OutboxId, u64, u64)) -> Changes {
        let Self { mut device, mut changes, lost, troubles, windows, now, .. } = self;
        if through > taken {
            if lost > 0 {
                device.missing = device.missing.saturating_add(lost);
                changes.event(What::RecordsMissing { device: device.id.clone(), records: lost });
            }
            remember(&mut device, outbox, through);
            device.session.last_seen = Some(now);
            changes.push(Change::Device(Box::new(device)));
            if let Some(troubles) = troubles {
                changes.push(Change::Troubles(Box::new(troubles)));
            }
            for window in windows.into_values() {
                changes.push(Change::Window(Box::new(window)));
            }
        }
        changes
    }
}

/// Bytes of one row of these tensors; `None` where a dimension besides the batch is open.
#[must_use]
pub fn row_bytes(specs: &[TensorSpec]) -> Option<usize> {
    specs.iter().try_fold(0usize, |sum, spec| {
        let mut sizes = spec.shape.iter().enumerate();
        let elements = sizes.try_fold(1usize, |product, (axis, size)| match (axis, size) {
            (0, _) => Some(product),
            (_, Some(size)) => product.checked_mul(usize::try_from(*size).ok()?),
            (_, None) => None,
        })?;
        sum.checked_add(elements.checked_mul(spec.datatype.bytes())?)
    })
}

fn count(totals: &mut Totals, scores: &Scores, now: Millis) {
    totals.rows = totals.rows.saturating_add(u64::from(scores.rows));
    totals.errors = totals.errors.saturating_add(u64::from(scores.errors));
    while totals.by_version.len() >= SCORED_VERSIONS_MAX && !totals.by_version.contains_key(&scores.version.number()) {
        totals.by_version.pop_first();
    }
    let version = totals.by_version.entry(scores.version.number()).or_default();
    *version = version.saturating_add(u64::from(scores.rows));
    if totals.version != scores.version.number() {
        (totals.version, totals.recent_p95_us) = (scores.version.number(), [0; 2]);
    }
    if scores.rows >= JUDGED_ROWS_MIN {
        let [_, last] = totals.recent_p95_us;
        (totals.recent_p95_us, totals.judged_at) = ([last, scores.p95_us], now);
    }
    totals.p50_us = scores.p50_us;
    totals.p95_us = scores.p95_us;
}

fn remember(device: &mut Device, outbox: OutboxId, through: u64) {
    if !device.outboxes.contains_key(&outbox) && device.outboxes.len() >= OUTBOXES_MAX {
        let least = device.outboxes.iter().min_by_key(|(_, through)| **through).map(|(id, _)| *id);
        least.and_then(|id| device.outboxes.remove(&id));
    }
    device.outboxes.insert(outbox, through);
}
