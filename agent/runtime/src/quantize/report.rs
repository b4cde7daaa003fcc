//! What quantising did: scales and errors of every layer, and how the answers changed on rows that did not calibrate.

use serde::Serialize;

use super::plan::Kept;
use super::probe::{Probe, cut};
use super::scale::{Range, Scale};
use super::{QuantizeError, Rows};
use crate::Tensor;

/// What was done, and what it costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// How ranges were taken.
    pub calibrate: &'static str,
    /// Rows that ranges were taken from.
    pub calibration_rows: usize,
    /// Rows that answers and errors were compared on: others, and of these as many as fill whole blocks.
    pub judged_rows: usize,
    /// Layers that are computed on integers.
    pub layers: Vec<LayerReport>,
    /// What stays float, and why.
    pub kept: Vec<Kept>,
    /// How the answers changed.
    pub outputs: Vec<OutputReport>,
    /// Share of right classes, where labels were given.
    pub accuracy: Option<Accuracy>,
    /// Size of the model that was given.
    pub bytes_before: usize,
    /// Size of the quantised one.
    pub bytes_after: usize,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// Its name.
    pub name: String,
    /// Its operators in order, such as `Conv+Relu`.
    pub operator: String,
    /// What it reads.
    pub inputs: Vec<Tensors>,
    /// What it makes.
    pub output: Tensors,
    /// Its weights' scales, where it has weights.
    pub weights: Option<WeightsReport>,
    /// Signal to noise of what it makes against float, in dB; absent where nothing differs.
    pub snr_db: Option<f64>,
}

/// A quantised value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tensors {
    /// Its name.
    pub value: String,
    /// The numbers that the bytes stand for, as calibrated.
    #[serde(flatten)]
    pub range: Range,
    /// How they are read.
    #[serde(flatten)]
    pub scale: Scale,
}

/// The scales of a layer's weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WeightsReport {
    /// How many there are.
    pub scales: usize,
    /// The least.
    pub least: f32,
    /// The greatest.
    pub greatest: f32,
}

/// An output before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputReport {
    /// Its name.
    pub name: String,
    /// Share of rows whose greatest number stands at the same place; absent where a row has one number.
    pub agreement: Option<f64>,
    /// The greatest difference.
    pub greatest: f64,
    /// The mean of all differences.
    pub mean: f64,
}

/// Shares of rows whose greatest number is at the place of their label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Of the float model.
    pub before: f64,
    /// Of the quantised one.
    pub after: f64,
}

/// Three models, to be scored on the same rows.
pub(super) struct Judged<'m> {
    /// As it was given.
    pub(super) given: &'m [u8],
    /// The tidy one, with the same values as the quantised.
    pub(super) tidy: &'m [u8],
    /// The quantised one.
    pub(super) quantised: &'m [u8],
}

/// What came of judging.
pub(super) struct Verdict {
    pub(super) rows: usize,
    /// For each value, in dB.
    pub(super) snr: Vec<Option<f64>>,
    pub(super) outputs: Vec<OutputReport>,
    pub(super) accuracy: Option<Accuracy>,
}

/// Scores the rows that judge; `tell` hears how many were scored.
pub(super) fn judge(
    models: &Judged<'_>,
    values: &[String],
    outputs: &[String],
    rows: &Rows,
    tell: &mut dyn FnMut(usize),
) -> Result<Verdict, QuantizeError> {
    let (mut given, mut tidy) = (Probe::new(models.given, outputs)?, Probe::new(models.tidy, values)?);
    let both: Vec<String> = outputs.iter().chain(values).cloned().collect();
    let mut quantised = Probe::new(models.quantised, &both)?;
    let (mut noise, mut counts) = (vec![Noise::default(); values.len()], vec![Counts::default(); outputs.len()]);
    let mut judged = 0;
    for block in tidy.blocks(&rows.judged)? {
        let inputs = cut(&rows.judged, block.clone());
        let got = quantised.values(&inputs)?;
        let (answers, inside) = got.split_at_checked(outputs.len()).unwrap_or((&got, &[]));
        for (noise, (want, got)) in noise.iter_mut().zip(tidy.values(&inputs)?.iter().zip(inside)) {
            noise.add(&want.numbers, &got.numbers);
        }
        let labels = rows.labels.as_ref().and_then(|labels| labels.get(block.clone()));
        for (counts, (want, got)) in counts.iter_mut().zip(given.values(&inputs)?.iter().zip(answers)) {
            counts.add(&want.numbers, &got.numbers, block.len(), labels);
        }
        judged += block.len();
        tell(block.len());
    }
    // Labels tell of the first output with several numbers a row.
    let classes = counts.iter().find(|counts| counts.rows > 0);
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    Ok(Verdict {
        rows: judged,
        snr: noise.iter().map(Noise::decibels).collect(),
        accuracy: classes.filter(|_| rows.labels.is_some()).map(|counts| Accuracy {
            before: share(counts.right_before, counts.rows),
            after: share(counts.right_after, counts.rows),
        }),
        outputs: (outputs.iter().zip(&counts))
            .map(|(name, counts)| OutputReport {
                name: name.clone(),
                agreement: (counts.rows > 0).then(|| share(counts.same, counts.rows)),
                greatest: counts.greatest,
                mean: counts.sum / counts.numbers.max(1) as f64,
            })
            .collect(),
    })
}

/// Powers of a value and of its error.
#[derive(Clone, Copy, Default)]
struct Noise {
    signal: f64,
    noise: f64,
}

impl Noise {
    fn add(&mut self, want: &[f32], got: &[f32]) {
        for (want, got) in want.iter().zip(got) {
            self.signal += f64::from(*want).powi(2);
            self.noise += (f64::from(*want) - f64::from(*got)).powi(2);
        }
    }

    fn decibels(&self) -> Option<f64> {
        (self.signal > 0.0 && self.noise > 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }
}

/// What was counted of an output.
#[derive(Clone, Default)]
struct Counts {
    /// Rows with several numbers.
    rows: usize,
    same: usize,
    right_before: usize,
    right_after: usize,
    numbers: usize,
    greatest: f64,
    sum: f64,
}

impl Counts {
    fn add(&mut self, want: &[f32], got: &[f32], rows: usize, labels: Option<&[i64]>) {
        for (want, got) in want.iter().zip(got) {
            let apart = (f64::from(*want) - f64::from(*got)).abs();
            self.greatest = self.greatest.max(apart);
            self.sum += apart;
            self.numbers += 1;
        }
        let width = want.len() / rows.max(1);
        if width < 2 {
            return;
        }
        for (row, (want, got)) in want.chunks(width).zip(got.chunks(width)).enumerate() {
            let (before, after) = (largest(want), largest(got));
            let label = labels.and_then(|labels| usize::try_from(*labels.get(row)?).ok());
            self.rows += 1;
            self.same += usize::from(before == after);
            self.right_before += usize::from(label == Some(before));
            self.right_after += usize::from(label == Some(after));
        }
    }
}

/// The first place of the greatest number.
fn largest(row: &[f32]) -> usize {
    let places = row.iter().enumerate().rev();
    places.max_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(place, _)| place)
}

/// Whether an input holds a number that cannot be calibrated with: its name and row.
pub(super) fn unlawful(rows: &[Tensor]) -> Option<(String, usize)> {
    rows.iter().find_map(|tensor| {
        let width = (tensor.data().len() / tensor.rows().max(1)).max(1);
        let is_unlawful = |at: &usize| tensor.data().number(*at).is_some_and(|number| !number.is_finite());
        (0..tensor.data().len()).find(is_unlawful).map(|at| (tensor.name.to_string(), at / width))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_told_against_the_signal() {
        let mut noise = Noise::default();
        noise.add(&[3.0, 4.0], &[3.0, 4.5]);
        assert!((noise.decibels().unwrap() - 20.0).abs() < 1e-9);
        assert_eq!(Noise::default().decibels(), None);
    }

    #[test]
    fn rows_are_counted_by_their_greatest_number() {
        let mut counts = Counts::default();
        counts.add(&[0.1, 0.9, 0.8, 0.2], &[0.2, 0.8, 0.4, 0.6], 2, Some(&[1, 0]));
        assert_eq!((counts.rows, counts.same, counts.right_before, counts.right_after), (2, 1, 2, 1));
        assert!((counts.greatest - 0.4).abs() < 1e-6);
        let mut alone = Counts::default();
        alone.add(&[0.1, 0.9], &[0.2, 0.8], 2, None);
        assert_eq!((alone.rows, alone.numbers), (0, 2));
        assert_eq!(largest(&[1.0, 2.0, 2.0]), 1, "the first of equals");
    }
}
