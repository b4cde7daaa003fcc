//! A convolution of every channel with its own kernel, channels last.
//!
//! ```text
//!  data    [height, width, channels]        weights [kernel height × kernel width, channels]
//!  out     [rows, columns, channels]
//! ```
//!
//! Four columns are summed together, so that weights are read once for them. Images come in a frame of
//! zeros already.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "lengths are checked by `Depthwise::apply`; vectors must not cross calls"
)]

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f32x4, f32x8};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::ensure;

use super::{Clamp, count};

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

    /// The same over an image that has its frame.
    pub(crate) const fn framed(self) -> Self {
        Self { before: [0; 2], after: [0; 2], ..self }
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
        Ok(Self { slide: slide.framed(), weights, bias, clamp })
    }

    /// Slides over one image of `[height, width]`, its frame included.
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
    let columns = path.places(1, size[1]);
    for (row, out) in out.chunks_exact_mut(columns * channels).enumerate() {
        let top = &data[row * path.strides[0] * size[1] * channels..];
        let mut column = 0;
        while column < columns {
            let (from, to) = (&top[column * path.strides[1] * channels..], &mut out[column * channels..]);
            column += match columns - column {
                4.. => at::<S, 4>(simd, depthwise, from, size[1], to),
                3 => at::<S, 3>(simd, depthwise, from, size[1], to),
                2 => at::<S, 2>(simd, depthwise, from, size[1], to),
                _ => at::<S, 1>(simd, depthwise, from, size[1], to),
            };
        }
    }
}

/// `R` neighbouring places, all channels; gives `R`.
#[inline(always)]
fn at<S: Simd, const R: usize>(simd: S, depthwise: &Depthwise, data: &[f32], width: usize, out: &mut [f32]) -> usize {
    simd.vectorize(
        #[inline(always)]
        || {
            let channels = depthwise.bias.len();
            let mut channel = 0;
            while channel + 16 <= channels {
                lanes::<S, f32x8<S>, R, 2>(simd, depthwise, data, width, channel, out);
                channel += 16;
            }
            if channel + 8 <= channels {
                lanes::<S, f32x8<S>, R, 1>(simd, depthwise, data, width, channel, out);
                channel += 8;
            }
            if channel + 4 <= channels {
                lanes::<S, f32x4<S>, R, 1>(simd, depthwise, data, width, channel, out);
                channel += 4;
            }
            while channel < channels {
                one::<R>(depthwise, data, width, channel, out);
                channel += 1;
            }
        },
    );
    R
}

/// `R` places and `V` vectors of channels.
#[inline(always)]
fn lanes<S: Simd, V: SimdFloat<S, Element = f32>, const R: usize, const N: usize>(
    simd: S,
    depthwise: &Depthwise,
    data: &[f32],
    width: usize,
    channel: usize,
    out: &mut [f32],
) {
    let (path, channels) = (&depthwise.slide, depthwise.bias.len());
    let [down, across] = path.dilations;
    let step = path.strides[1] * channels;
    let mut sums = [[V::splat(simd, 0.0); N]; R];
    for n in 0..N {
        let bias = near::<S, V>(simd, &depthwise.bias[channel + n * V::LEN..]);
        for r in 0..R {
            sums[r][n] = bias;
        }
    }
    for row in 0..path.kernel[0] {
        for column in 0..path.kernel[1] {
            let tap = row * path.kernel[1] + column;
            let weights = &depthwise.weights[tap * channels + channel..][..N * V::LEN];
            let from = (row * down * width + column * across) * channels + channel;
            let values = &data[from..][..(R - 1) * step + N * V::LEN];
            for n in 0..N {
                let weight = near::<S, V>(simd, &weights[n * V::LEN..]);
                for r in 0..R {
                    let value = near::<S, V>(simd, &values[r * step + n * V::LEN..]);
                    sums[r][n] = value.mul_add(weight, sums[r][n]);
                }
            }
        }
    }
    let (low, high) = (V::splat(simd, depthwise.clamp.low), V::splat(simd, depthwise.clamp.high));
    for r in 0..R {
        for n in 0..N {
            let to = &mut out[r * channels + channel + n * V::LEN..][..V::LEN];
            high.min(low.max(sums[r][n])).store_slice(to);
        }
    }
}

/// The first numbers, written so that the compiler does not take a way through memory.
#[inline(always)]
pub(super) fn near<S: Simd, V: SimdFloat<S, Element = f32>>(simd: S, from: &[f32]) -> V {
    let from = &from[..V::LEN];
    V::from_fn(simd, |lane| from[lane])
}

/// `R` places of one channel.
fn one<const R: usize>(depthwise: &Depthwise, data: &[f32], width: usize, channel: usize, out: &mut [f32]) {
    let (path, channels) = (&depthwise.slide, depthwise.bias.len());
    for r in 0..R {
        let mut sum = depthwise.bias[channel];
        for row in 0..path.kernel[0] {
            for column in 0..path.kernel[1] {
                let from = row * path.dilations[0] * width + column * path.dilations[1] + r * path.strides[1];
                let tap = row * path.kernel[1] + column;
                sum += data[from * channels + channel] * depthwise.weights[tap * channels + channel];
            }
        }
        out[r * channels + channel] = depthwise.clamp.of(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::curves::tests::numbers;
    use crate::ops::kernels::space::framed;

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
                let wide = path.frame(size);
                let mut frame = vec![0.0; wide[0] * wide[1] * channels];
                framed(&data, size, channels, &path, &mut frame).unwrap();
                depthwise.apply(&frame, wide, &mut out).unwrap();
                for (got, want) in out.iter().zip(&want) {
                    assert!((got - want).abs() < 1e-4, "{path:?} {size:?} {channels}: {got} {want}");
                }
                assert!(depthwise.apply(&frame[1..], wide, &mut out).is_err());
            }
        }
    }
}
