//! Products of integer matrices: numbers of 16 bits (bytes less their zero points) in pairs, sums of
//! 32 bits.
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

use fearless_simd::prelude::*;
use fearless_simd::{Simd, i16x16, i32x8};

use super::number::Target;

/// Columns of a panel.
pub(super) const LANES: usize = 16;
/// Half a panel: what a vector of 256 bits holds.
const HALF: usize = LANES / 2;

/// The numbers of one pair of rows in the columns of a panel, or sums of them.
pub(super) type Pairs = [[i32; HALF]; 2];
/// Rows that are multiplied at once: with the sums of two vectors for each, what fits into registers.
const ROWS: usize = 4;

/// Two numbers of 16 bits, the first one in the low half.
#[inline(always)]
pub(super) fn pair(first: i16, second: i16) -> i32 {
    i32::from(first as u16) | (i32::from(second) << 16)
}

/// How many pairs hold so many numbers: one at least.
pub(super) fn pairs(depth: usize) -> usize {
    depth.div_ceil(2).max(1)
}

/// Rows of `depth` numbers as rows of pairs, the last one filled up with 0.
pub(super) fn paired(numbers: &[i16], depth: usize) -> Vec<i32> {
    let mut rows = Vec::with_capacity(numbers.len().div_ceil(2));
    if depth.is_multiple_of(2) {
        rows.extend(numbers.as_chunks().0.iter().map(|[first, second]| pair(*first, *second)));
        return rows;
    }
    for row in numbers.chunks_exact(depth) {
        let (whole, rest) = row.as_chunks();
        rows.extend(whole.iter().map(|[first, second]| pair(*first, *second)));
        rows.extend(rest.iter().map(|last| pair(*last, 0)));
    }
    rows
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
    /// Whether each row has its own numbers, as in a convolution; else each column has.
    pub(super) is_by_row: bool,
    /// Added to each sum; as many as rows, or as columns of whole panels.
    pub(super) bias: Vec<i32>,
    /// Units of the output in one of the sum.
    pub(super) scale: Vec<f32>,
    /// Added after that.
    pub(super) shift: Vec<f32>,
    /// Range and zero point of an output that is quantised, or range of one of floats.
    pub(super) target: Target,
}

impl Finish {
    #[inline(always)]
    fn finished<T: Kept>(&self, row: usize, column: usize, sums: &Pairs) -> [T; LANES] {
        let mut kept = [T::default(); LANES];
        let (target, sums) = (self.target, sums.as_flattened());
        if self.is_by_row {
            let (bias, scale, shift) = (self.bias[row], self.scale[row], self.shift[row]);
            for (kept, sum) in kept.iter_mut().zip(sums) {
                *kept = T::keep(sum.wrapping_add(bias), scale, shift, target);
            }
            return kept;
        }
        let bias = &self.bias[column..column + LANES];
        let (scale, shift) = (&self.scale[column..column + LANES], &self.shift[column..column + LANES]);
        for lane in 0..LANES {
            kept[lane] = T::keep(sums[lane].wrapping_add(bias[lane]), scale[lane], shift[lane], target);
        }
        kept
    }
}

/// Multiplies rows with one panel; each row's results go to `store`. The first row and column are
/// those of the whole matrix.
#[inline(always)]
pub(super) fn multiply<S: Simd, T: Kept>(
    simd: S,
    rows: &[i32],
    panel: &[Pairs],
    (finish, first, column): (&Finish, usize, usize),
    mut store: impl FnMut(usize, [T; LANES]),
) {
    let depth = panel.len();
    let mut row = first;
    let mut blocks = rows.chunks_exact(depth * ROWS);
    for block in &mut blocks {
        for sums in &tile(simd, block, panel) {
            store(row, finish.finished(row, column, sums));
            row += 1;
        }
    }
    for rest in blocks.remainder().chunks_exact(depth) {
        store(row, finish.finished(row, column, &line(simd, rest, panel)));
        row += 1;
    }
}

/// Sums of some rows with the columns of a panel.
#[inline(always)]
fn tile<S: Simd>(simd: S, rows: &[i32], panel: &[Pairs]) -> [Pairs; ROWS] {
    let depth = panel.len();
    let (a, b, c, d) =
        (&rows[..depth], &rows[depth..][..depth], &rows[2 * depth..][..depth], &rows[3 * depth..][..depth]);
    let mut sums = [[i32x8::splat(simd, 0); 2]; ROWS];
    for ((((columns, a), b), c), d) in panel.iter().zip(a).zip(b).zip(c).zip(d) {
        let columns = vectors(simd, columns);
        sums[0] = summed(simd, sums[0], *a, columns);
        sums[1] = summed(simd, sums[1], *b, columns);
        sums[2] = summed(simd, sums[2], *c, columns);
        sums[3] = summed(simd, sums[3], *d, columns);
    }
    sums.map(|[low, high]| [low.into(), high.into()])
}

/// Sums of one row with the columns of a panel.
#[inline(always)]
fn line<S: Simd>(simd: S, row: &[i32], panel: &[Pairs]) -> Pairs {
    let mut sums = [i32x8::splat(simd, 0); 2];
    for (columns, number) in panel.iter().zip(row) {
        sums = summed(simd, sums, *number, vectors(simd, columns));
    }
    sums.map(Into::into)
}

#[inline(always)]
fn vectors<S: Simd>(simd: S, [low, high]: &Pairs) -> [i16x16<S>; 2] {
    [i32x8::load_array_ref(simd, low).bitcast(), i32x8::load_array_ref(simd, high).bitcast()]
}

/// Adds the products of a pair with those of all columns.
#[inline(always)]
fn summed<S: Simd>(simd: S, sums: [i32x8<S>; 2], number: i32, columns: [i16x16<S>; 2]) -> [i32x8<S>; 2] {
    let number: i16x16<S> = i32x8::splat(simd, number).bitcast();
    let ([low, high], [first, second]) = (sums, columns);
    [low + number.pairwise_dot_product(first), high + number.pairwise_dot_product(second)]
}

/// Two rows of 16 numbers as the pairs of a panel.
#[inline(always)]
pub(super) fn interleaved<S: Simd>(simd: S, first: &[i16; LANES], second: &[i16; LANES]) -> Pairs {
    let (low, high) = i16x16::load_array_ref(simd, first).interleave(i16x16::load_array_ref(simd, second));
    let (low, high): (i32x8<S>, i32x8<S>) = (low.bitcast(), high.bitcast());
    [low.into(), high.into()]
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the numbers of the tests are small")]
mod tests {
    use fearless_simd::{Level, dispatch};

    use super::*;

    #[test]
    fn panels_multiply_as_the_definition_says() {
        for (rows, depth, columns) in [(1, 1, 1), (3, 7, 5), (4, 16, 16), (9, 33, 50), (2, 0, 3)] {
            let a = |row: usize, at: usize| ((row * 31 + at * 17) % 511) as i16 - 255;
            let b = |at: usize, column: usize| ((column * 13 + at * 29) % 511) as i16 - 255;
            let flat: Vec<i16> = (0..rows).flat_map(|row| (0..depth).map(move |at| a(row, at))).collect();
            let left = if depth == 0 { vec![0; rows] } else { paired(&flat, depth) };
            let right = panels(depth, columns, b);
            let padded = columns.next_multiple_of(LANES);
            let finish = Finish {
                is_by_row: false,
                bias: (0..padded).map(|column| column as i32).collect(),
                scale: vec![1.0; padded],
                shift: vec![0.0; padded],
                target: Target::of::<u8>(0),
            };
            let mut out = vec![0; rows * padded];
            for (index, panel) in right.chunks_exact(pairs(depth)).enumerate() {
                let at = index * LANES;
                dispatch!(Level::new(), simd => multiply(simd, &left, panel, (&finish, 0, at), |row, sums: [i32; LANES]| {
                    out[row * padded + at..][..LANES].copy_from_slice(&sums);
                }));
            }
            for row in 0..rows {
                for column in 0..columns {
                    let sum: i32 = (0..depth).map(|at| i32::from(a(row, at)) * i32::from(b(at, column))).sum();
                    assert_eq!(out[row * padded + column], sum + column as i32, "{rows} {depth} {columns}");
                }
            }
        }
    }

    #[test]
    fn rows_interleave_in_order() {
        let (first, second) = (std::array::from_fn(|at| at as i16), std::array::from_fn(|at| -(at as i16)));
        let got = dispatch!(Level::new(), simd => interleaved(simd, &first, &second));
        let want: Vec<i32> = (0..16).map(|at| pair(at, -at)).collect();
        assert_eq!(got.as_flattened(), want);
    }
}
