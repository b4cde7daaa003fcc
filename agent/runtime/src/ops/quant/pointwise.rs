//! Number by number: sums and products of two quantised tensors, and any function of one by a table.

use std::sync::Arc;

use fearless_simd::{Level, Simd, dispatch};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, IntoTValue as _, TValue, TVec, Tensor, TractResult, tvec};
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::internal::{bail, ensure};

use super::node::{Fact, Kernel, Slots};
use super::number::{Quantised, Target, only, scales, with_type, zeros};

/// `com.microsoft` QLinearAdd or QLinearMul: two tensors, each with scale and zero point, and those
/// of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Mul,
}

impl Kernel for Binary {
    fn name(&self) -> &'static str {
        match self {
            Self::Add => "QLinearAdd",
            Self::Mul => "QLinearMul",
        }
    }

    fn facts(&self, inputs: Slots<'_, Fact>) -> TractResult<TVec<Fact>> {
        let (left, right) = (inputs.need(0)?, inputs.need(3)?);
        let shape = multi_broadcast(&[&left.1, &right.1])?;
        Ok(tvec![(left.0, shape)])
    }

    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>> {
        let (left, right) = (inputs.need(0)?, inputs.need(3)?);
        let kind = left.datum_type();
        ensure!(right.datum_type() == kind, "{kind:?} and {:?}", right.datum_type());
        let parameters = |place: usize| -> TractResult<(f32, i32)> {
            let zero = zeros(inputs.at(place + 1).map(|zero| &**zero))?;
            Ok((only(&scales(inputs.need(place)?)?)?, only(&zero)?))
        };
        let (a, b, out) = (parameters(1)?, parameters(4)?, parameters(6)?);
        let shape = multi_broadcast(&[left.shape(), right.shape()])?;
        let output = with_type!(kind, Q => {
            let target = Target::of::<Q>(out.1);
            let numbers = match self {
                Self::Add => joined::<Q>([left, right], &shape, (a, b), |a, b| target.number((a + b) / out.0))?,
                Self::Mul => joined::<Q>([left, right], &shape, (a, b), |a, b| target.number(a * b / out.0))?,
            };
            Tensor::from_shape(&shape, &numbers)?
        });
        Ok(tvec![output.into_tvalue()])
    }
}

fn joined<Q: Quantised>(
    [left, right]: [&Tensor; 2],
    shape: &[usize],
    (a, b): ((f32, i32), (f32, i32)),
    function: impl Fn(f32, f32) -> Q + Copy,
) -> TractResult<Vec<Q>> {
    let spread = |tensor: &Tensor| -> TractResult<Option<Tensor>> {
        if tensor.shape() == shape { Ok(None) } else { tensor.broadcast_to_rank_of(shape).map(Some) }
    };
    let (wide_left, wide_right) = (spread(left)?, spread(right)?);
    let (left, right) = (wide_left.as_ref().unwrap_or(left), wide_right.as_ref().unwrap_or(right));
    let (left, right) = (left.try_as_plain_ram()?, right.try_as_plain_ram()?);
    let (left, right) = (left.as_slice::<Q>()?, right.as_slice::<Q>()?);
    let mut numbers = vec![Q::default(); left.len()];
    let real = move |number: Q, (scale, zero): (f32, i32)| number.wide().wrapping_sub(zero) as f32 * scale;
    dispatch!(Level::new(), simd => each(simd, (left, right), &mut numbers, |x, y| function(real(x, a), real(y, b))));
    Ok(numbers)
}

/// Numpy's way of repeating a tensor.
trait Broadcast {
    fn broadcast_to_rank_of(&self, shape: &[usize]) -> TractResult<Tensor>;
}

impl Broadcast for Tensor {
    fn broadcast_to_rank_of(&self, shape: &[usize]) -> TractResult<Tensor> {
        let mut wide = self.clone();
        wide.broadcast_to_rank(shape.len())?;
        wide.broadcast_to_shape(shape)
    }
}

#[inline(always)]
fn each<S: Simd, Q: Copy>(simd: S, (left, right): (&[Q], &[Q]), to: &mut [Q], function: impl Fn(Q, Q) -> Q) {
    simd.vectorize(
        #[inline(always)]
        || {
            for ((to, left), right) in to.iter_mut().zip(left).zip(right) {
                *to = function(*left, *right);
            }
        },
    );
}

/// A function of one number, tabulated for every byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    table: Arc<[u8; 256]>,
    /// The type that comes out.
    kind: DatumType,
}

/// The attribute with the 256 bytes that come out for the bytes 0 to 255.
pub(super) const TABLE: &str = "table";
/// The attribute that says whether what comes out is signed.
pub(super) const IS_SIGNED: &str = "is_signed";

impl Lookup {
    /// Reads the attributes.
    ///
    /// # Errors
    ///
    /// There are not 256 bytes.
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let table = node.attribute.iter().find(|attribute| attribute.name == TABLE);
        let Some(table) = table.and_then(|table| table.s.first_chunk::<256>()) else { bail!("it has no table") };
        let is_signed = node.get_attr_opt::<i64>(IS_SIGNED)?.unwrap_or(0) != 0;
        Ok(Self { table: Arc::new(*table), kind: if is_signed { DatumType::I8 } else { DatumType::U8 } })
    }
}

impl Kernel for Lookup {
    fn name(&self) -> &'static str {
        "Lookup"
    }

    fn facts(&self, inputs: Slots<'_, Fact>) -> TractResult<TVec<Fact>> {
        Ok(tvec![(self.kind, inputs.need(0)?.1.clone())])
    }

    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>> {
        let input = inputs.need(0)?;
        let view = input.try_as_plain_ram()?;
        let found = |byte: u8| self.table.get(usize::from(byte)).copied().unwrap_or(0);
        let bytes: Vec<u8> = if input.datum_type().unquantized() == DatumType::I8 {
            view.as_slice::<i8>()?.iter().map(|byte| found(byte.cast_unsigned())).collect()
        } else {
            view.as_slice::<u8>()?.iter().map(|byte| found(*byte)).collect()
        };
        let output = if self.kind == DatumType::I8 {
            let signed: Vec<i8> = bytes.iter().map(|byte| byte.cast_signed()).collect();
            Tensor::from_shape(input.shape(), &signed)?
        } else {
            Tensor::from_shape(input.shape(), &bytes)?
        };
        Ok(tvec![output.into_tvalue()])
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::AttributeProto;
    use tract_onnx::tract_core::internal::Datum;

    use super::*;

    fn value<T: Datum + Copy>(shape: &[usize], numbers: &[T]) -> Option<TValue> {
        Some(Tensor::from_shape(shape, numbers).unwrap().into_tvalue())
    }

    #[test]
    fn two_tensors_are_joined_as_reals_and_broadcast() {
        let inputs = [
            value(&[2, 3], &[10_u8, 20, 30, 40, 50, 255]),
            value(&[], &[0.5_f32]),
            value(&[], &[10_u8]),
            value(&[3], &[0_u8, 4, 8]),
            value(&[], &[0.25_f32]),
            value(&[], &[4_u8]),
            value(&[], &[1.0_f32]),
            value(&[], &[100_u8]),
        ];
        let numbers = |binary: Binary| {
            let out = binary.compute(Slots(&inputs)).unwrap();
            assert_eq!(out[0].shape(), [2, 3]);
            out[0].try_as_plain_ram().unwrap().as_slice::<u8>().unwrap().to_vec()
        };
        // Reals [0, 5, 10, 15, 20, 122.5] and [-1, 0, 1].
        assert_eq!(numbers(Binary::Add), [99, 105, 111, 114, 120, 224]);
        assert_eq!(numbers(Binary::Mul), [100, 100, 110, 85, 100, 222]);
    }

    #[test]
    fn a_table_is_read_by_the_bits_of_a_byte() {
        let table: Vec<u8> = (0..=255_u8).map(|byte| byte.wrapping_add(1)).collect();
        let table = AttributeProto { name: TABLE.into(), s: table, ..AttributeProto::default() };
        let node = NodeProto { attribute: vec![table], ..NodeProto::default() };
        let inputs = [value(&[3], &[-1_i8, 0, 5])];
        let out = Lookup::read(&node).unwrap().compute(Slots(&inputs)).unwrap();
        assert_eq!(out[0].try_as_plain_ram().unwrap().as_slice::<u8>().unwrap(), [0, 1, 6]);
        assert!(Lookup::read(&NodeProto::default()).is_err());
    }
}
