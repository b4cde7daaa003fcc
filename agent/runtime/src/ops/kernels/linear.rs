//! Products of rows with fixed weights: dense layers, convolutions, the gates of recurrent layers.
//!
//! ```text
//!  rows    `depth` numbers each, at the same offsets from where each row begins
//!  weights panels of 16 outputs: [panels][depth][16], the last one filled up with zeros
//!  out     [rows][width], each bias + row · weights (or what was there + …), within the clamp
//! ```
//!
//! Six rows by 16 outputs are summed in registers, or eight by 8; a single row is multiplied with four panels at a
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
/// Numbers of a vector.
const LANES: usize = 8;
/// Rows that are summed together.
const BLOCK: usize = 6;
/// Numbers that stay near while others pass: a small first-level cache.
const NEAR: usize = 8192;

/// Outputs of one panel: two vectors, or one where a panel is half empty.
type Part<S, const W: usize> = [f32x8<S>; W];

/// Weights and bias, packed for [`Linear::apply`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Linear {
    depth: usize,
    width: usize,
    panels: Vec<f32>,
    bias: Vec<f32>,
    clamp: Clamp,
    /// 0, 1, 2 and so on: numbers side by side.
    offsets: Vec<usize>,
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
    /// Of `R` rows from this one on.
    #[inline(always)]
    fn of<const R: usize>(self, row: usize) -> [usize; R] {
        let mut starts = [row; R];
        match self {
            Self::Every(step) => {
                for r in 0..R {
                    starts[r] = (row + r) * step;
                }
            }
            Self::At(list) => starts.copy_from_slice(&list[row..][..R]),
        }
        starts
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
    /// Where the numbers of a row are, from its beginning; side by side if nothing is said.
    pub(crate) offsets: Option<&'a [usize]>,
}

impl<'a> Source<'a> {
    /// Rows of `depth` numbers, one after another.
    pub(crate) const fn rows(data: &'a [f32], rows: usize, depth: usize) -> Self {
        Self { data, rows, starts: Starts::Every(depth), offsets: None }
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
        Ok(Self { depth, width, panels, bias: padded, clamp, offsets: (0..depth).collect() })
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
        let Source { data, rows, starts, offsets } = *source;
        let offsets = offsets.unwrap_or(&self.offsets);
        ensure!(offsets.len() == self.depth, "rows of {}, not {}", offsets.len(), self.depth);
        ensure!(rows.checked_mul(self.width) == Some(out.len()), "{rows} rows into {} numbers", out.len());
        let reach = offsets.iter().max().map_or(0, |last| last.saturating_add(1));
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
        let job = Job { linear: self, data, starts, offsets, reach, adds };
        dispatch!(Level::new(), simd => product(simd, &job, rows, out));
        Ok(())
    }
}

/// What is multiplied with what.
struct Job<'a> {
    linear: &'a Linear,
    data: &'a [f32],
    starts: Starts<'a>,
    offsets: &'a [usize],
    /// Numbers from the beginning of a row to its last one.
    reach: usize,
    adds: bool,
}

#[inline(always)]
fn product<S: Simd>(simd: S, job: &Job<'_>, rows: usize, out: &mut [f32]) {
    let (depth, width) = (job.linear.depth, job.linear.width);
    // Rows that stay near while panels pass, as many each time.
    let most = (NEAR / depth / BLOCK).max(1) * BLOCK;
    let near = rows.div_ceil(rows.div_ceil(most)).next_multiple_of(BLOCK);
    for first in (0..rows).step_by(near) {
        let rows = first..rows.min(first + near);
        let out = &mut out[rows.start * width..rows.end * width];
        if rows.len() == 1 {
            single(simd, job, first, out);
        } else {
            panels(simd, job, 0, rows, out);
        }
    }
}

/// Sums some rows with all panels from the output `from` on.
#[inline(always)]
fn panels<S: Simd>(simd: S, job: &Job<'_>, from: usize, rows: Range<usize>, out: &mut [f32]) {
    for place in (from..job.linear.width).step_by(PANEL) {
        if job.linear.width - place > LANES {
            strip::<S, 2>(simd, job, place, rows.clone(), out);
        } else {
            strip::<S, 1>(simd, job, place, rows.clone(), out);
        }
    }
}

/// Sums some rows with one panel.
#[inline(always)]
fn strip<S: Simd, const W: usize>(simd: S, job: &Job<'_>, place: usize, rows: Range<usize>, out: &mut [f32]) {
    simd.vectorize(
        #[inline(always)]
        || {
            let mut row = rows.start;
            while row < rows.end {
                let at = (row, row - rows.start);
                row += match rows.end - row {
                    // A single vector leaves room for more rows, which then do not wait for their own sums.
                    8.. if W == 1 => block::<S, 8, W>(simd, job, place, at, out),
                    BLOCK.. => block::<S, BLOCK, W>(simd, job, place, at, out),
                    5 => block::<S, 5, W>(simd, job, place, at, out),
                    4 => block::<S, 4, W>(simd, job, place, at, out),
                    3 => block::<S, 3, W>(simd, job, place, at, out),
                    2 => block::<S, 2, W>(simd, job, place, at, out),
                    _ => block::<S, 1, W>(simd, job, place, at, out),
                };
            }
        },
    );
}

/// Sums `R` rows with one panel, from a row of the source and of what comes out on; gives `R`.
#[inline(always)]
fn block<S: Simd, const R: usize, const W: usize>(
    simd: S,
    job: &Job<'_>,
    place: usize,
    (row, to): (usize, usize),
    out: &mut [f32],
) -> usize {
    let Job { linear, data, starts, offsets, reach, adds } = *job;
    let (depth, width) = (linear.depth, linear.width);
    let weights = &linear.panels[place * depth..][..PANEL * depth].as_chunks::<PANEL>().0[..depth];
    let offsets = &offsets[..depth];
    let taken = PANEL.min(width - place);
    let mut values: [&[f32]; R] = [&[]; R];
    let starts: [usize; R] = starts.of(row);
    for r in 0..R {
        values[r] = &data[starts[r]..][..reach];
    }
    let mut sums = [load::<S, W>(simd, &linear.bias[place..]); R];
    if adds {
        for r in 0..R {
            sums[r] = load_some(simd, &out[(to + r) * width + place..][..taken]);
        }
    }
    for k in 0..depth {
        let (panel, at): (Part<S, W>, _) = (load_panel(simd, &weights[k]), offsets[k]);
        for r in 0..R {
            let value = f32x8::splat(simd, values[r][at]);
            for w in 0..W {
                sums[r][w] = value.mul_add(panel[w], sums[r][w]);
            }
        }
    }
    let clamp = [f32x8::splat(simd, linear.clamp.low), f32x8::splat(simd, linear.clamp.high)];
    let out = &mut out[to * width + place..][..(R - 1) * width + taken];
    if taken == W * LANES {
        for r in 0..R {
            let out = &mut out[r * width..][..W * LANES];
            for w in 0..W {
                clamped(clamp, sums[r][w]).store_slice(&mut out[w * LANES..][..LANES]);
            }
        }
    } else {
        for r in 0..R {
            store(clamp, sums[r], &mut out[r * width..][..taken]);
        }
    }
    R
}

/// Sums one row with all panels, four at a time.
#[inline(always)]
fn single<S: Simd>(simd: S, job: &Job<'_>, row: usize, out: &mut [f32]) {
    const TOGETHER: usize = 4 * PANEL;
    let mut place = 0;
    while place + TOGETHER <= job.linear.width.next_multiple_of(PANEL) {
        four(simd, job, row, place, out);
        place += TOGETHER;
    }
    panels(simd, job, place, row..row + 1, out);
}

#[inline(always)]
fn four<S: Simd>(simd: S, job: &Job<'_>, row: usize, place: usize, out: &mut [f32]) {
    const P: usize = 4;
    simd.vectorize(
        #[inline(always)]
        || {
            let Job { linear, data, starts, offsets, reach, adds } = *job;
            let depth = linear.depth;
            let [start] = starts.of(row);
            let values = &data[start..][..reach];
            let (mut sums, mut panels) = ([load::<S, 2>(simd, &linear.bias); P], [&[][..]; P]);
            for p in 0..P {
                let place = place + p * PANEL;
                panels[p] = &linear.panels[place * depth..][..PANEL * depth].as_chunks::<PANEL>().0[..depth];
                sums[p] = load(simd, &linear.bias[place..]);
                if adds {
                    sums[p] = load_some(simd, &out[place..linear.width.min(place + PANEL)]);
                }
            }
            let offsets = &offsets[..depth];
            for k in 0..depth {
                let value = f32x8::splat(simd, values[offsets[k]]);
                for p in 0..P {
                    let [left, right] = load_panel::<S, 2>(simd, &panels[p][k]);
                    sums[p] = [value.mul_add(left, sums[p][0]), value.mul_add(right, sums[p][1])];
                }
            }
            let clamp = [f32x8::splat(simd, linear.clamp.low), f32x8::splat(simd, linear.clamp.high)];
            for p in 0..P {
                let place = place + p * PANEL;
                store(clamp, sums[p], &mut out[place..linear.width.min(place + PANEL)]);
            }
        },
    );
}

#[inline(always)]
fn load<S: Simd, const W: usize>(simd: S, from: &[f32]) -> Part<S, W> {
    let mut part = [f32x8::splat(simd, 0.0); W];
    for w in 0..W {
        part[w] = f32x8::from_slice(simd, &from[w * LANES..(w + 1) * LANES]);
    }
    part
}

/// As [`load`]; written so that the compiler does not take a way through memory.
#[inline(always)]
fn load_panel<S: Simd, const W: usize>(simd: S, from: &[f32; PANEL]) -> Part<S, W> {
    let mut part = [f32x8::splat(simd, 0.0); W];
    for w in 0..W {
        part[w] = f32x8::from_fn(simd, |lane| from[lane + w * LANES]);
    }
    part
}

/// The first numbers of a panel, which may be its last ones.
#[inline(always)]
fn load_some<S: Simd, const W: usize>(simd: S, from: &[f32]) -> Part<S, W> {
    let mut whole = [0.0; PANEL];
    whole[..from.len()].copy_from_slice(from);
    load(simd, &whole)
}

#[inline(always)]
fn clamped<S: Simd>([low, high]: [f32x8<S>; 2], values: f32x8<S>) -> f32x8<S> {
    // In this order a processor with SSE or AVX passes a NaN on.
    high.min(low.max(values))
}

/// Writes the first numbers of a part.
#[inline(always)]
fn store<S: Simd, const W: usize>(clamp: [f32x8<S>; 2], part: Part<S, W>, to: &mut [f32]) {
    let (mut whole, taken) = ([0.0; PANEL], to.len());
    for w in 0..W {
        clamped(clamp, part[w]).store_slice(&mut whole[w * LANES..(w + 1) * LANES]);
    }
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
            let side_by_side: Vec<usize> = (0..weights.len() / width).collect();
            let offsets = source.offsets.unwrap_or(&side_by_side);
            let values: Vec<f32> = offsets.iter().map(|at| source.data[source.starts.of::<1>(row)[0] + at]).collect();
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
        for (seed, (rows, depth, width)) in [
            (1, 64, 128),
            (1, 7, 70),
            (2, 5, 16),
            (5, 33, 10),
            (6, 64, 64),
            (13, 1, 17),
            (200, 40, 33),
            (3, 9, 8),
            (14, 600, 24),
            (1, 300, 70),
        ]
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
        let offsets = [0, 1, 2, 17, 18, 19];
        let source = Source { data: &data, rows: 7, starts: Starts::At(&starts), offsets: Some(&offsets) };
        let mut out = vec![0.0; 7 * 20];
        linear.apply(&source, false, &mut out).unwrap();
        near(&out, &naive(&source, &weights, &bias, &[], Clamp::default()));
        let beyond = Source { offsets: Some(&[0, 1, 2, 18, 19, 20]), ..source };
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
