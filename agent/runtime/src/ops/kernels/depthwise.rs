//! A convolution of every channel with its own kernel, channels last.
//!
//! ```text
//!  data    [height, width, channels]        weights [kernel height × kernel width, channels]
//!  out     [rows, columns, channels]
//! ```
//!
//! Kernels of three by three keep their weights in registers while a row of places passes.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "lengths are checked by `Depthwise::apply`; vectors must not cross calls"
)]

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f32x4, f32x8};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::ensure;

use super::{Clamp, count};

/// Numbers of a vector.
const LANES: usize = 8;

/// A kernel on its way over an image: numbers for height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slide {
    /// Size of the kernel.
    pub(crate) kernel: [usize; 2],
    /// Steps from one place to the next.
    pub(crate) strides: [usize; 2],
    /// Steps from one number of the kernel to the next.
    pub(crate) dilations: [usize; 2],
    /// Rows above and columns to the left of the image.
    pub(crate) before: [usize; 2],
    /// Rows below and columns to the right of the image.
    pub(crate) after: [usize; 2],
}

impl Slide {
    /// How many places there are along an axis of `size` numbers; none if the kernel does not fit.
    pub(crate) fn places(&self, axis: usize, size: usize) -> usize {
        let reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1;
        let padded = size + self.before[axis] + self.after[axis];
        padded.checked_sub(reach).map_or(0, |room| room / self.strides[axis] + 1)
    }

    /// What of an axis of `size` numbers the kernel meets at a place.
    pub(crate) fn within(&self, axis: usize, size: usize, place: usize) -> Within {
        let (start, step, before) = (place * self.strides[axis], self.dilations[axis], self.before[axis]);
        let first = before.saturating_sub(start).div_ceil(step).min(self.kernel[axis]);
        let end = (size + before).saturating_sub(start).div_ceil(step).clamp(first, self.kernel[axis]);
        Within { first, count: end - first, start: (start + first * step).saturating_sub(before) }
    }

    /// The size of an image with its frame.
    pub(crate) const fn frame(&self, size: [usize; 2]) -> [usize; 2] {
        let [top, left] = self.before;
        let [bottom, right] = self.after;
        let [height, width] = size;
        [height + top + bottom, width + left + right]
    }

    /// Whether each number of an image is looked at by itself.
    pub(crate) fn is_pointwise(&self) -> bool {
        [self.kernel, self.strides] == [[1; 2]; 2] && [self.before, self.after] == [[0; 2]; 2]
    }
}

/// Which numbers of a kernel meet an image along an axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within {
    /// The first one.
    pub(crate) first: usize,
    /// How many.
    pub(crate) count: usize,
    /// What of the image the first one meets.
    pub(crate) start: usize,
}

/// Weights and bias of [`Depthwise::apply`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Depthwise {
    slide: Slide,
    weights: Vec<f32>,
    bias: Vec<f32>,
    clamp: Clamp,
}

impl Depthwise {
    /// `weights` are `[kernel height × kernel width, channels]`, `bias` is `[channels]`.
    ///
    /// # Errors
    ///
    /// Lengths that do not agree.
    pub(crate) fn new(slide: Slide, weights: Vec<f32>, bias: Vec<f32>, clamp: Clamp) -> TractResult<Self> {
        let taps = count(&slide.kernel)?;
        ensure!(
            taps > 0 && weights.len() / taps == bias.len() && weights.len().is_multiple_of(taps),
            "weights do not fit"
        );
        Ok(Self { slide, weights, bias, clamp })
    }

    /// Slides over one image of `[height, width]`.
    ///
    /// # Errors
    ///
    /// Lengths that do not agree.
    pub(crate) fn apply(&self, data: &[f32], size: [usize; 2], out: &mut [f32]) -> TractResult<()> {
        let channels = self.bias.len();
        let places = [self.slide.places(0, size[0]), self.slide.places(1, size[1])];
        ensure!(data.len() == count(&[size[0], size[1], channels])?, "an image of another size than {size:?}");
        ensure!(out.len() == count(&[places[0], places[1], channels])?, "room for another size than {places:?}");
        if !out.is_empty() {
            dispatch!(Level::new(), simd => slide(simd, self, data, size, out));
        }
        Ok(())
    }
}

#[inline(always)]
fn slide<S: Simd>(simd: S, depthwise: &Depthwise, data: &[f32], size: [usize; 2], out: &mut [f32]) {
    let (path, channels) = (&depthwise.slide, depthwise.bias.len());
    let is_three = path.kernel == [3, 3] && path.dilations == [1, 1] && channels.is_multiple_of(LANES);
    if is_three && matches!(path.strides[1], 1 | 2) {
        return lines(simd, depthwise, data, size, out);
    }
    let columns = path.places(1, size[1]);
    let mut taps = Vec::new();
    for (index, out) in out.chunks_exact_mut(channels).enumerate() {
        let (rows, line) = (path.within(0, size[0], index / columns), path.within(1, size[1], index % columns));
        taps.clear();
        for row in 0..rows.count {
            for column in 0..line.count {
                let tap = (rows.first + row) * path.kernel[1] + line.first + column;
                let pixel = (rows.start + row * path.dilations[0]) * size[1] + line.start + column * path.dilations[1];
                taps.push((tap * channels, pixel * channels));
            }
        }
        place(simd, depthwise, data, &taps, out);
    }
}

/// All rows of places of a kernel of three by three. Lines of the image are copied between their margins
/// as the kernel comes to them, where they stay near.
#[inline(always)]
fn lines<S: Simd>(simd: S, depthwise: &Depthwise, data: &[f32], size: [usize; 2], out: &mut [f32]) {
    let (path, channels) = (&depthwise.slide, depthwise.bias.len());
    let (long, columns) = (size[1] * channels, path.places(1, size[1]));
    let wide = path.frame(size)[1] * channels;
    let left = path.before[1] * channels;
    let beyond = vec![0.0; wide];
    let mut held = [vec![0.0; wide], vec![0.0; wide], vec![0.0; wide]];
    let mut copied = 0;
    for (row, out) in out.chunks_exact_mut(columns * channels).enumerate() {
        let within = path.within(0, size[0], row);
        for line in copied.max(within.start)..within.start + within.count {
            held[line % 3][left..][..long].copy_from_slice(&data[line * long..][..long]);
            copied = line + 1;
        }
        let mut seen = [beyond.as_slice(); 3];
        for at in 0..within.count {
            seen[within.first + at] = &held[(within.start + at) % 3];
        }
        if path.strides[1] == 1 {
            three::<S, 1>(simd, depthwise, &seen, out);
        } else {
            three::<S, 2>(simd, depthwise, &seen, out);
        }
    }
}

/// A row of places of a kernel of three by three, `STRIDE` from each other, with whole vectors of
/// channels.
#[inline(always)]
fn three<S: Simd, const STRIDE: usize>(simd: S, depthwise: &Depthwise, lines: &[&[f32]; 3], out: &mut [f32]) {
    simd.vectorize(
        #[inline(always)]
        || {
            let step = depthwise.bias.len() / LANES;
            let (weights, _) = depthwise.weights.as_chunks::<LANES>();
            let (bias, _) = depthwise.bias.as_chunks::<LANES>();
            let (out, _) = out.as_chunks_mut::<LANES>();
            let mut chunks = [&bias[..0]; 3];
            for row in 0..3 {
                chunks[row] = &lines[row].as_chunks::<LANES>().0[..lines[0].len() / LANES];
            }
            let clamp = [f32x8::splat(simd, depthwise.clamp.low), f32x8::splat(simd, depthwise.clamp.high)];
            for channel in 0..step {
                let bias = f32x8::from_fn(simd, |lane| bias[channel][lane]);
                let mut taps = [bias; 9];
                for tap in 0..9 {
                    taps[tap] = f32x8::from_fn(simd, |lane| weights[tap * step + channel][lane]);
                }
                let (mut from, mut to) = (channel, channel);
                while to + 3 * step < out.len() {
                    let sums = sums::<S, 4, STRIDE>(simd, &chunks, &taps, bias, step, from);
                    for r in 0..4 {
                        out[to + r * step] = clamp[1].min(clamp[0].max(sums[r])).to_array();
                    }
                    from += 4 * STRIDE * step;
                    to += 4 * step;
                }
                if to + step < out.len() {
                    let sums = sums::<S, 2, STRIDE>(simd, &chunks, &taps, bias, step, from);
                    for r in 0..2 {
                        out[to + r * step] = clamp[1].min(clamp[0].max(sums[r])).to_array();
                    }
                    from += 2 * STRIDE * step;
                    to += 2 * step;
                }
                if to < out.len() {
                    let [sum] = sums::<S, 1, STRIDE>(simd, &chunks, &taps, bias, step, from);
                    out[to] = clamp[1].min(clamp[0].max(sum)).to_array();
                }
            }
        },
    );
}

/// `R` places of [`three`].
#[inline(always)]
fn sums<S: Simd, const R: usize, const STRIDE: usize>(
    simd: S,
    lines: &[&[[f32; LANES]]; 3],
    taps: &[f32x8<S>; 9],
    bias: f32x8<S>,
    step: usize,
    from: usize,
) -> [f32x8<S>; R] {
    let mut sums = [bias; R];
    for column in 0..3 {
        for row in 0..3 {
            for r in 0..R {
                let value = &lines[row][from + (r * STRIDE + column) * step];
                let value = f32x8::from_fn(simd, |lane| value[lane]);
                sums[r] = value.mul_add(taps[row * 3 + column], sums[r]);
            }
        }
    }
    sums
}

/// All channels at a place; `taps` are where the weights and the pixels are that meet there.
#[inline(always)]
fn place<S: Simd>(simd: S, depthwise: &Depthwise, data: &[f32], taps: &[(usize, usize)], out: &mut [f32]) {
    simd.vectorize(
        #[inline(always)]
        || {
            let mut channel = 0;
            while channel + 8 <= out.len() {
                lanes::<S, f32x8<S>>(simd, depthwise, data, taps, channel, out);
                channel += 8;
            }
            if channel + 4 <= out.len() {
                lanes::<S, f32x4<S>>(simd, depthwise, data, taps, channel, out);
                channel += 4;
            }
            while channel < out.len() {
                let mut sum = depthwise.bias[channel];
                for (weight, pixel) in taps {
                    sum += data[pixel + channel] * depthwise.weights[weight + channel];
                }
                out[channel] = depthwise.clamp.of(sum);
                channel += 1;
            }
        },
    );
}

/// A vector of channels at a place.
#[inline(always)]
fn lanes<S: Simd, V: SimdFloat<S, Element = f32>>(
    simd: S,
    depthwise: &Depthwise,
    data: &[f32],
    taps: &[(usize, usize)],
    channel: usize,
    out: &mut [f32],
) {
    let mut sum = near::<S, V>(simd, &depthwise.bias[channel..]);
    for (weight, pixel) in taps {
        let weight = near::<S, V>(simd, &depthwise.weights[weight + channel..]);
        sum = near::<S, V>(simd, &data[pixel + channel..]).mul_add(weight, sum);
    }
    let (low, high) = (V::splat(simd, depthwise.clamp.low), V::splat(simd, depthwise.clamp.high));
    high.min(low.max(sum)).store_slice(&mut out[channel..][..V::LEN]);
}

/// The first numbers, written so that the compiler does not take a way through memory.
#[inline(always)]
pub(super) fn near<S: Simd, V: SimdFloat<S, Element = f32>>(simd: S, from: &[f32]) -> V {
    let from = &from[..V::LEN];
    V::from_fn(simd, |lane| from[lane])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::curves::tests::numbers;

    fn naive(path: &Slide, weights: &[f32], bias: &[f32], data: &[f32], size: [usize; 2]) -> Vec<f32> {
        let channels = bias.len();
        let mut out = Vec::new();
        for row in 0..path.places(0, size[0]) {
            for column in 0..path.places(1, size[1]) {
                for channel in 0..channels {
                    let mut sum = bias[channel];
                    for (i, j) in (0..path.kernel[0]).flat_map(|i| (0..path.kernel[1]).map(move |j| (i, j))) {
                        let y = (row * path.strides[0] + i * path.dilations[0]).checked_sub(path.before[0]);
                        let x = (column * path.strides[1] + j * path.dilations[1]).checked_sub(path.before[1]);
                        if let (Some(y), Some(x)) = (y, x)
                            && y < size[0]
                            && x < size[1]
                        {
                            sum += data[(y * size[1] + x) * channels + channel]
                                * weights[(i * path.kernel[1] + j) * channels + channel];
                        }
                    }
                    out.push(sum.clamp(0.0, 6.0));
                }
            }
        }
        out
    }

    #[test]
    fn every_channel_meets_its_own_kernel() {
        let mut seed = 0;
        for (kernel, strides, dilations, before, after) in [
            ([3, 3], [1, 1], [1, 1], [1, 1], [1, 1]),
            ([3, 3], [2, 2], [1, 1], [0, 0], [1, 1]),
            ([1, 5], [1, 2], [1, 2], [0, 4], [0, 3]),
            ([2, 3], [3, 1], [2, 1], [2, 5], [0, 2]),
            ([5, 5], [1, 1], [1, 1], [2, 2], [2, 2]),
        ] {
            let path = Slide { kernel, strides, dilations, before, after };
            for (size, channels) in [([9, 11], 29), ([4, 13], 64), ([5, 5], 3)] {
                seed += 1;
                let data = numbers(seed, size[0] * size[1] * channels);
                let weights = numbers(seed + 100, kernel[0] * kernel[1] * channels);
                let bias = numbers(seed + 200, channels);
                let clamp = Clamp { low: 0.0, high: 6.0 };
                let depthwise = Depthwise::new(path, weights.clone(), bias.clone(), clamp).unwrap();
                let want = naive(&path, &weights, &bias, &data, size);
                let mut out = vec![-1.0; want.len()];
                depthwise.apply(&data, size, &mut out).unwrap();
                for (got, want) in out.iter().zip(&want) {
                    assert!((got - want).abs() < 1e-4, "{path:?} {size:?} {channels}: {got} {want}");
                }
                assert!(depthwise.apply(&data[1..], size, &mut out).is_err());
            }
        }
    }
}
