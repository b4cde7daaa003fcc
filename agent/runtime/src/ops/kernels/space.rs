//! Pools over images with channels last, and the way there and back.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "lengths are checked where the functions begin; vectors must not cross calls"
)]

use fearless_simd::{Level, Simd, dispatch};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::ensure;

use super::count;
use super::depthwise::Slide;

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

#[inline(always)]
fn windows<S: Simd>(
    _simd: S,
    how: Pooling,
    path: &Slide,
    data: &[f32],
    size: [usize; 2],
    channels: usize,
    out: &mut [f32],
) {
    let columns = path.places(1, size[1]);
    for (place, out) in out.chunks_exact_mut(channels).enumerate() {
        let (down, top) = path.within(0, size[0], place / columns);
        let (across, left) = path.within(1, size[1], place % columns);
        out.fill(if how == Pooling::Max { f32::NEG_INFINITY } else { 0.0 });
        for row in 0..down.len() {
            for column in 0..across.len() {
                let at = (top + row * path.dilations[0]) * size[1] + left + column * path.dilations[1];
                let values = &data[at * channels..][..channels];
                if how == Pooling::Max {
                    for (most, value) in out.iter_mut().zip(values) {
                        // A NaN is passed on.
                        *most = if *value > *most || value.is_nan() { *value } else { *most };
                    }
                } else {
                    for (sum, value) in out.iter_mut().zip(values) {
                        *sum += *value;
                    }
                }
            }
        }
        let taken = match how {
            Pooling::Max | Pooling::Sum => continue,
            Pooling::Mean => down.len() * across.len(),
            Pooling::PaddedMean => path.kernel[0] * path.kernel[1],
        };
        #[expect(clippy::cast_precision_loss, reason = "windows are small")]
        let share = 1.0 / taken.max(1) as f32;
        for sum in out.iter_mut() {
            *sum *= share;
        }
    }
}

/// Turns matrices `[rows, columns]`, one after another, into `[columns, rows]`.
///
/// # Errors
///
/// Lengths that do not agree.
pub(crate) fn turn(data: &[f32], rows: usize, columns: usize, out: &mut [f32]) -> TractResult<()> {
    let size = count(&[rows, columns])?;
    ensure!(data.len() == out.len() && size > 0 && data.len() % size == 0, "no matrices of {rows} × {columns}");
    if rows == 1 || columns == 1 {
        out.copy_from_slice(data);
        return Ok(());
    }
    for (from, to) in data.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
        turn_one(from, rows, columns, to);
    }
    Ok(())
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

/// Copies an image into the middle of one of zeros, `margins` around it: above, left, below, right.
///
/// # Errors
///
/// Lengths that do not agree.
pub(crate) fn framed(
    data: &[f32],
    size: [usize; 2],
    channels: usize,
    path: &Slide,
    frame: &mut [f32],
) -> TractResult<()> {
    let wide = [size[0] + path.before[0] + path.after[0], size[1] + path.before[1] + path.after[1]];
    ensure!(data.len() == count(&[size[0], size[1], channels])?, "an image of another size than {size:?}");
    ensure!(frame.len() == count(&[wide[0], wide[1], channels])?, "a frame of another size than {wide:?}");
    if data.is_empty() {
        return Ok(());
    }
    let rows = frame.chunks_exact_mut(wide[1] * channels).skip(path.before[0]);
    for (row, from) in rows.zip(data.chunks_exact(size[1] * channels)) {
        row[path.before[1] * channels..][..from.len()].copy_from_slice(from);
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
}
