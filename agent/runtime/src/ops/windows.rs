//! Reads tract's windows over images: which of them our kernels take, and their weights in our order.

use tract_onnx::prelude::{Datum as _, TypedFact};
use tract_onnx::tract_core::internal::DimLike as _;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer};

use super::kernels::depthwise::Slide;
use super::kernels::space::Pooling;
use crate::validate::ELEMENTS_MAX;

/// Images of one size.
pub(super) struct Image {
    /// Height and width.
    pub(super) size: [usize; 2],
    /// Numbers of a pixel.
    pub(super) channels: usize,
    /// Whether there is no height.
    pub(super) is_line: bool,
}

/// Of a value `[batch, channels, (height,) width]`.
fn image(fact: &TypedFact) -> Option<Image> {
    if fact.datum_type != f32::datum_type() {
        return None;
    }
    let sizes: Vec<Option<usize>> = fact.shape.iter().skip(1).map(|size| size.to_usize().ok()).collect();
    let sizes: Vec<usize> = sizes.into_iter().collect::<Option<_>>()?;
    match sizes.as_slice() {
        [channels, width] => Some(Image { size: [1, *width], channels: *channels, is_line: true }),
        [channels, height, width] => Some(Image { size: [*height, *width], channels: *channels, is_line: false }),
        _ => None,
    }
    .filter(|image| image.channels > 0 && image.size.iter().all(|size| *size > 0))
}

/// The window, if it slides over all of the image as ours does.
fn slide(spec: &PoolSpec, fact: &TypedFact) -> Option<(Image, Slide)> {
    let image =
        image(fact).filter(|image| spec.data_format == DataFormat::NCHW && spec.input_channels == image.channels)?;
    let from = usize::from(image.is_line);
    let (mut kernel, mut strides, mut dilations) = ([1; 2], [1; 2], [1; 2]);
    let (mut before, mut after, mut made) = ([0; 2], [0; 2], [1; 2]);
    let padded = spec.computed_padding(image.size.get(from..)?);
    if spec.kernel_shape.len() != 2 - from || padded.len() != 2 - from {
        return None;
    }
    for (at, (axis, dimension)) in (from..2).zip(&padded).enumerate() {
        *kernel.get_mut(axis)? = *spec.kernel_shape.get(at)?;
        *strides.get_mut(axis)? = spec.strides.as_ref().map_or(Some(1), |list| list.get(at).copied())?;
        *dilations.get_mut(axis)? = spec.dilations.as_ref().map_or(Some(1), |list| list.get(at).copied())?;
        *before.get_mut(axis)? = dimension.pad_before;
        *after.get_mut(axis)? = dimension.pad_after;
        *made.get_mut(axis)? = dimension.convoluted;
    }
    if [kernel, strides, dilations].iter().flatten().any(|size| *size == 0) {
        return None;
    }
    let slide = Slide { kernel, strides, dilations, before, after };
    let [height, width] = image.size;
    let is_same = [slide.places(0, height), slide.places(1, width)] == made && made.iter().all(|size| *size > 0);
    // A frame may be far larger than the image and than what comes out.
    let frame = [height + before[0] + after[0], width + before[1] + after[1], image.channels]
        .into_iter()
        .fold(1_u64, |product, size| product.saturating_mul(size as u64));
    (is_same && frame <= ELEMENTS_MAX).then_some((image, slide))
}

/// Of a convolution of floats.
pub(super) fn of_conv(conv: &Conv, fact: &TypedFact) -> Option<(Image, Slide)> {
    if conv.q_params.is_some() || conv.group == 0 {
        return None;
    }
    slide(&conv.pool_spec, fact)
}

/// Of a pool that takes the greatest.
pub(super) fn of_max(pool: &MaxPool, fact: &TypedFact) -> Option<(Image, Slide, Pooling)> {
    let (image, slide) = slide(&pool.pool_spec, fact)?;
    Some((image, slide, Pooling::Max))
}

/// Of a pool that takes sums or means.
pub(super) fn of_sum(pool: &SumPool, fact: &TypedFact) -> Option<(Image, Slide, Pooling)> {
    // What lies beyond the pads counts or not, by rules of its own.
    if matches!(pool.pool_spec.padding, PaddingSpec::ExplicitOnnxPool(_, _, true)) {
        return None;
    }
    let (image, slide) = slide(&pool.pool_spec, fact)?;
    let how = match (pool.normalize, pool.count_include_pad) {
        (false, _) => Pooling::Sum,
        (true, false) => Pooling::Mean,
        (true, true) => Pooling::PaddedMean,
    };
    Some((image, slide, how))
}

/// Of a sum or the greatest over all of space.
pub(super) fn of_all(reduce: &Reduce, fact: &TypedFact) -> Option<(Image, Slide, Pooling)> {
    let how = match reduce.reducer {
        Reducer::Sum => Pooling::Sum,
        Reducer::Max => Pooling::Max,
        Reducer::ArgMax(_)
        | Reducer::ArgMin(_)
        | Reducer::Min
        | Reducer::Prod
        | Reducer::MeanOfSquares
        | Reducer::All
        | Reducer::Any => return None,
    };
    let image = image(fact)?;
    if !reduce.axes.iter().copied().eq(2..fact.rank()) {
        return None;
    }
    let slide = Slide { kernel: image.size, strides: [1; 2], dilations: [1; 2], before: [0; 2], after: [0; 2] };
    Some((image, slide, how))
}

/// Weights in the order `[kernel height, kernel width, input channels of a group, output channels]`, each
/// output channel scaled.
pub(super) fn taps(format: &KernelFormat, weights: &[f32], conv: &Conv, scale: &[f32]) -> Option<Vec<f32>> {
    let spec = &conv.pool_spec;
    let taps: usize = spec.kernel_shape.iter().product();
    let (inputs, outputs) = (spec.input_channels / conv.group, spec.output_channels);
    if *format != KernelFormat::OIHW || weights.len() != taps * inputs * outputs || scale.len() != outputs {
        return None;
    }
    let mut ordered = Vec::with_capacity(weights.len());
    for tap in 0..taps {
        for input in 0..inputs {
            for (output, scale) in scale.iter().enumerate() {
                ordered.push(weights.get((output * inputs + input) * taps + tap)? * scale);
            }
        }
    }
    Some(ordered)
}
