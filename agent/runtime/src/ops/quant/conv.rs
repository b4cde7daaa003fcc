//! Convolutions of quantised images, over one dimension or two: QLinearConv and ConvInteger.
//!
//! The image is laid out so that what one tap of the kernel meets lies side by side for all outputs of a
//! row, whatever the stride: rows and columns are sorted by their remainder. A panel then is sixteen
//! neighbouring outputs, its rows are the taps, and the weights are the matrix that it is multiplied with.
//!
//! ```text
//!  stride 2:  x0 x1 x2 x3 x4 x5 ..  ->  x0 x2 x4 ..      tap 0 reads from here, tap 2 one further
//!                                       x1 x3 x5 ..      tap 1 reads from here
//! ```

use std::sync::Arc;

use fearless_simd::{Level, Simd, dispatch};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, IntoTValue as _, TDim, TValue, TVec, Tensor, TractResult, tvec};
use tract_onnx::tract_core::internal::{Datum, DimLike as _, bail, ensure};

use super::finish::{Cut, Parameters, Places};
use super::kernel::{Finish, Kept, LANES, Pairs, interleaved, multiply, paired};
use super::node::{Fact, Kernel, Slots};
use super::number::{Quantised, only, spread, with_type, zeros};
use super::window::{Laid, Window};

/// Most numbers of an image with its pads: eight times the most elements of a tensor.
const LAID_MAX: usize = 1 << 28;

/// A convolution of `[rows, channels, height, width]`, or without height.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    name: &'static str,
    places: Places,
    cut: Cut,
    window: Window,
    group: usize,
    present: Vec<bool>,
    weights: Option<Arc<Weights>>,
    finish: Option<Arc<Finish>>,
}

/// What is prepared follows from the inputs, which are compared elsewhere.
impl PartialEq for Conv {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.places, self.cut, &self.window, self.group)
            == (other.name, other.places, other.cut, &other.window, other.group)
    }
}

impl Eq for Conv {}

/// Rows of pairs, one for each output channel.
#[derive(Clone, Debug)]
struct Weights {
    made: usize,
    /// Channels of a group.
    taken: usize,
    /// Height and width.
    kernel: [usize; 2],
    rows: Vec<i32>,
}

impl Weights {
    fn of(tensor: &Tensor, zero: Option<&Tensor>) -> TractResult<Self> {
        let (made, taken, kernel) = match tensor.shape() {
            [made, taken, width] => (*made, *taken, [1, *width]),
            [made, taken, height, width] => (*made, *taken, [*height, *width]),
            other => bail!("a kernel of shape {other:?}: one dimension of space or two are supported"),
        };
        let depth = taken * kernel.iter().product::<usize>();
        ensure!(depth > 0 && made > 0, "a kernel of shape {:?}", tensor.shape());
        let zeros = spread(&zeros(zero)?, made)?;
        let mut numbers = super::number::centred(tensor, 0)?;
        for (row, zero) in numbers.chunks_mut(depth).zip(zeros) {
            let zero = i16::try_from(zero.clamp(-128, 255))?;
            row.iter_mut().for_each(|number| *number -= zero);
        }
        Ok(Self { made, taken, kernel, rows: paired(&numbers, depth) })
    }

    /// Pairs of a row.
    fn pairs(&self) -> usize {
        self.rows.len() / self.made
    }
}

impl Conv {
    /// Reads a node.
    ///
    /// # Errors
    ///
    /// Attributes that are not supported.
    pub(super) fn read(node: &NodeProto, name: &'static str, places: Places) -> TractResult<Self> {
        Ok(Self {
            name,
            places,
            cut: Cut::read(node)?,
            window: Window::read(node)?,
            group: usize::try_from(node.get_attr_opt::<i64>("group")?.unwrap_or(1))?.max(1),
            present: node.input.iter().map(|name| !name.is_empty()).collect(),
            weights: None,
            finish: None,
        })
    }

    fn parameters<'a, T>(&self, inputs: Slots<'a, T>, made: usize) -> Parameters<'a, T> {
        Parameters {
            places: self.places,
            data_scale: None,
            alpha: 1.0,
            cut: self.cut,
            channels: made,
            padded: made,
            is_by_row: true,
            inputs,
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
        let ([rows, _, space @ ..], [made, _, kernel @ ..]) = (data.as_slice(), weight.as_slice()) else {
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
        Ok(tvec![(kind, shape)])
    }

    fn prepare(&mut self, stored: Slots<'_, Arc<Tensor>>) -> TractResult<()> {
        let present = |place: usize| self.present.get(place).copied().unwrap_or(false);
        let Some(weight) = stored.at(self.places.weight) else { return Ok(()) };
        let zero = stored.at(self.places.weight_zero);
        if zero.is_some() || !present(self.places.weight_zero) {
            self.weights = Some(Arc::new(Weights::of(weight, zero.map(|zero| &**zero))?));
        }
        if let Some(weights) = &self.weights
            && self.places.are_in(stored, present)
        {
            self.finish = Some(Arc::new(self.parameters(stored, weights.made).finish()?));
        }
        Ok(())
    }

    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>> {
        let weights = match &self.weights {
            Some(weights) => Arc::clone(weights),
            None => Arc::new(Weights::of(
                inputs.need(self.places.weight)?,
                inputs.at(self.places.weight_zero).map(|zero| &**zero),
            )?),
        };
        let finish = match &self.finish {
            Some(finish) => Arc::clone(finish),
            None => Arc::new(self.parameters(inputs, weights.made).finish()?),
        };
        let zero = only(&zeros(inputs.at(self.places.data_zero).map(|zero| &**zero))?)?;
        let data = inputs.need(self.places.data)?;
        let (channels, size) = match data.shape() {
            [_, channels, width] => (*channels, [1, *width]),
            [_, channels, height, width] => (*channels, [*height, *width]),
            other => bail!("an image of shape {other:?}"),
        };
        ensure!(
            channels == weights.taken * self.group && weights.made.is_multiple_of(self.group),
            "{channels} channels in {} groups for {} weights of {}",
            self.group,
            weights.made,
            weights.taken
        );
        let space = data.rank() - 2;
        let laid = Laid::of(&self.window, space, size, weights.kernel)?;
        ensure!(laid.plane().saturating_mul(channels) <= LAID_MAX, "an image of {channels} times {}", laid.plane());
        let image = Images { channels, group: self.group, weights: &weights, finish: &finish, laid: &laid };
        let mut shape: TVec<usize> = data.shape().iter().copied().take(1).collect();
        shape.push(weights.made);
        shape.extend(laid.out.iter().copied().skip(2 - space));
        let zero = i16::try_from(zero.clamp(-128, 255))?;
        let kind = self.places.kind(inputs, false, |value| value.datum_type())?;
        let output = if kind == DatumType::F32 {
            image.tensor::<f32>(data, zero, &shape)?
        } else if kind == DatumType::I8 {
            image.tensor::<i8>(data, zero, &shape)?
        } else if kind == DatumType::U8 {
            image.tensor::<u8>(data, zero, &shape)?
        } else {
            image.tensor::<i32>(data, zero, &shape)?
        };
        Ok(tvec![output.into_tvalue()])
    }
}

/// Images of one size that are convolved with the same weights.
struct Images<'a> {
    channels: usize,
    group: usize,
    weights: &'a Weights,
    finish: &'a Finish,
    laid: &'a Laid,
}

impl Images<'_> {
    fn tensor<T: Kept + Datum>(&self, data: &Tensor, zero: i16, shape: &[usize]) -> TractResult<Tensor> {
        let mut out = Vec::with_capacity(shape.iter().product());
        let view = data.try_as_plain_ram()?;
        with_type!(data.datum_type(), Q => self.all::<Q, T>(view.as_slice::<Q>()?, zero, &mut out));
        Tensor::from_shape(shape, &out)
    }

    fn all<Q: Quantised, T: Kept>(&self, data: &[Q], zero: i16, out: &mut Vec<T>)
    where
        i16: From<Q>,
    {
        let [height, width] = self.laid.size;
        let plane = self.laid.plane();
        // The last block reads past the last output.
        let mut planes = vec![0_i16; plane * self.channels + LANES];
        let padded = self.laid.positions().next_multiple_of(LANES);
        let mut stage = vec![T::default(); self.weights.made * padded];
        for image in data.chunks_exact((self.channels * height * width).max(1)) {
            dispatch!(Level::new(), simd => {
                self.lay(simd, image, zero, &mut planes);
                self.convolve(simd, &planes, &mut stage);
            });
            let [rows, columns] = self.laid.out;
            for channel in stage.chunks_exact(padded.max(1)) {
                if self.laid.pitch() == columns {
                    out.extend_from_slice(channel.get(..rows * columns).unwrap_or(channel));
                    continue;
                }
                for row in channel.chunks(self.laid.pitch()).take(rows) {
                    out.extend_from_slice(row.get(..columns).unwrap_or(row));
                }
            }
        }
    }

    /// Lays the channels of an image, less its zero point.
    #[inline(always)]
    fn lay<S: Simd, Q: Quantised>(&self, simd: S, image: &[Q], zero: i16, planes: &mut [i16])
    where
        i16: From<Q>,
    {
        let [height, width] = self.laid.size;
        let planes = planes.chunks_mut(self.laid.plane().max(1));
        simd.vectorize(
            #[inline(always)]
            || {
                for (image, to) in image.chunks_exact((height * width).max(1)).zip(planes) {
                    self.laid.lay(image, to, |number| i16::from(number).wrapping_sub(zero));
                }
            },
        );
    }

    #[inline(always)]
    fn convolve<S: Simd, T: Kept>(&self, simd: S, planes: &[i16], stage: &mut [T]) {
        let taps = self.laid.taps(self.weights.taken);
        let (made, pairs) = (self.weights.made / self.group, self.weights.pairs());
        let padded = self.laid.positions().next_multiple_of(LANES);
        let mut panel: Vec<Pairs> = vec![Pairs::default(); pairs];
        let nothing = [0; LANES];
        for group in 0..self.group {
            let first = group * self.weights.taken * self.laid.plane();
            let from = group * made * pairs;
            let Some(rows) = self.weights.rows.get(from..from + made * pairs) else { return };
            for position in (0..padded).step_by(LANES) {
                let read = |tap: usize| planes.get(first + tap + position..).and_then(|rest| rest.first_chunk());
                for (to, taps) in panel.iter_mut().zip(taps.chunks(2)) {
                    let (one, two) = (taps.first().copied().unwrap_or(0), taps.get(1).copied());
                    let one = read(one).unwrap_or(&nothing);
                    *to = interleaved(simd, one, two.and_then(read).unwrap_or(&nothing));
                }
                multiply(simd, rows, &panel, (self.finish, group * made, 0), |row, sums: [T; LANES]| {
                    let start = row * padded + position;
                    if let Some(to) = stage.get_mut(start..start + LANES) {
                        to.copy_from_slice(&sums);
                    }
                });
            }
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

    fn conv(name: &'static str, places: Places, lists: &[(&str, &[i64])], group: i64, inputs: usize) -> Conv {
        let mut attribute: Vec<AttributeProto> = lists
            .iter()
            .map(|(name, ints)| AttributeProto {
                name: (*name).to_owned(),
                r#type: 7,
                ints: ints.to_vec(),
                ..AttributeProto::default()
            })
            .collect();
        attribute.push(AttributeProto { name: "group".into(), r#type: 2, i: group, ..AttributeProto::default() });
        let node = NodeProto { input: vec!["x".into(); inputs], attribute, ..NodeProto::default() };
        Conv::read(&node, name, places).unwrap()
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
        fn sums(&self, data: &[u8], zero: i32, weights: &[i8]) -> Vec<i32> {
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
                                sum += (i32::from(data[from]) - zero) * i32::from(weight);
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
        ]
    }

    #[test]
    fn every_window_sums_as_the_definition_says() {
        for case in cases() {
            let data = bytes(case.image.iter().product(), 37);
            let weights: Vec<i8> = bytes(case.kernel.iter().product(), 101).iter().map(|b| b.cast_signed()).collect();
            let lists: [(&str, &[i64]); 3] =
                [("strides", &case.strides), ("dilations", &case.dilations), ("pads", &case.pads)];
            let want = case.sums(&data, 9, &weights);
            let inputs = [value(&case.image, &data), value(&case.kernel, &weights), value(&[], &[9_u8])];
            let out = conv("ConvInteger", INTEGER, &lists, case.group, 3).compute(Slots(&inputs)).unwrap();
            let shape = [case.image[0], case.kernel[0], case.out(0), case.out(1)];
            assert_eq!(out[0].shape(), shape);
            assert_eq!(out[0].try_as_plain_ram().unwrap().as_slice::<i32>().unwrap(), want);

            let made = case.kernel[0];
            let scales: Vec<f32> = (0..made).map(|channel| 0.001 * (channel + 1) as f32).collect();
            let bias: Vec<i32> = (0..made).map(|channel| 100 * i32::try_from(channel).unwrap() - 150).collect();
            let [half, quarter] = [0.5_f32, 0.25].map(|scale| value(&[], &[scale]));
            let inputs = [
                value(&case.image, &data),
                half,
                value(&[], &[9_u8]),
                value(&case.kernel, &weights),
                value(&[made], &scales),
                value(&[made], &vec![0_i8; made]),
                quarter,
                value(&[], &[3_u8]),
                value(&[made], &bias),
            ];
            let mut linear = conv("QLinearConv", LINEAR, &lists, case.group, 9);
            let stored: Vec<_> = inputs.iter().map(|input| input.clone().map(IntoArcTensor::into_arc_tensor)).collect();
            linear.prepare(Slots(&stored)).unwrap();
            let out = linear.compute(Slots(&inputs)).unwrap();
            let plane = case.out(0) * case.out(1);
            let want: Vec<u8> = want
                .iter()
                .enumerate()
                .map(|(at, sum)| {
                    let channel = at / plane % made;
                    let scaled = (sum + bias[channel]) as f32 * (scales[channel] * 0.5 / 0.25);
                    (scaled.clamp(-300.0, 300.0).round_ties_even() as i32 + 3).clamp(0, 255) as u8
                })
                .collect();
            assert_eq!(out[0].try_as_plain_ram().unwrap().as_slice::<u8>().unwrap(), want);
        }
    }
}
