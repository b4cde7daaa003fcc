//! QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.
//!
//! Tract has them too, and rewrites what stands between two of them: where every dimension passes
//! through (as with Softmax or CumSum), it tabulates the operators for the 256 numbers of one byte, as if
//! each number were computed by itself. Softmax over such a table is all but 0, and a classifier's answers
//! are all the same. These operators are none that tract knows, so that it leaves them alone.

use fearless_simd::{Level, Simd, dispatch};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, IntoTValue as _, TDim, TValue, TVec, Tensor, TractResult, tvec};
use tract_onnx::tract_core::internal::{bail, ensure, tensor0};

use super::node::{Fact, Kernel, Slots};
use super::number::{Quantised, Target, floats, rounded, scales, with_type, zeros};

/// Where scales and zero points of several channels or blocks lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    axis: i64,
    /// Numbers along the axis that share a scale; 0 if all of a channel do.
    block: usize,
}

impl Layout {
    fn read(node: &NodeProto) -> TractResult<Self> {
        let block: i64 = node.get_attr_opt("block_size")?.unwrap_or(0);
        Ok(Self { axis: node.get_attr_opt("axis")?.unwrap_or(1), block: usize::try_from(block)? })
    }

    /// Runs of numbers that share a scale: how long each is, and the place of each one's scale.
    fn runs(self, shape: &[usize], scale: &Tensor) -> TractResult<(usize, Vec<usize>)> {
        let count: usize = shape.iter().product();
        if scale.len() == 1 {
            return Ok((count.max(1), vec![0]));
        }
        let rank = i64::try_from(shape.len())?;
        let axis = usize::try_from(if self.axis < 0 { self.axis + rank } else { self.axis })?;
        let Some((before, [size, after @ ..])) = shape.split_at_checked(axis) else {
            bail!("axis {} of {shape:?}", self.axis);
        };
        let (outer, inner) = (before.iter().product::<usize>(), after.iter().product::<usize>());
        if self.block == 0 {
            ensure!(scale.len() == *size, "{} scales along axis {axis} of {shape:?}", scale.len());
            return Ok((inner, (0..outer).flat_map(|_| 0..*size).collect()));
        }
        let blocks = size.div_ceil(self.block);
        ensure!(scale.len() == outer * blocks * inner, "{} scales for blocks of {shape:?}", scale.len());
        let places = (0..outer).flat_map(|row| {
            (0..*size).flat_map(move |at| (0..inner).map(move |place| (row * blocks + at / self.block) * inner + place))
        });
        Ok((1, places.collect()))
    }
}

/// `QuantizeLinear`: floats or 32-bit integers to integers of 8 or 16 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quantize {
    layout: Layout,
    /// The type that is asked for where there is no zero point.
    kind: DatumType,
}

impl Quantize {
    /// Reads the attributes.
    ///
    /// # Errors
    ///
    /// They ask for another type.
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let kind = match node.get_attr_opt::<i64>("output_dtype")?.unwrap_or(0) {
            0 | 2 => DatumType::U8,
            3 => DatumType::I8,
            4 => DatumType::U16,
            5 => DatumType::I16,
            other => bail!("output_dtype {other} is not supported"),
        };
        Ok(Self { layout: Layout::read(node)?, kind })
    }
}

impl Kernel for Quantize {
    fn name(&self) -> &'static str {
        "Quantize"
    }

    fn facts(&self, inputs: Slots<'_, Fact>) -> TractResult<TVec<Fact>> {
        let kind = inputs.at(2).map_or(self.kind, |zero| zero.0);
        Ok(tvec![(kind, inputs.need(0)?.1.clone())])
    }

    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>> {
        let (input, scale) = (inputs.need(0)?, inputs.need(1)?);
        let zero = inputs.at(2);
        let kind = zero.map_or(self.kind, |zero| zero.datum_type());
        let runs = self.layout.runs(input.shape(), scale)?;
        let (scales, zeros) = (scales(scale)?, zeros(zero.map(|zero| &**zero))?);
        let input = input.cast_to::<f32>()?;
        let from = input.try_as_plain_ram()?;
        let from = from.as_slice::<f32>()?;
        let output = with_type!(kind, wide Q => {
            let mut numbers = vec![Q::default(); from.len()];
            for ((from, to), place) in from.chunks(runs.0.max(1)).zip(numbers.chunks_mut(runs.0.max(1))).zip(runs.1) {
                let scale = scales.get(place).copied().unwrap_or(1.0);
                let target = Target::of::<Q>(*zeros.get(place).or(zeros.first()).unwrap_or(&0));
                quantise(from, scale, target, to);
            }
            Tensor::from_shape(input.shape(), &numbers)?
        });
        Ok(tvec![output.into_tvalue()])
    }
}

/// Divides by the scale, rounds and saturates.
pub(super) fn quantise<Q: Quantised>(from: &[f32], scale: f32, target: Target, to: &mut [Q]) {
    dispatch!(Level::new(), simd => each(simd, from, to, |number| target.number(number / scale)));
}

/// Applies a function of one number to all.
#[inline(always)]
fn each<S: Simd, A: Copy, B>(simd: S, from: &[A], to: &mut [B], function: impl Fn(A) -> B) {
    simd.vectorize(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to = function(*from);
            }
        },
    );
}

/// `DequantizeLinear`: integers of 8, 16 or 32 bits to floats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dequantize {
    layout: Layout,
}

impl Dequantize {
    /// Reads the attributes.
    ///
    /// # Errors
    ///
    /// They are of the wrong type.
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        Ok(Self { layout: Layout::read(node)? })
    }
}

impl Kernel for Dequantize {
    fn name(&self) -> &'static str {
        "Dequantize"
    }

    fn facts(&self, inputs: Slots<'_, Fact>) -> TractResult<TVec<Fact>> {
        Ok(tvec![(DatumType::F32, inputs.need(0)?.1.clone())])
    }

    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>> {
        let (input, scale) = (inputs.need(0)?, inputs.need(1)?);
        let runs = self.layout.runs(input.shape(), scale)?;
        let (scales, zeros) = (floats(scale)?, zeros(inputs.at(2).map(|zero| &**zero))?);
        let view = input.try_as_plain_ram()?;
        let parameters = |place: usize| {
            let scale = scales.get(place).copied().unwrap_or(1.0);
            (scale, *zeros.get(place).or(zeros.first()).unwrap_or(&0))
        };
        let numbers = if input.datum_type() == DatumType::I32 {
            dequantised(view.as_slice::<i32>()?, runs, parameters, |number| number)
        } else {
            with_type!(input.datum_type(), wide Q => dequantised(view.as_slice::<Q>()?, runs, parameters, Q::wide))
        };
        Ok(tvec![Tensor::from_shape(input.shape(), &numbers)?.into_tvalue()])
    }
}

fn dequantised<Q: Copy>(
    from: &[Q],
    (length, places): (usize, Vec<usize>),
    parameters: impl Fn(usize) -> (f32, i32),
    wide: impl Fn(Q) -> i32 + Copy,
) -> Vec<f32> {
    let mut numbers = vec![0.0; from.len()];
    for ((from, to), place) in from.chunks(length.max(1)).zip(numbers.chunks_mut(length.max(1))).zip(places) {
        let (scale, zero) = parameters(place);
        dispatch!(Level::new(), simd => each(simd, from, to, |number| wide(number).wrapping_sub(zero) as f32 * scale));
    }
    numbers
}

/// `DynamicQuantizeLinear`: bytes, scale and zero point from the range of the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DynamicQuantize;

impl Kernel for DynamicQuantize {
    fn name(&self) -> &'static str {
        "DynamicQuantize"
    }

    fn outputs(&self) -> usize {
        3
    }

    fn facts(&self, inputs: Slots<'_, Fact>) -> TractResult<TVec<Fact>> {
        let shape = inputs.need(0)?.1.clone();
        let none: TVec<TDim> = TVec::new();
        Ok(tvec![(DatumType::U8, shape), (DatumType::F32, none.clone()), (DatumType::U8, none)])
    }

    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>> {
        let input = inputs.need(0)?;
        let view = input.try_as_plain_ram()?;
        let from = view.as_slice::<f32>()?;
        let (scale, zero) = dynamic(from);
        let mut numbers = vec![0_u8; from.len()];
        quantise(from, scale, Target::of::<u8>(i32::from(zero)), &mut numbers);
        let numbers = Tensor::from_shape(input.shape(), &numbers)?;
        Ok(tvec![numbers.into_tvalue(), tensor0(scale).into_tvalue(), tensor0(zero).into_tvalue()])
    }
}

/// Scale and zero point of bytes that hold all these numbers, and 0.
pub(super) fn dynamic(numbers: &[f32]) -> (f32, u8) {
    let (least, most) = dispatch!(Level::new(), simd => range(simd, numbers));
    let scale = (most - least) / 255.0;
    let scale = if scale > 0.0 { scale } else { 1.0 };
    (scale, u8::narrow(rounded(-least / scale, 0.0, 255.0)))
}

#[inline(always)]
fn range<S: Simd>(simd: S, numbers: &[f32]) -> (f32, f32) {
    const LANES: usize = 16;
    simd.vectorize(
        #[inline(always)]
        || {
            let (chunks, rest) = numbers.as_chunks::<LANES>();
            let (mut least, mut most) = ([0.0_f32; LANES], [0.0_f32; LANES]);
            let lower = |a: f32, b: f32| if b < a { b } else { a };
            let higher = |a: f32, b: f32| if b > a { b } else { a };
            for chunk in chunks {
                for ((least, most), number) in least.iter_mut().zip(&mut most).zip(chunk) {
                    (*least, *most) = (lower(*least, *number), higher(*most, *number));
                }
            }
            let least = least.iter().chain(rest).fold(0.0, |a, b| lower(a, *b));
            (least, most.iter().chain(rest).fold(0.0, |a, b| higher(a, *b)))
        },
    )
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of the tests are small")]
mod tests {
    use super::*;

    fn value<T: tract_onnx::prelude::Datum + Copy>(shape: &[usize], numbers: &[T]) -> Option<TValue> {
        Some(Tensor::from_shape(shape, numbers).unwrap().into_tvalue())
    }

    fn floats_of(value: &TValue) -> Vec<f32> {
        floats(value).unwrap()
    }

    #[test]
    fn channels_and_blocks_have_their_own_scales() {
        let layout = |axis, block| Layout { axis, block };
        let input = value(&[2, 4], &[1_i8, 2, 3, 4, 5, 6, 7, 8]);
        let rows = [input.clone(), value(&[2], &[1.0_f32, 10.0]), value(&[2], &[0_i8, 1])];
        let out = Dequantize { layout: layout(0, 0) }.compute(Slots(&rows)).unwrap();
        assert_eq!(floats_of(&out[0]), [1.0, 2.0, 3.0, 4.0, 40.0, 50.0, 60.0, 70.0]);
        let blocks = [input.clone(), value(&[2, 2], &[1.0_f32, 10.0, 100.0, 1000.0]), None];
        let out = Dequantize { layout: layout(-1, 2) }.compute(Slots(&blocks)).unwrap();
        assert_eq!(floats_of(&out[0]), [1.0, 2.0, 30.0, 40.0, 500.0, 600.0, 7000.0, 8000.0]);
        let short = [input, value(&[3], &[1.0_f32, 2.0, 3.0]), None];
        assert!(Dequantize { layout: layout(1, 0) }.compute(Slots(&short)).is_err());
    }

    #[test]
    fn a_range_that_is_found_holds_nought_and_skips_what_is_no_number() {
        assert_eq!(dynamic(&[-127.0, 128.0, 0.5]), (1.0, 127));
        assert_eq!(dynamic(&[-253.0, 257.0]), (2.0, 126));
        assert_eq!(dynamic(&[1.0; 40]), (1.0 / 255.0, 0));
        assert_eq!(dynamic(&[f32::NAN, 0.0]), (1.0, 0));
        assert_eq!(dynamic(&[]), (1.0, 0));
    }

    #[test]
    fn floats_become_numbers_of_the_type_of_the_zero_point() {
        let numbers: Vec<f32> = (0..40).map(|index| index as f32 * 0.5).collect();
        let inputs = [value(&[40], &numbers), value(&[], &[1.0_f32]), value(&[], &[-128_i8])];
        let quantize = Quantize { layout: Layout { axis: 1, block: 0 }, kind: DatumType::U8 };
        let out = quantize.compute(Slots(&inputs)).unwrap();
        let view = out[0].try_as_plain_ram().unwrap();
        let got = view.as_slice::<i8>().unwrap();
        let want: Vec<i8> = numbers.iter().map(|number| (number.round_ties_even() as i32 - 128) as i8).collect();
        assert_eq!(got, want);
    }
}
