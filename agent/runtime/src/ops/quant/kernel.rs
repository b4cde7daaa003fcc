//! Products of rows with a stored matrix: numbers of 16 bits (bytes less their zero points) in pairs,
//! sums of 32 bits.
//!
//! ```text
//!             panel: 16 columns, a pair of rows at a time
//!             [b00 b10][b01 b11] .. [b0f b1f]   one vector or two
//!  row  [a0 a1] x 16       multiply and add neighbours: one instruction
//! ```
//!
//! Compiled for each vector width that a processor may have, and chosen at run time.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_sign_loss,
    reason = "slices are cut to one length before the loops, so that no bound is looked at within them"
)]

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, i16x16, i32x8};

use super::number::{Quantised, Target};

/// Columns of a panel.
pub(super) const LANES: usize = 16;
/// Half a panel: what a vector of 256 bits holds.
const HALF: usize = LANES / 2;
/// Rows that are multiplied at once: with the sums of two vectors for each, what fits into registers.
const ROWS: usize = 4;
/// Numbers of the rows that stay near while panels pass: half of a small first-level cache.
const NEAR: usize = 8192;
/// What may be written after the last row: whoever lays short parts one after another, each over the
/// rest of the last, writes so many numbers at a time.
pub(super) const SLACK: usize = 8;

/// The numbers of one pair of rows in the columns of a panel, or sums of them.
pub(super) type Pairs = [[i32; HALF]; 2];

/// Two numbers of 16 bits, the first one in the low half.
#[inline(always)]
fn pair(first: i16, second: i16) -> i32 {
    i32::from(first as u16) | (i32::from(second) << 16)
}

/// How many pairs hold so many numbers: one at least.
fn pairs(depth: usize) -> usize {
    depth.div_ceil(2).max(1)
}

/// Numbers from one row of so many to the next: the last one does not count where they are odd.
pub(super) fn pitch(depth: usize) -> usize {
    2 * pairs(depth)
}

/// The panels of a matrix of `depth` rows and so many columns, of which `at` tells the numbers.
pub(super) fn panels(depth: usize, columns: usize, at: impl Fn(usize, usize) -> i16) -> Vec<Pairs> {
    let number = |row: usize, column: usize| if row < depth && column < columns { at(row, column) } else { 0 };
    let mut all = Vec::with_capacity(columns.div_ceil(LANES) * pairs(depth));
    for first in (0..columns).step_by(LANES) {
        for row in (0..2 * pairs(depth)).step_by(2) {
            let one = |column: usize| pair(number(row, column), number(row + 1, column));
            all.push([
                std::array::from_fn(|lane| one(first + lane)),
                std::array::from_fn(|lane| one(first + HALF + lane)),
            ]);
        }
    }
    all
}

/// What a sum is kept as.
pub(super) trait Kept: Copy + Default {
    /// Of a sum with its bias, in the units of the output.
    fn keep(sum: i32, scale: f32, shift: f32, target: Target) -> Self;
}

impl Kept for i32 {
    #[inline(always)]
    fn keep(sum: i32, _scale: f32, _shift: f32, _target: Target) -> Self {
        sum
    }
}

impl Kept for f32 {
    #[inline(always)]
    fn keep(sum: i32, scale: f32, shift: f32, target: Target) -> Self {
        let real = sum as Self * scale + shift;
        let above = if real > target.low { real } else { target.low };
        if above < target.high { above } else { target.high }
    }
}

macro_rules! kept_quantised {
    ($($kind:ty),*) => {$(
        impl Kept for $kind {
            #[inline(always)]
            fn keep(sum: i32, scale: f32, shift: f32, target: Target) -> Self {
                target.number::<Self>(sum as f32 * scale + shift)
            }
        }
    )*};
}

kept_quantised!(u8, i8);

/// What becomes of sums: `(sum + bias) * scale + shift`, then as the target says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finish {
    /// Added to the sums of each column.
    pub(super) bias: Vec<i32>,
    /// Units of the output in one of the sum.
    pub(super) scale: Vec<f32>,
    /// Added after that.
    pub(super) shift: Vec<f32>,
    /// Range and zero point of an output that is quantised, or range of one of floats.
    pub(super) target: Target,
}

impl Finish {
    /// That of some of the columns, for whole panels of them.
    pub(super) fn part(&self, columns: &Range<usize>) -> Self {
        let padded = columns.len().next_multiple_of(LANES);
        let mut part = Self {
            bias: self.bias[columns.clone()].to_vec(),
            scale: self.scale[columns.clone()].to_vec(),
            shift: self.shift[columns.clone()].to_vec(),
            target: self.target,
        };
        part.bias.resize(padded, 0);
        part.scale.resize(padded, 1.0);
        part.shift.resize(padded, 0.0);
        part
    }

    /// For the columns of one panel.
    #[inline(always)]
    pub(super) fn of_panel(&self, index: usize) -> Ending<'_> {
        Ending {
            bias: &self.bias.as_chunks().0[index],
            scale: &self.scale.as_chunks().0[index],
            shift: &self.shift.as_chunks().0[index],
            target: self.target,
        }
    }
}

/// A [`Finish`] of the columns of one panel.
pub(super) struct Ending<'a> {
    bias: &'a [i32; LANES],
    scale: &'a [f32; LANES],
    shift: &'a [f32; LANES],
    target: Target,
}

impl Ending<'_> {
    /// Keeps the sums of the columns that there are: with one vector of them, at most half of them.
    #[inline(always)]
    pub(super) fn keep<S: Simd, T: Kept, const N: usize>(&self, sums: [i32x8<S>; N], out: &mut [T]) {
        if let (2, Some(out)) = (N, out.first_chunk_mut::<LANES>()) {
            let sums: Pairs = [sums[0].into(), sums[N - 1].into()];
            return self.lanes(0, sums.as_flattened(), out);
        }
        for half in 0..N {
            let first = out.len().min(half * HALF);
            let out = &mut out[first..];
            let sums: [i32; HALF] = sums[half].into();
            match out.first_chunk_mut::<HALF>() {
                Some(out) => self.lanes(half * HALF, &sums, out),
                None => self.lanes(half * HALF, &sums, out),
            }
        }
    }

    /// Keeps neighbouring sums: how many is known where this is compiled, but for the last ones.
    #[inline(always)]
    fn lanes<T: Kept>(&self, first: usize, sums: &[i32], out: &mut [T]) {
        let count = out.len();
        let (bias, sums) = (&self.bias[first..][..count], &sums[..count]);
        let (scale, shift) = (&self.scale[first..][..count], &self.shift[first..][..count]);
        for lane in 0..count {
            out[lane] = T::keep(sums[lane].wrapping_add(bias[lane]), scale[lane], shift[lane], self.target);
        }
    }
}

/// A stored matrix of `[depth, columns]`, in panels.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    depth: usize,
    columns: usize,
    panels: Vec<Pairs>,
}

impl Matrix {
    /// The matrix of which `at` tells the number of a row and a column.
    pub(super) fn of(depth: usize, columns: usize, at: impl Fn(usize, usize) -> i16) -> Self {
        Self { depth, columns, panels: panels(depth, columns, at) }
    }

    /// Multiplies so many rows. `lay` writes some of them, a pitch apart; the columns go to those of
    /// `out` from `column` on, whose rows are `width` numbers long.
    pub(super) fn multiply<T: Kept>(
        &self,
        rows: usize,
        lay: &mut dyn FnMut(Range<usize>, &mut [i16]),
        finish: &Finish,
        out: &mut [T],
        (width, column): (usize, usize),
    ) {
        let pitch = pitch(self.depth);
        let many = (NEAR / pitch / ROWS * ROWS).max(ROWS).min(rows);
        let mut near = vec![0; many * pitch + SLACK];
        let columns = column..column + self.columns;
        for (index, out) in out.chunks_mut((many * width).max(1)).enumerate() {
            let first = index * many;
            let range = first..rows.min(first + many);
            let laid = range.len() * pitch;
            lay(range, &mut near);
            dispatch!(Level::new(), simd => multiply(simd, self, &near[..laid], finish, out, (width, &columns)));
        }
    }
}

#[inline(always)]
fn multiply<S: Simd, T: Kept>(
    simd: S,
    matrix: &Matrix,
    rows: &[i16],
    finish: &Finish,
    out: &mut [T],
    (width, columns): (usize, &Range<usize>),
) {
    let depth = pairs(matrix.depth);
    let rows = rows.as_chunks::<2>().0;
    for (index, panel) in matrix.panels.chunks_exact(depth).enumerate() {
        let ending = finish.of_panel(index);
        let columns = columns.start + index * LANES..columns.end.min(columns.start + (index + 1) * LANES);
        let (mut rows, mut outs) = (rows.chunks_exact(depth * ROWS), out.chunks_exact_mut(width * ROWS));
        let is_wide = columns.len() > HALF;
        for (rows, out) in (&mut rows).zip(&mut outs) {
            if is_wide {
                tile::<S, T, ROWS, 2>(simd, rows, panel, &ending, out, (width, &columns));
            } else {
                tile::<S, T, ROWS, 1>(simd, rows, panel, &ending, out, (width, &columns));
            }
        }
        for (row, out) in rows.remainder().chunks_exact(depth).zip(outs.into_remainder().chunks_exact_mut(width)) {
            tile::<S, T, 1, 2>(simd, row, panel, &ending, out, (width, &columns));
        }
    }
}

/// Numbers less their zero point.
pub(super) fn centre<Q: Quantised>(from: &[Q], zero: i16, to: &mut [i16])
where
    i16: From<Q>,
{
    dispatch!(Level::new(), simd => simd.vectorize(
        #[inline(always)]
        || to.iter_mut().zip(from).for_each(|(to, from)| *to = i16::from(*from).wrapping_sub(zero)),
    ));
}

/// Some rows times so many vectors of one panel.
#[inline(always)]
fn tile<S: Simd, T: Kept, const R: usize, const N: usize>(
    simd: S,
    rows: &[[i16; 2]],
    panel: &[Pairs],
    ending: &Ending<'_>,
    out: &mut [T],
    (width, columns): (usize, &Range<usize>),
) {
    let depth = panel.len();
    let rows: [&[[i16; 2]]; R] = std::array::from_fn(|row| &rows[row * depth..][..depth]);
    let mut sums = [[i32x8::splat(simd, 0); N]; R];
    for at in 0..depth {
        let columns = vectors(simd, &panel[at]);
        for row in 0..R {
            let [first, second] = rows[row][at];
            let number: i16x16<S> = i32x8::splat(simd, pair(first, second)).bitcast();
            for half in 0..N {
                sums[row][half] += number.pairwise_dot_product(columns[half]);
            }
        }
    }
    for row in 0..R {
        ending.keep(sums[row], &mut out[row * width..][columns.clone()]);
    }
}

/// A panel's pair of rows, or what is multiplied with it.
#[inline(always)]
pub(super) fn vectors<S: Simd>(simd: S, [low, high]: &Pairs) -> [i16x16<S>; 2] {
    [i32x8::load_array_ref(simd, low).bitcast(), i32x8::load_array_ref(simd, high).bitcast()]
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the numbers of the tests are small")]
mod tests {
    use super::*;

    #[test]
    fn panels_multiply_as_the_definition_says() {
        for (rows, depth, columns) in [(1, 1, 1), (3, 7, 5), (4, 16, 16), (9, 33, 50), (2, 0, 3), (11, 3000, 17)] {
            let a = |row: usize, at: usize| ((row * 31 + at * 17) % 511) as i16 - 255;
            let b = |at: usize, column: usize| ((column * 13 + at * 29) % 511) as i16 - 255;
            let finish = Finish {
                bias: (0..columns).map(|column| column as i32).collect(),
                scale: vec![1.0; columns],
                shift: vec![0.0; columns],
                target: Target::of::<u8>(0),
            };
            let (width, first) = (columns + 3, 2);
            let mut out = vec![-1; rows * width];
            let pitch = pitch(depth);
            let mut lay = |places: Range<usize>, to: &mut [i16]| {
                for (row, to) in places.zip(to.chunks_exact_mut(pitch)) {
                    // What does not count may be anything.
                    to.fill(77);
                    to.iter_mut().take(depth).enumerate().for_each(|(at, to)| *to = a(row, at));
                }
            };
            let finish = finish.part(&(0..columns));
            Matrix::of(depth, columns, b).multiply(rows, &mut lay, &finish, &mut out, (width, first));
            for row in 0..rows {
                for column in 0..width {
                    let sum = |column: usize| {
                        let sum: i32 = (0..depth).map(|at| i32::from(a(row, at)) * i32::from(b(at, column))).sum();
                        sum + column as i32
                    };
                    let is_made = (first..first + columns).contains(&column);
                    let want = if is_made { sum(column - first) } else { -1 };
                    assert_eq!(out[row * width + column], want, "{rows} {depth} {columns}");
                }
            }
        }
    }
}
