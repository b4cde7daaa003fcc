//! Baselines: bins and counts of a sample, made where the model is prepared.
//!
//! Inputs are counted over a sample of data; outputs over rows held out of training, since a model
//! is surer of what it learnt from than of anything it will see.

use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::String as Text;
use bellwether_protocol::limit::{BASELINE_BYTES_MAX, TEXT_BYTES_MAX};
use bellwether_protocol::manifest::TensorSignature;
use bellwether_protocol::profile::{Baseline, Bins, Column, Counter, Of, Side, Source, append};

use crate::columns::{columns, value};
use crate::sample::Sample;
use crate::{ScoreError, Scorer, Tensor};

/// Rows scored at once for the outputs.
const BLOCK_ROWS: usize = 256;

/// What a baseline is made from.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// A sample of data, for the inputs.
    pub inputs: Option<Sample>,
    /// Rows held out of training, for the outputs.
    pub held_out: Option<Sample>,
}

impl Samples {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.inputs.is_none() && self.held_out.is_none()
    }
}

/// Makes the file of a package.
///
/// # Errors
///
/// [`ScoreError`] if the model does not take the held-out rows.
pub fn make(scorer: &mut dyn Scorer, samples: &Samples) -> Result<Vec<u8>, ScoreError> {
    let signature = scorer.signature().clone();
    let outputs = samples.held_out.as_ref().map(|sample| score(scorer, sample)).transpose()?;
    let names = samples.inputs.as_ref().and_then(|sample| sample.names.as_deref());
    let mut bytes = vec![0; BASELINE_BYTES_MAX];
    let (mut length, mut count) = (0, 0u16);
    for (name, source) in columns(&signature) {
        let tensors = match source.side {
            Side::Input => samples.inputs.as_ref().map(|sample| sample.inputs.as_slice()),
            Side::Output => outputs.as_deref(),
        };
        let Some(tensor) = tensors.and_then(|tensors| tensors.get(usize::from(source.tensor))) else { continue };
        let given = match (source.side, source.of) {
            (Side::Input, Of::Element(element)) => names.and_then(|names| names.get(element as usize)),
            _ => None,
        };
        let Some(column) = column(given.unwrap_or(&name), source, tensor) else { continue };
        let room = bytes.get_mut(length..).unwrap_or_default();
        length += append(&column, room).map_err(|_| ScoreError::Failed("the baseline has too many columns".into()))?;
        count += 1;
    }
    bytes.truncate(length);
    let mut file = vec![0; bytes.len() + 16];
    let written = frame::encode(&Baseline { columns: count, bytes: &bytes }, &mut file);
    let written = written.map_err(|why| ScoreError::Failed(why.to_string()))?.len();
    file.truncate(written);
    Ok(file)
}

/// Reads the file of a package whose model has this signature.
///
/// # Errors
///
/// As [`Baseline::read`]; [`Reject::TensorMismatch`] for a column that the model does not have.
pub fn read(file: &[u8], signature: &TensorSignature) -> Result<Vec<Column>, Reject> {
    let known = columns(signature);
    let found = Baseline::read(file)?.iter().collect::<Result<Vec<Column>, Reject>>()?;
    let is_known = |column: &Column| known.iter().any(|(_, source)| *source == column.source);
    if found.iter().all(is_known) { Ok(found) } else { Err(Reject::TensorMismatch) }
}

fn score(scorer: &mut dyn Scorer, sample: &Sample) -> Result<Vec<Tensor>, ScoreError> {
    let block = match scorer.signature().inputs.first().and_then(|spec| spec.shape.first().copied().flatten()) {
        Some(rows) => (rows as usize).max(1),
        None => BLOCK_ROWS,
    };
    let mut all: Vec<Tensor> = Vec::new();
    let mut start = 0;
    while start < sample.rows {
        let end = (start + block).min(sample.rows);
        let inputs: Vec<Tensor> = sample.inputs.iter().filter_map(|input| input.row_range(start..end)).collect();
        for (index, output) in scorer.run(&inputs)?.into_iter().enumerate() {
            match all.get_mut(index) {
                Some(before) => before.extend_rows(&output),
                None => all.push(output),
            }
        }
        start = end;
    }
    Ok(all)
}

/// The column of a sample; `None` if it has not one number.
fn column(name: &str, source: Source, tensor: &Tensor) -> Option<Column> {
    let values: Vec<Option<f32>> = (0..tensor.rows()).map(|row| value(tensor, row, source.of)).collect();
    let mut sorted: Vec<f32> = values.iter().flatten().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    let bins = Bins::of_sorted(&sorted)?;
    let mut counts = Counter::new(&bins);
    for value in values {
        match value {
            Some(value) => counts.take(&bins, value),
            None => counts.take_null(),
        }
    }
    let mut short: Text<TEXT_BYTES_MAX> = Text::new();
    for letter in name.chars().filter(|letter| !letter.is_control()) {
        if short.push(letter).is_err() {
            break;
        }
    }
    if short.is_empty() {
        short.push('?').ok()?;
    }
    Some(Column { name: short, source, bins, counts: counts.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cpu, Data, npz};

    /// The digits as the models take them: those it was trained on, and those held out.
    fn samples(model: &Cpu) -> Samples {
        let arrays = npz::read(include_bytes!("../../../tests/data/digits.npz")).unwrap();
        let Data::Uint8(pixels) = &arrays["images"].data else { panic!("not bytes") };
        let Data::Uint16(held_out) = &arrays["held_out"].data else { panic!("not numbers") };
        let is_held_out = |row: usize| held_out.iter().any(|held| usize::from(*held) == row);
        let sample = |of: bool| {
            let rows: Vec<usize> = (0..1797).filter(|row| is_held_out(*row) == of).collect();
            let data = rows.iter().flat_map(|row| &pixels[row * 64..(row + 1) * 64]);
            let data = Data::Fp32(data.map(|pixel| f32::from(*pixel) / 16.0).collect());
            let name = model.signature().inputs[0].name.clone();
            let tensor = Tensor::new(name, vec![rows.len(), 64], data).unwrap();
            Some(Sample { inputs: vec![tensor], rows: rows.len(), names: None })
        };
        Samples { inputs: sample(false), held_out: sample(true) }
    }

    #[test]
    fn inputs_come_from_the_sample_and_outputs_from_rows_held_out() {
        let mut model = Cpu::load(include_bytes!("../../../tests/data/digits-linear.onnx")).unwrap();
        let samples = samples(&model);
        let file = make(&mut model, &samples).unwrap();
        let columns = read(&file, model.signature()).unwrap();
        assert_eq!(columns.len(), 64 + 1 + 10);
        assert!(columns.iter().take(64).all(|column| column.counts.numbers() == 1437));
        assert!(columns.iter().skip(64).all(|column| column.counts.numbers() == 360));
        let greatest = &columns[64];
        assert_eq!((greatest.source.of, greatest.bins.lower.len()), (Of::Greatest, 10));
        assert!(file.len() < 20_000, "{}", file.len());
        // The first pixel is always dark: one bin, and every other value lies outside.
        assert_eq!(columns[0].bins.lower.as_slice(), [0.0]);
        let none = make(&mut model, &Samples { inputs: None, ..samples }).unwrap();
        assert_eq!(read(&none, model.signature()).unwrap().len(), 11);
    }

    /// The table in tests/data/README.md.
    #[test]
    fn the_models_are_as_right_on_held_out_rows_as_their_readme_says() {
        let arrays = npz::read(include_bytes!("../../../tests/data/digits.npz")).unwrap();
        let (Data::Uint8(labels), Data::Uint16(rows)) = (&arrays["labels"].data, &arrays["held_out"].data) else {
            panic!("not the digits")
        };
        let mut labels: Vec<(u16, u8)> = rows.iter().map(|row| (*row, labels[usize::from(*row)])).collect();
        labels.sort_unstable();
        for (model, right) in [
            (include_bytes!("../../../tests/data/digits-linear.onnx").as_slice(), 348),
            (include_bytes!("../../../tests/data/digits-cnn.onnx").as_slice(), 359),
            (include_bytes!("../../../tests/data/digits-cnn-wide.onnx").as_slice(), 360),
            (include_bytes!("../../../tests/data/digits-cnn-int8.onnx").as_slice(), 359),
        ] {
            let mut model = Cpu::load(model).unwrap();
            let held_out = samples(&model).held_out.unwrap();
            let answers = score(&mut model, &held_out).unwrap();
            let told = |row: usize| value(&answers[0], row, Of::Greatest).unwrap();
            let found = labels.iter().enumerate().filter(|(row, (_, label))| told(*row) == f32::from(*label)).count();
            assert_eq!(found, right);
        }
    }

    #[test]
    fn a_baseline_of_another_model_is_refused() {
        let mut model = Cpu::load(include_bytes!("../../../tests/data/digits-linear.onnx")).unwrap();
        let samples = samples(&model);
        let file = make(&mut model, &samples).unwrap();
        let other = TensorSignature { inputs: model.signature().inputs.clone(), ..TensorSignature::default() };
        assert_eq!(read(&file, &other).err(), Some(Reject::TensorMismatch));
        assert_eq!(read(&file[..file.len() - 1], model.signature()).err(), Some(Reject::Malformed));
    }
}
