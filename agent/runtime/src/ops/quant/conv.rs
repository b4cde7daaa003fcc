//! Convolutions of quantised images, over one dimension or two: QLinearConv and ConvInteger.
//!
//! Images come with channels last, but for the operators that `lower` did not meet: those turn them here.
//!
//! ```text
//!  a window at each place   a row of numbers, times the weights   kernel
//!  one kernel a channel     vectors of channels                   depthwise
//! ```

use std::ops::{Deref, Range};
use std::sync::Arc;

use fearless_simd::{Level, Simd, dispatch};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, IntoTValue as _, TDim, TValue, TVec, Tensor, TractResult, tvec};
use tract_onnx::tract_core::internal::{Datum, DimLike as _, bail, ensure};

use super::depthwise::Depthwise;
use super::finish::{Cut, Parameters, Places};
use super::kernel::{Finish, Kept, Matrix, SLACK, centre, pitch};
use super::node::{Fact, Kernel, Slots};
use super::number::{Quantised, filled, only, spread, with_type, zeros};
use super::turn::Turn;
use super::window::{Path, Window};

/// Most numbers of an image with its pads: eight times the most elements of a tensor.
const FRAME_MAX: usize = 1 << 28;

/// A convolution of `[rows, height, width, channels]`, or without height.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    name: &'static str,
    places: Places,
    /// Whether channels come and go last, and not second.
    is_last: bool,
    cut: Cut,
    window: Window,
    group: usize,
    present: Vec<bool>,
    weights: Option<Arc<Weights>>,
    finish: Option<Arc<[Finish]>>,
}

/// What is prepared follows from the inputs, which are compared elsewhere.
impl PartialEq for Conv {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.places, self.is_last, self.cut, &self.window, self.group)
            == (other.name, other.places, other.is_last, other.cut, &other.window, other.group)
    }
}

impl Eq for Conv {}

/// The kernels of all output channels.
#[derive(Debug)]
struct Weights {
    made: usize,
    /// Channels of a group.
    taken: usize,
    /// Height and width.
    kernel: [usize; 2],
    packed: Packed,
}

#[derive(Debug)]
enum Packed {
    /// For each group a matrix of `[height, width, channels]` and the outputs.
    Groups(Vec<Matrix>),
    /// A kernel for each channel.
    Depthwise(Depthwise),
}

impl Weights {
    fn of(tensor: &Tensor, zero: Option<&Tensor>, group: usize) -> TractResult<Self> {
        let (made, taken, kernel) = match tensor.shape() {
            [made, taken, width] => (*made, *taken, [1, *width]),
            [made, taken, height, width] => (*made, *taken, [*height, *width]),
            other => bail!("a kernel of shape {other:?}: one dimension of space or two are supported"),
        };
        let taps = kernel.iter().product::<usize>();
        let depth = taken * taps;
        ensure!(depth > 0 && made > 0, "a kernel of shape {:?}", tensor.shape());
        ensure!(made.is_multiple_of(group), "{made} output channels in {group} groups");
        let zeros = spread(&zeros(zero)?, made)?;
        let mut numbers = super::number::centred(tensor, 0)?;
        for (row, zero) in numbers.chunks_mut(depth).zip(zeros) {
            let zero = i16::try_from(zero.clamp(-128, 255))?;
            row.iter_mut().for_each(|number| *number -= zero);
        }
        let number = |place: usize| numbers.get(place).copied().unwrap_or(0);
        let packed = if taken == 1 && group == made && group > 1 {
            Packed::Depthwise(Depthwise::of(taps, made, |tap, channel| number(channel * taps + tap)))
        } else {
            let columns = made / group;
            let matrix = |first: usize| {
                Matrix::of(depth, columns, |row, column| {
                    number((first + column) * depth + row % taken * taps + row / taken)
                })
            };
            Packed::Groups((0..group).map(|group| matrix(group * columns)).collect())
        };
        Ok(Self { made, taken, kernel, packed })
    }
}

impl Conv {
    /// Reads a node.
    ///
    /// # Errors
    ///
    /// Attributes that are not supported.
    pub(super) fn read(node: &NodeProto, name: &'static str, places: Places, is_last: bool) -> TractResult<Self> {
        Ok(Self {
            name,
            places,
            is_last,
            cut: Cut::read(node)?,
            window: Window::read(node)?,
            group: usize::try_from(node.get_attr_opt::<i64>("group")?.unwrap_or(1))?.max(1),
            present: node.input.iter().map(|name| !name.is_empty()).collect(),
            weights: None,
            finish: None,
        })
    }

    /// What becomes of the sums of each group.
    fn finish<T: Deref<Target = Tensor>>(&self, inputs: Slots<'_, T>, weights: &Weights) -> TractResult<Arc<[Finish]>> {
        let (places, cut, channels) = (self.places, self.cut, weights.made);
        let all = Parameters { places, data_scale: None, alpha: 1.0, cut, channels, inputs }.finish()?;
        let columns = match &weights.packed {
            Packed::Groups(groups) => channels / groups.len().max(1),
            Packed::Depthwise(_) => channels,
        };
        Ok((0..channels).step_by(columns.max(1)).map(|first| all.part(&(first..first + columns))).collect())
    }

    /// Splits a shape into rows, channels and space.
    fn split<'s, T>(&self, shape: &'s [T]) -> Option<(&'s T, &'s T, &'s [T])> {
        match (shape, self.is_last) {
            ([rows, space @ .., channels], true) | ([rows, channels, space @ ..], false) => {
                Some((rows, channels, space))
            }
            _ => None,
        }
    }
}

impl Kernel for Conv {
    fn name(&self) -> &'static str {
        self.name
    }

    fn facts(&self, inputs: Slots<'_, Fact>) -> TractResult<TVec<Fact>> {
        let kind = self.places.kind(inputs, false, |fact| fact.0)?;
        let (data, weight) = (&inputs.need(self.places.data)?.1, &inputs.need(self.places.weight)?.1);
        let (Some((rows, _, space)), [made, _, kernel @ ..]) = (self.split(data), weight.as_slice()) else {
            bail!("a convolution of {data:?} with {weight:?}");
        };
        ensure!(
            space.len() == kernel.len() && matches!(space.len(), 1 | 2),
            "a convolution of {data:?} with {weight:?}: one dimension of space or two are supported"
        );
        let mut shape: TVec<TDim> = tvec![rows.clone(), made.clone()];
        for (axis, (size, kernel)) in space.iter().zip(kernel).enumerate() {
            let axis = self.window.axis(axis, space.len());
            shape.push(axis.slid(size, kernel.to_usize()?)?);
        }
        Ok(tvec![(kind, if self.is_last { Turn::LAST.sizes(&shape) } else { shape })])
    }

    fn prepare(&mut self, stored: Slots<'_, Arc<Tensor>>) -> TractResult<()> {
        let present = |place: usize| self.present.get(place).copied().unwrap_or(false);
        let Some(weight) = stored.at(self.places.weight) else { return Ok(()) };
        let zero = stored.at(self.places.weight_zero);
        if zero.is_some() || !present(self.places.weight_zero) {
            self.weights = Some(Arc::new(Weights::of(weight, zero.map(|zero| &**zero), self.group)?));
        }
        if let Some(weights) = &self.weights
            && self.places.are_in(stored, present)
        {
            self.finish = Some(self.finish(stored, weights)?);
        }
        Ok(())
    }

    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>> {
        let weights = match &self.weights {
            Some(weights) => Arc::clone(weights),
            None => Arc::new(Weights::of(
                inputs.need(self.places.weight)?,
                inputs.at(self.places.weight_zero).map(|zero| &**zero),
                self.group,
            )?),
        };
        let finish = match &self.finish {
            Some(finish) => Arc::clone(finish),
            None => self.finish(inputs, &weights)?,
        };
        let zero = only(&zeros(inputs.at(self.places.data_zero).map(|zero| &**zero))?)?;
        let kind = self.places.kind(inputs, false, |value| value.datum_type())?;
        let data = inputs.need(self.places.data)?;
        let turned = if self.is_last { None } else { Some(Turn::LAST.tensor(data)?) };
        let data = turned.as_ref().unwrap_or(data);
        let (size, space) = match data.shape() {
            [_, width, channels] => ([1, *width, *channels], 1),
            [_, height, width, channels] => ([*height, *width, *channels], 2),
            other => bail!("an image of shape {other:?}"),
        };
        let [_, _, channels] = size;
        ensure!(
            weights.taken.checked_mul(self.group) == Some(channels),
            "{channels} channels in {} groups for {} weights of {}",
            self.group,
            weights.made,
            weights.taken
        );
        let path = Path::of(&self.window, space, size, weights.kernel)?;
        let path =
            if let Packed::Depthwise(kernels) = &weights.packed { path.in_vectors(kernels.lanes()) } else { path };
        ensure!(path.frame() <= FRAME_MAX, "an image of {} numbers with its pads", path.frame());
        let mut shape: TVec<usize> = data.shape().iter().copied().take(1).collect();
        shape.extend(path.out.iter().copied().skip(2 - space));
        shape.push(weights.made);
        let zero = i16::try_from(zero.clamp(-128, 255))?;
        let images = Images { channels, zero, weights: &weights, finish: &finish, path: &path };
        let output = if kind == DatumType::F32 {
            images.tensor::<f32>(data, &shape)?
        } else if kind == DatumType::I8 {
            images.tensor::<i8>(data, &shape)?
        } else if kind == DatumType::U8 {
            images.tensor::<u8>(data, &shape)?
        } else {
            images.tensor::<i32>(data, &shape)?
        };
        let output = if self.is_last { output } else { Turn::SECOND.tensor(&output)? };
        Ok(tvec![output.into_tvalue()])
    }
}

/// Images of one size that are convolved with the same weights.
struct Images<'a> {
    channels: usize,
    /// The number that stands for 0.
    zero: i16,
    weights: &'a Weights,
    finish: &'a [Finish],
    path: &'a Path,
}

impl Images<'_> {
    fn tensor<T: Kept + Datum>(&self, data: &Tensor, shape: &[usize]) -> TractResult<Tensor> {
        let view = data.try_as_plain_ram()?;
        filled::<T>(shape, |out| {
            with_type!(data.datum_type(), Q => self.all(view.as_slice::<Q>()?, out));
            Ok(())
        })
    }

    fn all<Q: Quantised, T: Kept>(&self, data: &[Q], out: &mut [T])
    where
        i16: From<Q>,
    {
        let made = self.weights.made;
        match (&self.weights.packed, self.finish) {
            (Packed::Groups(groups), [finish]) if self.path.is_pixels() => {
                let Some(matrix) = groups.first() else { return };
                let (channels, pitch) = (self.channels, pitch(self.channels));
                let mut pixels = |range: Range<usize>, to: &mut [i16]| {
                    let from = data.get(range.start * channels..range.end * channels).unwrap_or_default();
                    if channels == pitch {
                        return centre(from, self.zero, to);
                    }
                    for (from, to) in from.chunks_exact(channels).zip(to.chunks_exact_mut(pitch)) {
                        centre(from, self.zero, to);
                    }
                };
                matrix.multiply(out.len() / made, &mut pixels, finish, out, (made, 0));
            }
            (Packed::Groups(groups), finish) => {
                let (rows, columns) = (out.len() / made, made / groups.len());
                let mut windows = Windows::new(self, data, groups.len());
                for (group, (matrix, finish)) in groups.iter().zip(finish).enumerate() {
                    let mut write = |range: Range<usize>, to: &mut [i16]| windows.write(group, range, to);
                    matrix.multiply(rows, &mut write, finish, out, (made, group * columns));
                }
            }
            (Packed::Depthwise(depthwise), finish) => {
                let mut frame = Frame::new(self, data, 0);
                let (taps, starts) = (self.path.taps(), self.path.starts());
                let Some(finish) = finish.first() else { return };
                for (image, out) in out.chunks_exact_mut(self.path.places() * made).enumerate() {
                    frame.lay(image);
                    depthwise.apply(&frame.numbers, &starts, &taps, finish, out);
                }
            }
        }
    }
}

/// The frame of one image after another.
struct Frame<'a, Q> {
    images: &'a Images<'a>,
    data: &'a [Q],
    numbers: Vec<i16>,
    /// The image that is in it.
    laid: Option<usize>,
}

impl<'a, Q: Quantised> Frame<'a, Q>
where
    i16: From<Q>,
{
    /// With so many numbers after its end.
    fn new(images: &'a Images<'a>, data: &'a [Q], slack: usize) -> Self {
        Self { images, data, numbers: vec![0; images.path.frame() + slack], laid: None }
    }

    fn lay(&mut self, image: usize) {
        if self.laid == Some(image) {
            return;
        }
        self.laid = Some(image);
        let (path, zero) = (self.images.path, self.images.zero);
        let Some(from) = self.data.chunks_exact(path.image().max(1)).nth(image) else { return };
        let to = &mut self.numbers;
        dispatch!(Level::new(), simd => simd.vectorize(
            #[inline(always)]
            || path.lay(from, to, |number| i16::from(number).wrapping_sub(zero)),
        ));
    }
}

/// The windows of all images, one a row.
struct Windows<'a, Q> {
    frame: Frame<'a, Q>,
    starts: Vec<usize>,
    /// Where the parts of a window begin that lie together, and how long they are.
    parts: Vec<usize>,
    length: usize,
    /// The length in whole steps.
    steps: usize,
    /// Channels of a group.
    taken: usize,
    pitch: usize,
}

impl<'a, Q: Quantised> Windows<'a, Q>
where
    i16: From<Q>,
{
    fn new(images: &'a Images<'a>, data: &'a [Q], groups: usize) -> Self {
        let (path, taken) = (images.path, images.weights.taken);
        let (together, taps) = (if groups == 1 { path.together() } else { 1 }, path.taps());
        Self {
            frame: Frame::new(images, data, SLACK),
            starts: path.starts(),
            length: together * taken,
            steps: (together * taken).next_multiple_of(SLACK),
            taken,
            pitch: pitch(taps.len() * taken),
            parts: taps.into_iter().step_by(together.max(1)).collect(),
        }
    }

    /// Writes the windows of some places, what they see of one group.
    fn write(&mut self, group: usize, places: Range<usize>, mut to: &mut [i16]) {
        let mut place = places.start;
        while place < places.end {
            let image = place / self.starts.len();
            self.frame.lay(image);
            let first = image * self.starts.len();
            let last = places.end.min(first + self.starts.len());
            for start in self.starts.get(place - first..last - first).unwrap_or_default() {
                self.one(start + group * self.taken, to);
                to = to.get_mut(self.pitch..).unwrap_or_default();
            }
            place = last;
        }
    }

    /// Writes one window: short parts in steps of one length, each over what the last wrote too much.
    #[inline(always)]
    fn one(&self, start: usize, to: &mut [i16]) {
        let mut at = 0;
        for part in &self.parts {
            let from = self.frame.numbers.get(start + part..).and_then(|from| from.get(..self.steps));
            let to = to.get_mut(at..).and_then(|to| to.get_mut(..self.steps));
            let (Some(from), Some(to)) = (from, to) else { return };
            for (to, from) in to.as_chunks_mut::<SLACK>().0.iter_mut().zip(from.as_chunks::<SLACK>().0) {
                *to = *from;
            }
            at += self.length;
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "the numbers of the tests are small"
)]
mod tests {
    use tract_onnx::pb::AttributeProto;
    use tract_onnx::prelude::IntoArcTensor;

    use super::super::finish::{INTEGER, LINEAR};
    use super::*;

    fn value<T: Datum + Copy>(shape: &[usize], numbers: &[T]) -> Option<TValue> {
        Some(Tensor::from_shape(shape, numbers).unwrap().into_tvalue())
    }

    fn bytes(count: usize, factor: usize) -> Vec<u8> {
        (0..count).map(|index| u8::try_from((index * factor + index / 7) % 256).unwrap()).collect()
    }

    fn conv(name: &'static str, places: Places, is_last: bool, case: &Case, inputs: usize) -> Conv {
        let lists: [(&str, &[i64]); 3] =
            [("strides", &case.strides), ("dilations", &case.dilations), ("pads", &case.pads)];
        let mut attribute: Vec<AttributeProto> = lists
            .into_iter()
            .map(|(name, ints)| AttributeProto {
                name: name.to_owned(),
                r#type: 7,
                ints: ints.to_vec(),
                ..AttributeProto::default()
            })
            .collect();
        attribute.push(AttributeProto { name: "group".into(), r#type: 2, i: case.group, ..AttributeProto::default() });
        let node = NodeProto { input: vec!["x".into(); inputs], attribute, ..NodeProto::default() };
        Conv::read(&node, name, places, is_last).unwrap()
    }

    struct Case {
        image: [usize; 4],
        kernel: [usize; 4],
        strides: [i64; 2],
        dilations: [i64; 2],
        pads: [i64; 4],
        group: i64,
    }

    impl Case {
        fn out(&self, axis: usize) -> usize {
            let (stride, dilation) = (self.strides[axis] as usize, self.dilations[axis] as usize);
            let padded = self.image[axis + 2] + (self.pads[axis] + self.pads[axis + 2]) as usize;
            (padded - dilation * (self.kernel[axis + 2] - 1) - 1) / stride + 1
        }

        /// The sums by the definition.
        fn sums(&self, data: &[i32], zero: i32, weights: &[i8]) -> Vec<i32> {
            let ([rows, channels, height, width], [made, taken, kh, kw]) = (self.image, self.kernel);
            let of_group = made / self.group as usize;
            let mut sums = Vec::new();
            for row in 0..rows {
                for out in 0..made {
                    for place in 0..self.out(0) * self.out(1) {
                        let (oy, ox) = (place / self.out(1), place % self.out(1));
                        let mut sum = 0;
                        for tap in 0..taken * kh * kw {
                            let (channel, ky, kx) = (tap / (kh * kw), tap / kw % kh, tap % kw);
                            let at = |o: usize, k: usize, axis: usize| {
                                o as i64 * self.strides[axis] + k as i64 * self.dilations[axis] - self.pads[axis]
                            };
                            let (y, x) = (at(oy, ky, 0), at(ox, kx, 1));
                            if (0..height as i64).contains(&y) && (0..width as i64).contains(&x) {
                                let channel = out / of_group * taken + channel;
                                let from = ((row * channels + channel) * height + y as usize) * width + x as usize;
                                let weight = weights[out * taken * kh * kw + tap];
                                sum += (data[from] - zero) * i32::from(weight);
                            }
                        }
                        sums.push(sum);
                    }
                }
            }
            sums
        }
    }

    fn cases() -> Vec<Case> {
        let plain =
            |image, kernel, group| Case { image, kernel, strides: [1, 1], dilations: [1, 1], pads: [0; 4], group };
        vec![
            plain([1, 1, 3, 3], [1, 1, 3, 3], 1),
            plain([2, 5, 4, 6], [7, 5, 1, 1], 1),
            Case { pads: [1, 1, 1, 1], ..plain([2, 3, 8, 8], [6, 3, 3, 3], 1) },
            Case { pads: [1, 1, 1, 1], strides: [2, 2], ..plain([1, 4, 9, 7], [4, 1, 3, 3], 4) },
            Case { pads: [0, 2, 1, 0], strides: [1, 3], ..plain([1, 4, 9, 11], [6, 2, 2, 4], 2) },
            Case { dilations: [2, 3], strides: [2, 1], ..plain([1, 2, 12, 12], [3, 2, 3, 2], 1) },
            Case { strides: [3, 3], ..plain([1, 2, 10, 10], [2, 2, 1, 1], 1) },
            Case { pads: [3, 3, 3, 3], ..plain([1, 1, 2, 2], [1, 1, 5, 5], 1) },
            Case { pads: [1, 1, 1, 1], ..plain([2, 20, 7, 6], [20, 1, 3, 3], 20) },
            Case { dilations: [2, 1], pads: [2, 0, 1, 1], ..plain([3, 33, 6, 5], [33, 1, 2, 3], 33) },
            Case { strides: [2, 3], ..plain([1, 8, 9, 9], [8, 1, 2, 2], 8) },
            plain([2, 3, 4, 4], [6, 1, 2, 2], 3),
            Case { strides: [1, 2], dilations: [1, 2], pads: [0, 1, 0, 0], ..plain([2, 18, 5, 8], [40, 9, 1, 3], 2) },
            plain([70, 3, 3, 5], [19, 3, 2, 2], 1),
            Case { pads: [0, 0, 0, 1], ..plain([1, 2, 1, 1], [3, 2, 1, 1], 1) },
        ]
    }

    #[test]
    fn every_window_sums_as_the_definition_says() {
        for (case, is_last) in cases().iter().flat_map(|case| [(case, false), (case, true)]) {
            let data = bytes(case.image.iter().product(), 37);
            let weights: Vec<i8> = bytes(case.kernel.iter().product(), 101).iter().map(|b| b.cast_signed()).collect();
            let wide: Vec<i32> = data.iter().map(|byte| i32::from(*byte)).collect();
            let want = case.sums(&wide, 9, &weights);
            let image = |image: Option<TValue>| {
                image.map(|image| if is_last { Turn::LAST.tensor(&image).unwrap().into_tvalue() } else { image })
            };
            let made = |out: TVec<TValue>| {
                let out = if is_last { Turn::SECOND.tensor(&out[0]).unwrap() } else { Tensor::clone(&out[0]) };
                assert_eq!(out.shape(), [case.image[0], case.kernel[0], case.out(0), case.out(1)]);
                out
            };
            let inputs = [image(value(&case.image, &data)), value(&case.kernel, &weights), value(&[], &[9_u8])];
            let out = made(conv("ConvInteger", INTEGER, is_last, case, 3).compute(Slots(&inputs)).unwrap());
            assert_eq!(out.try_as_plain_ram().unwrap().as_slice::<i32>().unwrap(), want);

            let signed: Vec<i8> = data.iter().map(|byte| byte.cast_signed()).collect();
            let wide: Vec<i32> = signed.iter().map(|byte| i32::from(*byte)).collect();
            let want = case.sums(&wide, -7, &weights);
            let channels = case.kernel[0];
            let scales: Vec<f32> = (0..channels).map(|channel| 0.001 * (channel + 1) as f32).collect();
            let bias: Vec<i32> = (0..channels).map(|channel| 100 * i32::try_from(channel).unwrap() - 150).collect();
            let [half, quarter] = [0.5_f32, 0.25].map(|scale| value(&[], &[scale]));
            let inputs = [
                image(value(&case.image, &signed)),
                half,
                value(&[], &[-7_i8]),
                value(&case.kernel, &weights),
                value(&[channels], &scales),
                value(&[channels], &vec![0_i8; channels]),
                quarter,
                value(&[], &[3_u8]),
                value(&[channels], &bias),
            ];
            let mut linear = conv("QLinearConv", LINEAR, is_last, case, 9);
            let stored: Vec<_> = inputs.iter().map(|input| input.clone().map(IntoArcTensor::into_arc_tensor)).collect();
            linear.prepare(Slots(&stored)).unwrap();
            let out = made(linear.compute(Slots(&inputs)).unwrap());
            let plane = case.out(0) * case.out(1);
            let want: Vec<u8> = want
                .iter()
                .enumerate()
                .map(|(at, sum)| {
                    let channel = at / plane % channels;
                    let scaled = (sum + bias[channel]) as f32 * (scales[channel] * 0.5 / 0.25);
                    (scaled.clamp(-300.0, 300.0).round_ties_even() as i32 + 3).clamp(0, 255) as u8
                })
                .collect();
            assert_eq!(out.try_as_plain_ram().unwrap().as_slice::<u8>().unwrap(), want);
        }
    }
}
