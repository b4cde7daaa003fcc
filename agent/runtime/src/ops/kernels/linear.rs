//! Products of rows with fixed weights: dense layers, convolutions, the gates of recurrent layers.
//!
//! ```text
//!  rows    each a list of segments of one length in a slice, together `depth` numbers
//!  weights panels of 16 outputs: [panels][depth][16], the last one filled up with zeros
//!  out     [rows][width], each bias + row · weights (or what was there + …), within the clamp
//! ```
//!
//! Six rows by 16 outputs are summed in registers; a single row is multiplied with four panels at a
//! time, since one would wait for its own sums.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "lengths are checked by `Linear::apply`; vectors must not cross calls; registers are counted by hand"
)]

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f32x8};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::ensure;

use super::{Clamp, count};

/// Outputs of a panel.
const PANEL: usize = 16;
/// Rows that are summed together.
const BLOCK: usize = 6;
/// Numbers that stay near while others pass: half of a small first-level cache.
const NEAR: usize = 4096;
/// Segments that are gathered are shorter than this.
const SHORT: usize = 64;

/// Two vectors: the outputs of one panel.
type Pair<S> = [f32x8<S>; 2];

/// Weights and bias, packed for [`Linear::apply`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Linear {
    depth: usize,
    width: usize,
    panels: Vec<f32>,
    bias: Vec<f32>,
    clamp: Clamp,
}

/// Where rows begin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Starts<'a> {
    /// One after another, this far from each other.
    Every(usize),
    /// At these places.
    At(&'a [usize]),
}

impl Starts<'_> {
    #[inline(always)]
    fn at(self, row: usize) -> usize {
        match self {
            Self::Every(step) => row * step,
            Self::At(list) => list[row],
        }
    }
}

/// What is multiplied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    /// All numbers.
    pub(crate) data: &'a [f32],
    /// How many rows.
    pub(crate) rows: usize,
    /// Where they begin.
    pub(crate) starts: Starts<'a>,
    /// Where the segments of a row are, from its beginning.
    pub(crate) segments: &'a [usize],
    /// Length of a segment.
    pub(crate) length: usize,
}

impl<'a> Source<'a> {
    /// Rows of `depth` numbers, one after another.
    pub(crate) const fn rows(data: &'a [f32], rows: usize, depth: usize) -> Self {
        Self { data, rows, starts: Starts::Every(depth), segments: &[0], length: depth }
    }
}

impl Linear {
    /// Packs weights `[depth, width]`, row-major.
    ///
    /// # Errors
    ///
    /// Lengths that do not agree.
    pub(crate) fn new(weights: &[f32], width: usize, bias: Option<&[f32]>, clamp: Clamp) -> TractResult<Self> {
        ensure!(width > 0 && weights.len().is_multiple_of(width), "{} weights for {width} outputs", weights.len());
        ensure!(bias.is_none_or(|bias| bias.len() == width), "a bias of another length than {width}");
        let depth = weights.len() / width;
        let parts = width.div_ceil(PANEL);
        let mut panels = vec![0.0; count(&[parts, depth, PANEL])?];
        for (part, panel) in panels.chunks_exact_mut((depth * PANEL).max(1)).enumerate() {
            let first = part * PANEL;
            let taken = PANEL.min(width - first);
            for (to, from) in panel.chunks_exact_mut(PANEL).zip(weights.chunks_exact(width)) {
                to[..taken].copy_from_slice(&from[first..first + taken]);
            }
        }
        let mut padded = bias.map_or_else(Vec::new, <[f32]>::to_vec);
        padded.resize(parts * PANEL, 0.0);
        Ok(Self { depth, width, panels, bias: padded, clamp })
    }

    /// How many numbers a row has.
    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    /// How many numbers come out for a row.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    /// Multiplies; `adds` says that the result is added to what is in `out` instead of the bias.
    ///
    /// # Errors
    ///
    /// Rows that reach beyond the data, or an `out` of another length.
    pub(crate) fn apply(&self, source: &Source<'_>, adds: bool, out: &mut [f32]) -> TractResult<()> {
        let Source { data, rows, starts, segments, length } = *source;
        ensure!(segments.len() * length == self.depth, "rows of {} × {length}, not {}", segments.len(), self.depth);
        ensure!(rows.checked_mul(self.width) == Some(out.len()), "{rows} rows into {} numbers", out.len());
        let reach = segments.iter().max().map_or(0, |last| last.saturating_add(length));
        let last = match starts {
            Starts::Every(step) => rows.saturating_sub(1).saturating_mul(step),
            Starts::At(list) => {
                ensure!(list.len() == rows, "{} places for {rows} rows", list.len());
                list.iter().copied().max().unwrap_or(0)
            }
        };
        ensure!(rows == 0 || last.saturating_add(reach) <= data.len(), "rows reach beyond {} numbers", data.len());
        if self.depth == 0 || rows == 0 {
            if !adds {
                out.chunks_exact_mut(self.width).for_each(|row| row.copy_from_slice(&self.bias[..self.width]));
            }
            return Ok(());
        }
        dispatch!(Level::new(), simd => product(simd, self, source, adds, out));
        Ok(())
    }
}

#[inline(always)]
fn product<S: Simd>(simd: S, linear: &Linear, source: &Source<'_>, adds: bool, out: &mut [f32]) {
    let parts = linear.panels.len() / (linear.depth * PANEL);
    // Panels that stay near while rows pass, and rows that stay near while panels pass.
    let together = (NEAR / (linear.depth * PANEL)).max(1);
    let near = (NEAR / linear.depth / BLOCK).max(1) * BLOCK;
    let mut gathered = Vec::new();
    let mut first = 0;
    while first < source.rows {
        let end = source.rows.min(first + near);
        if end - first == 1 {
            single(simd, linear, source, first, adds, out);
            first = end;
            continue;
        }
        let mut part = 0;
        while part < parts {
            let many = part..parts.min(part + together);
            let mut row = first;
            while row < end {
                let mut job = Job { linear, source, row, parts: many.clone(), adds, gathered: &mut gathered };
                row += match end - row {
                    BLOCK.. => block::<S, BLOCK>(simd, &mut job, out),
                    5 => block::<S, 5>(simd, &mut job, out),
                    4 => block::<S, 4>(simd, &mut job, out),
                    3 => block::<S, 3>(simd, &mut job, out),
                    2 => block::<S, 2>(simd, &mut job, out),
                    _ => block::<S, 1>(simd, &mut job, out),
                };
            }
            part = many.end;
        }
        first = end;
    }
}

/// Rows from `row` on with some panels.
struct Job<'a> {
    linear: &'a Linear,
    source: &'a Source<'a>,
    row: usize,
    parts: Range<usize>,
    adds: bool,
    /// Room for rows whose segments are short.
    gathered: &'a mut Vec<f32>,
}

/// Sums `R` rows with panels; gives `R`.
#[inline(always)]
fn block<S: Simd, const R: usize>(simd: S, job: &mut Job<'_>, out: &mut [f32]) -> usize {
    simd.vectorize(
        #[inline(always)]
        || {
            let Source { data, starts, segments, length, .. } = *job.source;
            let (linear, depth) = (job.linear, job.linear.depth);
            let mut from = [0; R];
            for r in 0..R {
                from[r] = starts.at(job.row + r);
            }
            let is_gathered = segments.len() > 1 && length < SHORT;
            if is_gathered {
                job.gathered.clear();
                for r in 0..R {
                    for segment in segments {
                        job.gathered.extend_from_slice(&data[from[r] + segment..][..length]);
                    }
                    from[r] = r * depth;
                }
            }
            let (data, segments, length) =
                if is_gathered { (job.gathered.as_slice(), &[0][..], depth) } else { (data, segments, length) };
            let mut rows: [&[f32]; R] = [&[]; R];
            for r in 0..R {
                rows[r] = &data[from[r]..];
            }
            for part in job.parts.clone() {
                let (weights, _) = linear.panels[part * depth * PANEL..][..depth * PANEL].as_chunks::<PANEL>();
                let taken = PANEL.min(linear.width - part * PANEL);
                let place = job.row * linear.width + part * PANEL;
                let mut sums = [load(simd, &linear.bias[part * PANEL..]); R];
                if job.adds {
                    for r in 0..R {
                        sums[r] = load_some(simd, &out[place + r * linear.width..][..taken]);
                    }
                }
                for (segment, weights) in segments.iter().zip(weights.chunks_exact(length)) {
                    sums = summed(simd, &rows, *segment, weights, sums);
                }
                for r in 0..R {
                    store(clamped(simd, sums[r], linear.clamp), &mut out[place + r * linear.width..][..taken]);
                }
            }
        },
    );
    R
}

/// Adds a segment of each row times its weights.
#[inline(always)]
fn summed<S: Simd, const R: usize>(
    simd: S,
    rows: &[&[f32]; R],
    segment: usize,
    weights: &[[f32; PANEL]],
    mut sums: [Pair<S>; R],
) -> [Pair<S>; R] {
    let mut values: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        values[r] = &rows[r][segment..][..weights.len()];
    }
    for k in 0..weights.len() {
        let [left, right] = load_panel(simd, &weights[k]);
        for r in 0..R {
            let value = f32x8::splat(simd, values[r][k]);
            sums[r] = [value.mul_add(left, sums[r][0]), value.mul_add(right, sums[r][1])];
        }
    }
    sums
}

/// Sums one row with all panels, four at a time.
#[inline(always)]
fn single<S: Simd>(simd: S, linear: &Linear, source: &Source<'_>, row: usize, adds: bool, out: &mut [f32]) {
    const TOGETHER: usize = 4;
    let parts = linear.panels.len() / (linear.depth * PANEL);
    let mut part = 0;
    while part + TOGETHER <= parts {
        four(simd, linear, source, row, part, adds, out);
        part += TOGETHER;
    }
    if part < parts {
        let mut job = Job { linear, source, row, parts: part..parts, adds, gathered: &mut Vec::new() };
        block::<S, 1>(simd, &mut job, out);
    }
}

#[expect(clippy::too_many_arguments, reason = "what the loop works on, each of them plain")]
#[inline(always)]
fn four<S: Simd>(simd: S, linear: &Linear, source: &Source<'_>, row: usize, part: usize, adds: bool, out: &mut [f32]) {
    const P: usize = 4;
    simd.vectorize(
        #[inline(always)]
        || {
            let size = linear.depth * PANEL;
            let start = source.starts.at(row);
            let to = &mut out[row * linear.width + part * PANEL..];
            let (mut sums, mut panels) = ([load(simd, &linear.bias); P], [&[][..]; P]);
            for p in 0..P {
                panels[p] = &linear.panels[(part + p) * size..][..size].as_chunks::<PANEL>().0[..linear.depth];
                sums[p] = load(simd, &linear.bias[(part + p) * PANEL..]);
                if adds {
                    sums[p] = load_some(simd, &to[p * PANEL..][..PANEL.min(to.len() - p * PANEL)]);
                }
            }
            for (index, segment) in source.segments.iter().enumerate() {
                let values = &source.data[start + segment..][..source.length];
                let mut weights = [&[][..]; P];
                for p in 0..P {
                    weights[p] = &panels[p][index * source.length..][..values.len()];
                }
                for k in 0..values.len() {
                    let value = f32x8::splat(simd, values[k]);
                    for p in 0..P {
                        let [left, right] = load_panel(simd, &weights[p][k]);
                        sums[p] = [value.mul_add(left, sums[p][0]), value.mul_add(right, sums[p][1])];
                    }
                }
            }
            for p in 0..P {
                let taken = PANEL.min(linear.width - (part + p) * PANEL);
                store(clamped(simd, sums[p], linear.clamp), &mut to[p * PANEL..][..taken]);
            }
        },
    );
}

#[inline(always)]
fn load<S: Simd>(simd: S, from: &[f32]) -> Pair<S> {
    [f32x8::from_slice(simd, &from[..8]), f32x8::from_slice(simd, &from[8..PANEL])]
}

/// As [`load`]; written so that the compiler does not take a way through memory.
#[inline(always)]
fn load_panel<S: Simd>(simd: S, from: &[f32; PANEL]) -> Pair<S> {
    [f32x8::from_fn(simd, |lane| from[lane]), f32x8::from_fn(simd, |lane| from[lane + 8])]
}

/// The first numbers of a panel, which may be its last ones.
#[inline(always)]
fn load_some<S: Simd>(simd: S, from: &[f32]) -> Pair<S> {
    let mut whole = [0.0; PANEL];
    whole[..from.len()].copy_from_slice(from);
    load(simd, &whole)
}

#[inline(always)]
fn clamped<S: Simd>(simd: S, pair: Pair<S>, clamp: Clamp) -> Pair<S> {
    let (low, high) = (f32x8::splat(simd, clamp.low), f32x8::splat(simd, clamp.high));
    // In this order a processor with SSE or AVX passes a NaN on.
    [high.min(low.max(pair[0])), high.min(low.max(pair[1]))]
}

#[inline(always)]
fn store<S: Simd>(pair: Pair<S>, to: &mut [f32]) {
    if to.len() == PANEL {
        pair[0].store_slice(&mut to[..8]);
        pair[1].store_slice(&mut to[8..]);
        return;
    }
    let (mut whole, taken) = ([0.0; PANEL], to.len());
    pair[0].store_slice(&mut whole[..8]);
    pair[1].store_slice(&mut whole[8..]);
    to.copy_from_slice(&whole[..taken]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::curves::tests::numbers;

    fn naive(source: &Source<'_>, weights: &[f32], bias: &[f32], before: &[f32], clamp: Clamp) -> Vec<f32> {
        let width = bias.len();
        let mut out = Vec::new();
        for row in 0..source.rows {
            let values: Vec<f32> = source
                .segments
                .iter()
                .flat_map(|at| source.data[source.starts.at(row) + at..][..source.length].to_vec())
                .collect();
            for column in 0..width {
                let start = before.get(row * width + column).map_or(bias[column], |before| *before);
                let sum = values.iter().enumerate().fold(f64::from(start), |sum, (k, value)| {
                    sum + f64::from(*value) * f64::from(weights[k * width + column])
                });
                #[expect(clippy::cast_possible_truncation, reason = "to compare")]
                out.push((sum as f32).clamp(clamp.low, clamp.high));
            }
        }
        out
    }

    fn near(got: &[f32], want: &[f32]) {
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 1e-4 * (1.0 + want.abs()), "{got} {want}");
        }
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (seed, (rows, depth, width)) in
            [(1, 64, 128), (1, 7, 70), (2, 5, 16), (5, 33, 10), (6, 64, 64), (13, 1, 17), (200, 40, 33), (3, 9, 8)]
                .into_iter()
                .enumerate()
        {
            let (data, weights) = (numbers(seed, rows * depth), numbers(seed + 50, depth * width));
            let bias = numbers(seed + 90, width);
            let clamp = if seed % 2 == 0 { Clamp::default() } else { Clamp { low: 0.0, high: 0.5 } };
            let linear = Linear::new(&weights, width, Some(&bias), clamp).unwrap();
            let source = Source::rows(&data, rows, depth);
            let mut out = vec![0.0; rows * width];
            linear.apply(&source, false, &mut out).unwrap();
            near(&out, &naive(&source, &weights, &bias, &[], clamp));
            let before = numbers(seed + 20, rows * width);
            out.clone_from(&before);
            linear.apply(&source, true, &mut out).unwrap();
            near(&out, &naive(&source, &weights, &bias, &before, clamp));
        }
    }

    #[test]
    fn rows_may_be_scattered_and_must_lie_within_the_data() {
        let (data, weights, bias) = (numbers(1, 100), numbers(2, 6 * 20), numbers(3, 20));
        let linear = Linear::new(&weights, 20, Some(&bias), Clamp::default()).unwrap();
        let starts = [0, 3, 50, 7, 80, 12, 0];
        let source = Source { data: &data, rows: 7, starts: Starts::At(&starts), segments: &[0, 17], length: 3 };
        let mut out = vec![0.0; 7 * 20];
        linear.apply(&source, false, &mut out).unwrap();
        near(&out, &naive(&source, &weights, &bias, &[], Clamp::default()));
        let beyond = Source { segments: &[0, 18], ..source };
        assert!(linear.apply(&beyond, false, &mut out).is_err());
        assert!(linear.apply(&source, false, &mut out[1..]).is_err());
    }

    #[test]
    fn a_number_that_is_none_stays_none() {
        let linear = Linear::new(&[1.0; 2], 2, None, Clamp { low: 0.0, high: 6.0 }).unwrap();
        let mut out = [0.0; 2];
        linear.apply(&Source::rows(&[f32::NAN], 1, 1), false, &mut out).unwrap();
        assert!(out.iter().all(|value| value.is_nan()));
    }
}
