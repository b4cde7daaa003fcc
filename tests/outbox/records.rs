//! Records that carry their own number, of the sizes that devices have: mostly rows of small models,
//! some of larger ones, windows of scores, pieces of log.

use bellwether_protocol::id::{ModelRef, Version};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Log, LogWhy, Reason, Record, RecordBody, Sample, Scores};

/// Bytes of a row of each model: its inputs and its outputs.
pub(crate) const SMALL: (u32, u32) = (16, 3);
pub(crate) const WIDE: (u32, u32) = (64, 10);
const LOG_BYTES: usize = 600;

/// What a record says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    /// Run of the device in which it was pushed, from 1.
    pub(crate) run: u32,
    /// Its place in that run, from 1.
    pub(crate) place: u32,
}

impl Number {
    fn bytes(self) -> [u8; 8] {
        (u64::from(self.run) << 32 | u64::from(self.place)).to_le_bytes()
    }

    /// As the first bytes of a row or a text have it.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let both = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        Self { run: u32::try_from(both >> 32).unwrap(), place: u32::try_from(both & 0xffff_ffff).unwrap() }
    }

    /// What this record carries; `None` for a gap.
    pub(crate) fn carried(record: &Record<'_>) -> Option<Self> {
        match &record.body {
            RecordBody::Sample(sample) => Some(Self::of(sample.inputs)),
            RecordBody::Log(log) => Some(Self::of(log.text)),
            RecordBody::Scores(scores) => Some(Self { run: scores.p95_us, place: scores.p50_us }),
            RecordBody::Gap(_) => None,
            other @ (RecordBody::Event(_)
            | RecordBody::Profile(_)
            | RecordBody::Failure(_)
            | RecordBody::Agreement(_)
            | RecordBody::Offload(_)) => {
                panic!("nobody pushed {other:?}")
            }
        }
    }
}

/// The models whose rows are sampled.
pub(crate) fn model(name: &str) -> ModelRef {
    ModelRef { name: name.parse().unwrap(), version: Version::try_from(1).unwrap() }
}

/// Hands the record of this number to `push`.
pub(crate) fn with<T>(number: Number, push: impl FnOnce(&Record<'_>) -> T) -> T {
    let at = Millis(u64::from(number.place));
    match number.place % 16 {
        0 => {
            let mut text = number.bytes().to_vec();
            text.resize(LOG_BYTES, b'.');
            push(&Record { at, body: RecordBody::Log(Log { why: LogWhy::Asked, piece: 0, pieces: 1, text: &text }) })
        }
        1..=3 => {
            let (name, version) = (model("small").name, model("small").version);
            let (p50_us, p95_us) = (number.place, number.run);
            push(&Record { at, body: RecordBody::Scores(Scores { name, version, rows: 1, errors: 0, p50_us, p95_us }) })
        }
        4 | 5 => sample("wide", WIDE, number, push),
        _ => sample("small", SMALL, number, push),
    }
}

/// The same, of rows of the larger model only.
pub(crate) fn with_wide<T>(number: Number, push: impl FnOnce(&Record<'_>) -> T) -> T {
    sample("wide", WIDE, number, push)
}

fn sample<T>(name: &str, (inputs, outputs): (u32, u32), number: Number, push: impl FnOnce(&Record<'_>) -> T) -> T {
    let ModelRef { name, version } = model(name);
    let bytes = |floats: u32| vec![0x5a; 4 * floats as usize];
    let (mut row, answer) = (bytes(inputs), bytes(outputs));
    row[..8].copy_from_slice(&number.bytes());
    let sample = Sample { name, version, reason: Reason::Turn, inputs: &row, outputs: &answer };
    push(&Record { at: Millis(u64::from(number.place)), body: RecordBody::Sample(sample) })
}
