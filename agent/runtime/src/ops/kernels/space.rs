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
use super::depthwise::{Slide, near};

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

/// A window over an image: which of its numbers lie within, and where the first one is.
struct Window {
    rows: usize,
    columns: usize,
    start: usize,
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
    let columns = path.places(1, size[1]);
    for (place, out) in out.chunks_exact_mut(channels).enumerate() {
        let (rows, line) = (path.within(0, size[0], place / columns), path.within(1, size[1], place % columns));
        let (down, across) = (rows.count, line.count);
        let window = Window { rows: down, columns: across, start: (rows.start * size[1] + line.start) * channels };
        let steps = [path.dilations[0] * size[1] * channels, path.dilations[1] * channels];
        let taken = match how {
            Pooling::Max | Pooling::Sum => 1,
            Pooling::Mean => down * across,
            Pooling::PaddedMean => path.kernel[0] * path.kernel[1],
        };
        #[expect(clippy::cast_precision_loss, reason = "windows are small")]
        let share = 1.0 / taken.max(1) as f32;
        let mut channel = 0;
        while channel + 8 <= channels {
            let made = if how == Pooling::Max {
                greatest::<S, f32x8<S>>(simd, data, &window, steps, channel)
            } else {
                sum::<S, f32x8<S>>(simd, data, &window, steps, channel) * share
            };
            made.store_slice(&mut out[channel..channel + 8]);
            channel += 8;
        }
        while channel < channels {
            let places = (0..down).flat_map(|row| (0..across).map(move |column| (row, column)));
            let values = places.map(|(row, column)| data[window.start + row * steps[0] + column * steps[1] + channel]);
            out[channel] = if how == Pooling::Max {
                values.fold(f32::NEG_INFINITY, |most, value| if value > most || value.is_nan() { value } else { most })
            } else {
                values.sum::<f32>() * share
            };
            channel += 1;
        }
    }
}

#[inline(always)]
fn sum<S: Simd, V: SimdFloat<S, Element = f32>>(
    simd: S,
    data: &[f32],
    window: &Window,
    steps: [usize; 2],
    channel: usize,
) -> V {
    let mut sum = V::splat(simd, 0.0);
    for row in 0..window.rows {
        for column in 0..window.columns {
            sum += near::<S, V>(simd, &data[window.start + row * steps[0] + column * steps[1] + channel..]);
        }
    }
    sum
}

/// The greatest; a NaN is passed on.
#[inline(always)]
fn greatest<S: Simd, V: SimdFloat<S, Element = f32>>(
    simd: S,
    data: &[f32],
    window: &Window,
    steps: [usize; 2],
    channel: usize,
) -> V {
    let mut most = V::splat(simd, f32::NEG_INFINITY);
    for row in 0..window.rows {
        for column in 0..window.columns {
            let value = near::<S, V>(simd, &data[window.start + row * steps[0] + column * steps[1] + channel..]);
            let is_less = value.simd_le(most);
            most = is_less.select(most, value);
        }
    }
    most
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
            2 => turn_few::<2>(from, columns, to),
            3 => turn_few::<3>(from, columns, to),
            4 => turn_few::<4>(from, columns, to),
            _ => turn_one(from, rows, columns, to),
        }
    }
    Ok(())
}

/// A picture's few colours.
fn turn_few<const ROWS: usize>(from: &[f32], columns: usize, to: &mut [f32]) {
    let (pixels, _) = to.as_chunks_mut::<ROWS>();
    let mut rows = [&from[..0]; ROWS];
    for (row, values) in rows.iter_mut().zip(from.chunks_exact(columns)) {
        *row = values;
    }
    let rows = rows.map(|row| &row[..pixels.len()]);
    for (column, pixel) in pixels.iter_mut().enumerate() {
        *pixel = std::array::from_fn(|row| rows[row][column]);
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

/// Copies an image into its frame of zeros.
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
    for (row, from) in rows.chunks_exact_mut(wide[1] * channels).zip(data.chunks_exact(size[1] * channels)) {
        let (left, rest) = row.split_at_mut(path.before[1] * channels);
        let (middle, right) = rest.split_at_mut(from.len());
        left.fill(0.0);
        middle.copy_from_slice(from);
        right.fill(0.0);
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
