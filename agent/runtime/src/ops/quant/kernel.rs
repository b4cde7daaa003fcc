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

use super::number::{Quantised, Target};

/// Columns of a panel.
pub(super) const LANES: usize = 16;
/// Half a panel: what a vector of 256 bits holds.
const HALF: usize = LANES / 2;

/// A column's numbers of one pair of rows.
pub(super) type Pairs = [i32; LANES];

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
    let mut all = Vec::with_capacity(columns.div_ceil(LANES) * pairs(depth));
    for first in (0..columns).step_by(LANES) {
        for row in (0..2 * pairs(depth)).step_by(2) {
            let number = |row: usize, column: usize| if row < depth && column < columns { at(row, column) } else { 0 };
            all.push(std::array::from_fn(|lane| pair(number(row, first + lane), number(row + 1, first + lane))));
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
    fn keep(sum: i32, scale: f32, shift: f32, _target: Target) -> Self {
        sum as Self * scale + shift
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
    /// Range and zero point of an output that is quantised.
    pub(super) target: Target,
}

impl Finish {
    #[inline(always)]
    fn finished<T: Kept>(&self, row: usize, column: usize, sums: &Pairs) -> [T; LANES] {
        let mut kept = [T::default(); LANES];
        let target = self.target;
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
    let count = rows.len() / depth;
    let mut row = 0;
    while row + 4 <= count {
        let sums = tile::<S, 4>(simd, &rows[row * depth..], panel);
        for (more, sums) in sums.iter().enumerate() {
            store(first + row + more, finish.finished(first + row + more, column, sums));
        }
        row += 4;
    }
    while row < count {
        let [sums] = tile::<S, 1>(simd, &rows[row * depth..], panel);
        store(first + row, finish.finished(first + row, column, &sums));
        row += 1;
    }
}

/// Sums of so many rows with the columns of a panel.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize>(simd: S, rows: &[i32], panel: &[Pairs]) -> [Pairs; ROWS] {
    let depth = panel.len();
    let cut: [&[i32]; ROWS] = std::array::from_fn(|row| &rows[row * depth..(row + 1) * depth]);
    let mut sums = [[i32x8::splat(simd, 0); 2]; ROWS];
    for at in 0..depth {
        let columns = &panel[at];
        let low: i16x16<S> = i32x8::from_slice(simd, &columns[..HALF]).bitcast();
        let high: i16x16<S> = i32x8::from_slice(simd, &columns[HALF..]).bitcast();
        for row in 0..ROWS {
            let number: i16x16<S> = i32x8::splat(simd, cut[row][at]).bitcast();
            sums[row][0] += number.pairwise_dot_product(low);
            sums[row][1] += number.pairwise_dot_product(high);
        }
    }
    let mut all = [[0; LANES]; ROWS];
    for (all, [low, high]) in all.iter_mut().zip(sums) {
        low.store_slice(&mut all[..HALF]);
        high.store_slice(&mut all[HALF..]);
    }
    all
}

/// Two rows of 16 numbers as the pairs of a panel.
#[inline(always)]
pub(super) fn interleaved<S: Simd>(simd: S, first: &[i16; LANES], second: &[i16; LANES]) -> Pairs {
    let (low, high) = i16x16::load_array_ref(simd, first).interleave(i16x16::load_array_ref(simd, second));
    let (low, high): (i32x8<S>, i32x8<S>) = (low.bitcast(), high.bitcast());
    let mut pairs = [0; LANES];
    low.store_slice(&mut pairs[..HALF]);
    high.store_slice(&mut pairs[HALF..]);
    pairs
}

/// Numbers less a zero point.
#[inline(always)]
pub(super) fn centre<S: Simd, Q: Quantised>(simd: S, from: &[Q], zero: i16, to: &mut [i16])
where
    i16: From<Q>,
{
    simd.vectorize(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to = i16::from(*from).wrapping_sub(zero);
            }
        },
    );
}

#[cfg(test)]
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
        let want: Pairs = std::array::from_fn(|at| pair(at as i16, -(at as i16)));
        assert_eq!(got, want);
    }
}
