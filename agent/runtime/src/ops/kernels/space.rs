//! Pools over images with channels last, and the way there and back.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "lengths are checked where the functions begin; vectors must not cross calls"
)]

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f32x8};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::ensure;

use super::count;
use super::depthwise::{Slide, Within, near};

/// Planes that [`framed`] takes.
pub(crate) const PLANES_MAX: usize = 4;

/// What a pool makes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pooling {
    /// The greatest number.
    Max,
    /// The sum.
    Sum,
    /// The mean of what lies within the image.
    Mean,
    /// The mean, with zeros around the image.
    PaddedMean,
}

/// Pools one image `[height, width, channels]`.
///
/// # Errors
///
/// Lengths that do not agree.
pub(crate) fn pool(
    how: Pooling,
    path: &Slide,
    data: &[f32],
    size: [usize; 2],
    channels: usize,
    out: &mut [f32],
) -> TractResult<()> {
    let places = [path.places(0, size[0]), path.places(1, size[1])];
    ensure!(data.len() == count(&[size[0], size[1], channels])?, "an image of another size than {size:?}");
    ensure!(out.len() == count(&[places[0], places[1], channels])?, "room for another size than {places:?}");
    if !out.is_empty() {
        dispatch!(Level::new(), simd => windows(simd, how, path, data, size, channels, out));
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "what the loop works on, each of them plain")]
#[inline(always)]
fn windows<S: Simd>(
    simd: S,
    how: Pooling,
    path: &Slide,
    data: &[f32],
    size: [usize; 2],
    channels: usize,
    out: &mut [f32],
) {
    let lines: Vec<Within> = (0..path.places(1, size[1])).map(|column| path.within(1, size[1], column)).collect();
    for (row, out) in out.chunks_exact_mut(lines.len() * channels).enumerate() {
        let rows = path.within(0, size[0], row);
        for (columns, out) in lines.iter().zip(out.chunks_exact_mut(channels)) {
            let taken = match how {
                Pooling::Max | Pooling::Sum => 1,
                Pooling::Mean => rows.count * columns.count,
                Pooling::PaddedMean => path.kernel[0] * path.kernel[1],
            };
            out.fill(if how == Pooling::Max { f32::NEG_INFINITY } else { 0.0 });
            for line in 0..rows.count {
                let line = (rows.start + line * path.dilations[0]) * size[1];
                for column in 0..columns.count {
                    let pixel = line + columns.start + column * path.dilations[1];
                    meet(simd, how, &data[pixel * channels..][..channels], out);
                }
            }
            if taken > 1 {
                #[expect(clippy::cast_precision_loss, reason = "windows are small")]
                let share = 1.0 / taken as f32;
                out.iter_mut().for_each(|sum| *sum *= share);
            }
        }
    }
}

/// The greatest of two, of which a NaN is greater than any number, or the sum: for each channel.
#[inline(always)]
fn meet<S: Simd>(simd: S, how: Pooling, pixel: &[f32], out: &mut [f32]) {
    simd.vectorize(
        #[inline(always)]
        || {
            let ((from, few), (to, rest)) = (pixel.as_chunks::<8>(), out.as_chunks_mut::<8>());
            for (to, from) in to.iter_mut().zip(from) {
                let (value, before) = (near::<S, f32x8<S>>(simd, from), near::<S, f32x8<S>>(simd, to));
                let made = match how {
                    Pooling::Max => {
                        let greater = value.simd_gt(before).select(value, before);
                        value.simd_eq(value).select(greater, value)
                    }
                    Pooling::Sum | Pooling::Mean | Pooling::PaddedMean => before + value,
                };
                *to = made.to_array();
            }
            for (to, value) in rest.iter_mut().zip(few) {
                *to = match how {
                    Pooling::Max if *value > *to || value.is_nan() => *value,
                    Pooling::Max => *to,
                    Pooling::Sum | Pooling::Mean | Pooling::PaddedMean => *to + value,
                };
            }
        },
    );
}

/// Turns matrices `[rows, columns]`, one after another, into `[columns, rows]`.
///
/// # Errors
///
/// Lengths that do not agree.
pub(crate) fn turn(data: &[f32], rows: usize, columns: usize, out: &mut [f32]) -> TractResult<()> {
    let size = count(&[rows, columns])?;
    ensure!(
        data.len() == out.len() && size > 0 && data.len().is_multiple_of(size),
        "no matrices of {rows} × {columns}"
    );
    if rows == 1 || columns == 1 {
        out.copy_from_slice(data);
        return Ok(());
    }
    for (from, to) in data.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
        match rows {
            2 => interleave::<2>(from, columns, to),
            3 => interleave::<3>(from, columns, to),
            4 => interleave::<4>(from, columns, to),
            _ => turn_one(from, rows, columns, to),
        }
    }
    Ok(())
}

/// A picture's few colours, in planes that lie so far from each other, side by side in each pixel.
fn interleave<const COLOURS: usize>(from: &[f32], apart: usize, to: &mut [f32]) {
    let (pixels, _) = to.as_chunks_mut::<COLOURS>();
    let mut planes = [&from[..0]; COLOURS];
    for (colour, plane) in planes.iter_mut().enumerate() {
        *plane = &from[colour * apart..][..pixels.len()];
    }
    for (column, pixel) in pixels.iter_mut().enumerate() {
        for colour in 0..COLOURS {
            pixel[colour] = planes[colour][column];
        }
    }
}

/// In tiles that stay near.
fn turn_one(from: &[f32], rows: usize, columns: usize, to: &mut [f32]) {
    const TILE: usize = 8;
    for top in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - top);
        for left in (0..columns).step_by(TILE) {
            for column in left..columns.min(left + TILE) {
                let to = &mut to[column * rows + top..][..height];
                for (row, to) in to.iter_mut().enumerate() {
                    *to = from[(top + row) * columns + column];
                }
            }
        }
    }
}

/// Copies an image into its frame of zeros; one of planes becomes one with channels last.
///
/// # Errors
///
/// Lengths that do not agree.
pub(crate) fn framed(
    data: &[f32],
    size: [usize; 2],
    channels: usize,
    is_planar: bool,
    path: &Slide,
    frame: &mut [f32],
) -> TractResult<()> {
    let wide = path.frame(size);
    ensure!(data.len() == count(&[size[0], size[1], channels])?, "an image of another size than {size:?}");
    ensure!(frame.len() == count(&[wide[0], wide[1], channels])?, "a frame of another size than {wide:?}");
    if data.is_empty() {
        return Ok(());
    }
    let (above, rest) = frame.split_at_mut(path.before[0] * wide[1] * channels);
    let (rows, below) = rest.split_at_mut(size[0] * wide[1] * channels);
    above.fill(0.0);
    below.fill(0.0);
    for (index, row) in rows.chunks_exact_mut(wide[1] * channels).enumerate() {
        let (left, rest) = row.split_at_mut(path.before[1] * channels);
        let (middle, right) = rest.split_at_mut(size[1] * channels);
        left.fill(0.0);
        right.fill(0.0);
        let from = &data[index * size[1]..];
        match channels {
            2 if is_planar => interleave::<2>(from, size[0] * size[1], middle),
            3 if is_planar => interleave::<3>(from, size[0] * size[1], middle),
            4 if is_planar => interleave::<4>(from, size[0] * size[1], middle),
            _ => {
                ensure!(!is_planar || channels == 1, "{channels} planes");
                middle.copy_from_slice(&data[index * middle.len()..][..middle.len()]);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::curves::tests::numbers;

    #[test]
    fn turning_twice_changes_nothing() {
        let data = numbers(1, 2 * 19 * 37);
        let (mut once, mut twice) = (vec![0.0; data.len()], vec![0.0; data.len()]);
        turn(&data, 19, 37, &mut once).unwrap();
        assert_eq!(once[19], data[1]);
        turn(&once, 37, 19, &mut twice).unwrap();
        assert_eq!(data, twice);
        assert!(turn(&data, 19, 36, &mut once).is_err());
    }

    #[test]
    fn a_pool_looks_at_its_window_and_no_further() {
        let path = Slide { kernel: [2, 2], strides: [1, 2], dilations: [1, 1], before: [0, 1], after: [0, 1] };
        let data: Vec<f32> = (1..=8).map(|value| value as f32).collect();
        let pooled = |how| {
            let mut out = vec![0.0; 3];
            pool(how, &path, &data, [2, 4], 1, &mut out).unwrap();
            out
        };
        assert_eq!(pooled(Pooling::Max), [5.0, 7.0, 8.0]);
        assert_eq!(pooled(Pooling::Sum), [6.0, 18.0, 12.0]);
        assert_eq!(pooled(Pooling::Mean), [3.0, 4.5, 6.0]);
        assert_eq!(pooled(Pooling::PaddedMean), [1.5, 4.5, 3.0]);
    }

    #[test]
    fn a_number_that_is_none_is_the_greatest_wherever_it_stands() {
        let path = Slide { kernel: [1, 3], strides: [1; 2], dilations: [1; 2], before: [0; 2], after: [0; 2] };
        for place in 0..3 {
            for channels in [3, 8] {
                let mut data = vec![1.0; 3 * channels];
                data[place * channels..][..channels].fill(f32::NAN);
                let mut out = vec![0.0; channels];
                pool(Pooling::Max, &path, &data, [1, 3], channels, &mut out).unwrap();
                assert!(out.iter().all(|value| value.is_nan()), "{place} {channels}: {out:?}");
            }
        }
    }

    #[test]
    fn planes_turn_on_their_way_into_a_frame() {
        let path = Slide { kernel: [3, 3], strides: [1; 2], dilations: [1; 2], before: [1, 0], after: [0, 2] };
        for channels in 1..=PLANES_MAX {
            let data = numbers(channels, 5 * 4 * channels);
            let (mut last, size) = (vec![0.0; data.len()], [5, 4]);
            turn(&data, channels, 20, &mut last).unwrap();
            let wide = path.frame(size);
            let (mut one, mut two) = (vec![9.0; wide[0] * wide[1] * channels], vec![7.0; wide[0] * wide[1] * channels]);
            framed(&last, size, channels, false, &path, &mut one).unwrap();
            framed(&data, size, channels, true, &path, &mut two).unwrap();
            assert_eq!(one, two);
        }
    }
}
