//! `TfIdfVectorizer` of token numbers: how often each n-gram of a vocabulary occurs.
//!
//! <https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html>

use std::collections::HashMap;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, TDim, TVec, Tensor, TractResult, tvec};
use tract_onnx::tract_core::internal::bail;
use tract_onnx::tract_hir::infer::InferenceOp;

use super::kernel::{Kernel, Known, Made, input, operator};

/// Longest n-gram and widest gap in one.
const REACH_MAX: usize = 64;

pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("TfIdfVectorizer", vectorizer);
}

fn vectorizer(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let Some(pool) = node.get_attr_opt_vec::<i64>("pool_int64s")? else {
        bail!("a vocabulary of strings: give tokens as numbers (pool_int64s)");
    };
    let mode = match node.get_attr::<&str>("mode")? {
        "TF" => Mode::Count,
        "IDF" => Mode::Weight,
        "TFIDF" => Mode::Both,
        other => bail!("mode `{other}` is none of TF, IDF, TFIDF"),
    };
    let sizes =
        [node.get_attr("min_gram_length")?, node.get_attr("max_gram_length")?, node.get_attr("max_skip_count")?];
    let [least, most, skips]: [usize; 3] = sizes;
    if least == 0 || least > most || most > REACH_MAX || skips > REACH_MAX {
        bail!("n-grams of {least} to {most} with gaps up to {skips}: 1 to {REACH_MAX} are supported");
    }
    let starts: Vec<usize> = node.get_attr_vec("ngram_counts")?;
    let columns: Vec<usize> = node.get_attr_vec("ngram_indexes")?;
    let weights = node.get_attr_opt_vec::<f32>("weights")?.unwrap_or_else(|| vec![1.0; columns.len()]);
    if weights.len() != columns.len() {
        bail!("{} weights for {} n-grams", weights.len(), columns.len());
    }
    let width = columns.iter().max().map_or(0, |most| most.saturating_add(1));
    if width > crate::validate::ELEMENTS_MAX.try_into().unwrap_or(usize::MAX) {
        bail!("{width} columns");
    }
    let mut ids = HashMap::new();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(pool.len());
        let Some(grams) = pool.get(*start..end) else { bail!("ngram_counts do not divide {} tokens", pool.len()) };
        for gram in grams.chunks_exact(index + 1) {
            let Some(column) = columns.get(ids.len()) else { bail!("more n-grams than ngram_indexes") };
            let weight = weights.get(ids.len()).map_or(1.0, |weight| *weight);
            ids.insert(gram.to_vec(), (*column, weight.to_bits()));
        }
    }
    Ok((operator(Vectorizer { mode, lengths: (least, most), skips, ids, width }), vec![]))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Count,
    Weight,
    Both,
}

/// Tokens `[C]` or `[N, C]` to one number for each n-gram.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Vectorizer {
    mode: Mode,
    /// Fewest and most tokens of an n-gram.
    lengths: (usize, usize),
    /// The widest gap between two tokens of one.
    skips: usize,
    /// Of each n-gram its column and the bits of its weight.
    ids: HashMap<Vec<i64>, (usize, u32)>,
    width: usize,
}

impl Vectorizer {
    fn count(&self, tokens: &[i64], row: &mut [f32]) {
        let mut gram = Vec::new();
        for length in self.lengths.0..=self.lengths.1 {
            let skips = if length == 1 { 0 } else { self.skips };
            for step in 1..=skips + 1 {
                for start in 0..tokens.len().saturating_sub((length - 1) * step) {
                    gram.clear();
                    gram.extend(tokens.iter().skip(start).step_by(step).take(length));
                    let Some((column, weight)) = self.ids.get(&gram) else { continue };
                    let weight = f32::from_bits(*weight);
                    if let Some(number) = row.get_mut(*column) {
                        match self.mode {
                            Mode::Count => *number += 1.0,
                            Mode::Weight => *number = weight,
                            Mode::Both => *number += weight,
                        }
                    }
                }
            }
        }
    }
}

impl Kernel for Vectorizer {
    const NAME: &'static str = "TfIdfVectorizer";

    fn facts(&self, inputs: &[Known<'_>]) -> TractResult<TVec<Made>> {
        let rows = input(inputs, 0)?.shape.split_last().map_or(&[][..], |(_, rows)| rows);
        let shape = rows.iter().cloned().chain([TDim::from(self.width)]).collect();
        Ok(tvec!((DatumType::F32, shape)))
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let of = input(inputs, 0)?;
        let Some((length, rows)) = of.shape().split_last() else { bail!("a single number is no text") };
        let tokens = of.cast_to::<i64>()?;
        let tokens = tokens.try_as_plain_ram()?;
        let mut made = vec![0.0; rows.iter().product::<usize>() * self.width];
        let texts = tokens.as_slice::<i64>()?.chunks_exact((*length).max(1));
        for (text, row) in texts.zip(made.chunks_exact_mut(self.width.max(1))) {
            self.count(text, row);
        }
        let shape: TVec<usize> = rows.iter().copied().chain([self.width]).collect();
        Ok(tvec!(Tensor::from_shape(&shape, &made)?))
    }
}
