//! Where the parameters of a quantised product stand among an operator's inputs, and what follows
//! from them for its sums.

use std::ops::Deref;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, Tensor, TractResult};
use tract_onnx::tract_core::internal::ensure;

use super::kernel::Finish;
use super::node::Slots;
use super::number::{Target, floats, only, scales, spread, with_type, zeros};

/// Places of inputs; `NONE` where an operator has no such input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) data: usize,
    pub(super) data_scale: usize,
    pub(super) data_zero: usize,
    pub(super) weight: usize,
    pub(super) weight_scale: usize,
    pub(super) weight_zero: usize,
    pub(super) bias: usize,
    pub(super) out_scale: usize,
    pub(super) out_zero: usize,
}

/// How the names of operators begin that `lower` makes; no model may use one.
const FUSED: &str = "Fused";

/// No input.
pub(super) const NONE: usize = usize::MAX;

/// QLinearMatMul and QLinearConv.
pub(super) const LINEAR: Places = Places {
    data: 0,
    data_scale: 1,
    data_zero: 2,
    weight: 3,
    weight_scale: 4,
    weight_zero: 5,
    out_scale: 6,
    out_zero: 7,
    bias: 8,
};
/// QGemm.
pub(super) const GEMM: Places = Places { bias: 6, out_scale: 7, out_zero: 8, ..LINEAR };
/// MatMulInteger and ConvInteger.
pub(super) const INTEGER: Places = Places {
    data: 0,
    data_scale: NONE,
    data_zero: 2,
    weight: 1,
    weight_scale: NONE,
    weight_zero: 3,
    bias: NONE,
    out_scale: NONE,
    out_zero: NONE,
};
/// MatMulIntegerToFloat.
pub(super) const TO_FLOAT: Places =
    Places { data_scale: 2, weight_scale: 3, data_zero: 4, weight_zero: 5, bias: 6, ..INTEGER };
/// DynamicQuantizeMatMul: scale and zero point of the data are found when it comes.
pub(super) const DYNAMIC: Places = Places { weight_scale: 2, weight_zero: 3, bias: 4, data_zero: NONE, ..INTEGER };

/// Least and greatest number of an output that an activation after the product cuts, as attributes:
/// `low` and `high` of one that is quantised, `floor` and `ceiling` of floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cut {
    low: Option<i32>,
    high: Option<i32>,
    floor: f32,
    ceiling: f32,
}

/// None of its numbers is NaN.
impl Eq for Cut {}

impl Cut {
    /// Reads the attributes of a node that `lower` made; others have none that counts.
    ///
    /// # Errors
    ///
    /// They are of another type.
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        if !node.op_type.starts_with(FUSED) {
            return Ok(Self { low: None, high: None, floor: f32::NEG_INFINITY, ceiling: f32::INFINITY });
        }
        let number = |name: &str| -> TractResult<Option<i32>> {
            Ok(node.get_attr_opt::<i64>(name)?.map(i32::try_from).transpose()?)
        };
        let float = |name: &str, otherwise: f32| -> TractResult<f32> {
            Ok(node.get_attr_opt::<f32>(name)?.filter(|bound| !bound.is_nan()).unwrap_or(otherwise))
        };
        Ok(Self {
            low: number("low")?,
            high: number("high")?,
            floor: float("floor", f32::NEG_INFINITY)?,
            ceiling: float("ceiling", f32::INFINITY)?,
        })
    }
}

impl Places {
    /// The type of the output, where a zero point of it has this type.
    pub(super) fn kind<T>(
        self,
        inputs: Slots<'_, T>,
        is_dynamic: bool,
        kind: impl Fn(&T) -> DatumType,
    ) -> TractResult<DatumType> {
        let found = if inputs.at(self.out_scale).is_some() {
            inputs.at(self.out_zero).map_or(DatumType::U8, kind).unquantized()
        } else if is_dynamic || inputs.at(self.data_scale).is_some() {
            DatumType::F32
        } else {
            DatumType::I32
        };
        ensure!(
            matches!(found, DatumType::U8 | DatumType::I8 | DatumType::F32 | DatumType::I32),
            "an output of type {found:?} is not supported"
        );
        Ok(found)
    }

    /// Whether all parameters but the data are among these.
    pub(super) fn are_in<T>(self, inputs: Slots<'_, T>, present: impl Fn(usize) -> bool) -> bool {
        [self.data_scale, self.weight_scale, self.bias, self.out_scale, self.out_zero]
            .into_iter()
            .all(|place| inputs.at(place).is_some() || !present(place))
    }
}

/// Parameters of a product's sums.
pub(super) struct Parameters<'a, T> {
    /// Where they stand.
    pub(super) places: Places,
    /// Scale of the data where it is found when it comes.
    pub(super) data_scale: Option<f32>,
    /// Times the scales.
    pub(super) alpha: f32,
    pub(super) cut: Cut,
    /// Output channels.
    pub(super) channels: usize,
    pub(super) inputs: Slots<'a, T>,
}

impl<T: Deref<Target = Tensor>> Parameters<'_, T> {
    /// What becomes of the sums.
    ///
    /// # Errors
    ///
    /// Counts or types that do not fit.
    pub(super) fn finish(&self) -> TractResult<Finish> {
        let (places, inputs) = (self.places, self.inputs);
        let data = match (self.data_scale, inputs.at(places.data_scale)) {
            (Some(scale), _) => scale,
            (None, Some(scale)) => only(&scales(scale)?)?,
            (None, None) => 1.0,
        };
        let weights = inputs.at(places.weight_scale).map_or(Ok(vec![1.0]), |scale| scales(scale))?;
        let out = inputs.at(places.out_scale).map(|scale| only(&scales(scale)?)).transpose()?;
        let zero = only(&zeros(inputs.at(places.out_zero).map(|zero| &**zero))?)?;
        let mut finish = Finish {
            bias: vec![0; self.channels],
            scale: spread(&weights, self.channels)?,
            shift: vec![0.0; self.channels],
            target: Target { zero: 0, low: self.cut.floor, high: self.cut.ceiling },
        };
        for scale in &mut finish.scale {
            *scale = *scale * data * self.alpha / out.unwrap_or(1.0);
        }
        if let Some(bias) = inputs.at(places.bias) {
            if bias.datum_type() == DatumType::I32 {
                finish.bias = spread(bias.try_as_plain_ram()?.as_slice::<i32>()?, self.channels)?;
            } else {
                let shift = floats(bias)?.into_iter().map(|shift| shift / out.unwrap_or(1.0));
                finish.shift = spread(&shift.collect::<Vec<_>>(), self.channels)?;
            }
        }
        if out.is_some() {
            let kind = inputs.at(places.out_zero).map_or(DatumType::U8, |zero| zero.datum_type());
            finish.target = with_type!(kind, Q => Target::within::<Q>(zero, self.cut.low, self.cut.high));
        }
        Ok(finish)
    }
}
