//! Beside scoring: what values look like, and rows to be collected. Kept in memory until the loop
//! takes it into the outbox.

use bellwether_agent_core::sampler::Sampler;
use bellwether_protocol::id::{ModelName, Version};
use bellwether_protocol::limit::ROW_BYTES_MAX;
use bellwether_protocol::manifest::DataType;
use bellwether_protocol::policy::Policy;
use bellwether_protocol::profile::{Bins, Column, Counter, Counts, Side, Source, append};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Profile, Reason, RecordBody, Sample};
use bellwether_runtime::columns::value;
use bellwether_runtime::{Data, Scorer, Tensor};

use crate::host::{Host, Pulse};

/// Sampled rows that wait for the loop, which comes by every second.
const ROWS_MAX: usize = 512;

/// A model ready to answer, with what its package says of watching it.
pub(crate) struct Fitted {
    pub(crate) scorer: Box<dyn Scorer>,
    /// How its process is, if it has one of its own.
    pub(crate) pulse: Option<Pulse>,
    pub(crate) policy: Policy,
    pub(crate) baseline: Vec<Column>,
    /// Size of its package.
    pub(crate) bytes: u64,
}

impl Fitted {
    /// A model in a process of its own, of a package of so many bytes.
    pub(crate) fn hosted(host: Host, policy: Policy, baseline: Vec<Column>, bytes: u64) -> Self {
        Self { pulse: Some(host.pulse()), scorer: Box::new(host), policy, baseline, bytes }
    }
}

impl From<Box<dyn Scorer>> for Fitted {
    fn from(scorer: Box<dyn Scorer>) -> Self {
        Self { scorer, pulse: None, policy: Policy::default(), baseline: Vec::new(), bytes: 0 }
    }
}

/// What is watched of one model.
#[derive(Debug)]
pub(super) struct Watch {
    columns: Vec<(Source, Bins)>,
    counts: Vec<Counter>,
    rows: u32,
    since: Millis,
    sampler: Sampler,
    kept: Vec<Kept>,
}

/// A row to be collected.
#[derive(Debug)]
struct Kept {
    at: Millis,
    reason: Reason,
    inputs: Vec<u8>,
    outputs: Vec<u8>,
}

/// What was watched of one version, ready for the outbox.
#[derive(Debug)]
pub(crate) struct Watched {
    name: ModelName,
    version: Version,
    profile: Option<Window>,
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Window {
    span: Millis,
    rows: u32,
    counts: Vec<Counts>,
}

impl Watch {
    pub(super) fn new(baseline: Vec<Column>, sampler: Sampler, now: Millis) -> Self {
        let columns: Vec<(Source, Bins)> = baseline.into_iter().map(|column| (column.source, column.bins)).collect();
        let counts = columns.iter().map(|(_, bins)| Counter::new(bins)).collect();
        Self { columns, counts, rows: 0, since: now, sampler, kept: Vec::new() }
    }

    /// Takes note of rows that were scored: inputs in the model's order.
    pub(super) fn take(&mut self, inputs: &[&Tensor], outputs: &[Tensor], now: Millis) {
        let rows = inputs.first().map_or(0, |tensor| tensor.rows());
        for ((source, bins), counts) in self.columns.iter().zip(&mut self.counts) {
            let tensor = match source.side {
                Side::Input => inputs.get(usize::from(source.tensor)).copied(),
                Side::Output => outputs.get(usize::from(source.tensor)),
            };
            for row in 0..rows {
                match tensor.and_then(|tensor| value(tensor, row, source.of)) {
                    Some(value) => counts.take(bins, value),
                    None => counts.take_null(),
                }
            }
        }
        self.rows = self.rows.saturating_add(u32::try_from(rows).unwrap_or(u32::MAX));
        if self.sampler.is_on() {
            for row in 0..rows {
                self.sample(inputs, outputs, row, now);
            }
        }
    }

    fn sample(&mut self, inputs: &[&Tensor], outputs: &[Tensor], row: usize, now: Millis) {
        let Some(reason) = self.sampler.choose(now, certainty(outputs, row)) else { return };
        let inputs = row_bytes(inputs.iter().copied(), row);
        let outputs = row_bytes(outputs.iter(), row);
        let fits = inputs.len() + outputs.len() <= ROW_BYTES_MAX;
        if fits && self.kept.len() < ROWS_MAX {
            self.kept.push(Kept { at: now, reason, inputs, outputs });
        } else {
            tracing::debug!(bytes = inputs.len(), "a row is not collected: too large, or too many wait");
        }
    }

    /// What was watched since the last time; the profile only if asked for.
    pub(super) fn drain(&mut self, of: (&ModelName, Version), profile: bool, now: Millis) -> Option<Watched> {
        let profile = (profile && self.rows > 0 && !self.columns.is_empty()).then(|| {
            let fresh = self.columns.iter().map(|(_, bins)| Counter::new(bins)).collect();
            let counts: Vec<Counter> = std::mem::replace(&mut self.counts, fresh);
            let counts = counts.into_iter().map(Counts::from).collect();
            let rows = std::mem::take(&mut self.rows);
            Window { span: now.since(std::mem::replace(&mut self.since, now)), rows, counts }
        });
        let kept = std::mem::take(&mut self.kept);
        let is_something = profile.is_some() || !kept.is_empty();
        is_something.then(|| Watched { name: of.0.clone(), version: of.1, profile, kept })
    }
}

impl Watched {
    /// Hands every record to `note`, with its time where it has one of its own.
    pub(crate) fn records(&self, mut note: impl FnMut(Option<Millis>, RecordBody<'_>)) {
        if let Some(window) = &self.profile {
            self.profile(window, &mut note);
        }
        for kept in &self.kept {
            let sample = Sample {
                name: self.name.clone(),
                version: self.version,
                reason: kept.reason,
                inputs: &kept.inputs,
                outputs: &kept.outputs,
            };
            note(Some(kept.at), RecordBody::Sample(sample));
        }
    }

    /// As few records as hold the columns.
    fn profile(&self, window: &Window, note: &mut impl FnMut(Option<Millis>, RecordBody<'_>)) {
        let mut buffer = [0; ROW_BYTES_MAX];
        let (mut first, mut index, mut length) = (0u16, 0u16, 0);
        let mut flush = |first: u16, columns: &[u8]| {
            let (name, version, span, rows) = (self.name.clone(), self.version, window.span, window.rows);
            note(None, RecordBody::Profile(Profile { name, version, span, rows, first, columns }));
        };
        for counts in &window.counts {
            let mut room = buffer.get_mut(length..).unwrap_or_default();
            if append(counts, room).is_err() {
                flush(first, buffer.get(..length).unwrap_or_default());
                (first, length) = (index, 0);
                room = &mut buffer;
            }
            // A column takes at most 34 counters and four floats, far below a record.
            length += append(counts, room).unwrap_or(0);
            index += 1;
        }
        flush(first, buffer.get(..length).unwrap_or_default());
    }
}

/// The row's most probable answer, per mille, where an output is made of probabilities.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
fn certainty(outputs: &[Tensor], row: usize) -> Option<u16> {
    let shares = outputs.iter().find(|output| output.datatype() == DataType::Fp32 && output.shape().len() == 2)?;
    let Data::Fp32(values) = shares.data() else { return None };
    let width = values.len().checked_div(shares.rows())?;
    let row = values.get(row * width..(row + 1) * width)?;
    let (sum, most) = row.iter().fold((0.0f32, 0.0f32), |(sum, most), share| (sum + share, most.max(*share)));
    let is_distribution = width > 1 && (sum - 1.0).abs() < 0.01 && row.iter().all(|share| *share >= 0.0);
    is_distribution.then_some((most * 1000.0) as u16)
}

fn row_bytes<'t>(tensors: impl Iterator<Item = &'t Tensor>, row: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for tensor in tensors {
        let width = tensor.data().len().checked_div(tensor.rows()).unwrap_or(0);
        if let Some(values) = tensor.data().slice(row * width..(row + 1) * width) {
            values.extend_le_bytes(&mut bytes);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use bellwether_protocol::heapless::String as Text;
    use bellwether_protocol::policy::Collect;
    use bellwether_protocol::profile::{Of, columns};

    use super::*;

    fn column(element: u32) -> Column {
        let sample: Vec<f32> = (0..64u8).map(f32::from).collect();
        let bins = Bins::of_sorted(&sample).unwrap();
        let source = Source { side: Side::Input, tensor: 0, of: Of::Element(element) };
        Column { name: Text::try_from("x").unwrap(), source, counts: Counts::new(&bins), bins }
    }

    fn tensor(name: &str, width: usize, values: Vec<f32>) -> Tensor {
        Tensor::new(name.parse().unwrap(), vec![values.len() / width, width], Data::Fp32(values)).unwrap()
    }

    #[test]
    fn a_wide_profile_is_told_in_several_records_in_order() {
        const WIDTH: usize = 300;
        let baseline = (0..WIDTH).map(|element| column(u32::try_from(element).unwrap())).collect();
        let mut watch = Watch::new(baseline, Sampler::new(Collect::default(), 0), Millis(0));
        let rows: Vec<f32> = (0..WIDTH * 100).map(|index| f32::from(u8::try_from(index % 64).unwrap())).collect();
        let (x, y) = (tensor("x", WIDTH, rows), tensor("y", 1, vec![0.0; 100]));
        watch.take(&[&x], &[y], Millis(5));
        let name: ModelName = "digits".parse().unwrap();
        let watched = watch.drain((&name, Version::FIRST), true, Millis(1000)).unwrap();
        let mut next = 0;
        let mut bytes = 0;
        watched.records(|_, body| {
            let RecordBody::Profile(profile) = body else { panic!("{body:?}") };
            assert_eq!((usize::from(profile.first), profile.rows, profile.span), (next, 100, Millis(1000)));
            bytes += profile.columns.len();
            for counts in columns(profile.columns) {
                assert_eq!(counts.unwrap().numbers(), 100);
                next += 1;
            }
        });
        assert_eq!(next, WIDTH);
        assert!(bytes / WIDTH <= 80, "{} bytes a column", bytes / WIDTH);
        assert!(watch.drain((&name, Version::FIRST), true, Millis(2000)).is_none());
    }

    #[test]
    fn sampled_rows_carry_inputs_and_outputs_of_that_row() {
        let collect = Collect { one_in: 2, uncertain_below: 0, rows_per_minute_max: 60 };
        let mut watch = Watch::new(Vec::new(), Sampler::new(collect, 60), Millis(0));
        let (x, y) = (tensor("x", 2, vec![1.0, 2.0, 3.0, 4.0]), tensor("y", 2, vec![0.1, 0.9, 0.2, 0.8]));
        assert_eq!(certainty(std::slice::from_ref(&y), 1), Some(800));
        watch.take(&[&x], &[y], Millis(7));
        let name: ModelName = "digits".parse().unwrap();
        let watched = watch.drain((&name, Version::FIRST), false, Millis(8)).unwrap();
        let mut seen = 0;
        watched.records(|at, body| {
            let RecordBody::Sample(sample) = body else { panic!("{body:?}") };
            let expected = [3.0f32.to_le_bytes(), 4.0f32.to_le_bytes()].concat();
            assert_eq!((at, sample.inputs, sample.outputs.len()), (Some(Millis(7)), expected.as_slice(), 8));
            seen += 1;
        });
        assert_eq!(seen, 1);
    }
}
