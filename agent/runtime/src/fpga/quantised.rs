//! How int8 values stand for real ones.

use bellwether_fpga::requant::is_scale;
use tract_onnx::pb::{NodeProto, TensorProto};

use super::model::{INT8, Model, UINT8};
use super::stored;
use crate::validate;

/// A scale and a zero point for a whole tensor.
///
/// The engine has int8 only: unsigned bytes go in with 128 taken away, from values and zero point, which
/// changes no difference between the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantised {
    /// What one step is worth.
    pub scale: f32,
    /// The int8 value that means zero.
    pub zero_point: i8,
    /// Whether the model has unsigned bytes here.
    pub is_unsigned: bool,
}

impl Quantised {
    /// What a node has in its inputs: a scale and a zero point. `is_unsigned` holds where there is no zero
    /// point to say it.
    pub(super) fn read(
        model: &Model<'_>,
        node: &NodeProto,
        [scale, zero_point]: [usize; 2],
        is_unsigned: bool,
    ) -> Result<Self, String> {
        let [scale] = model.floats(node, scale)?[..] else {
            return Err("its activations have a scale for each channel".to_owned());
        };
        if !is_scale(scale) {
            return Err(format!("its scale {scale:e} is not positive and normal"));
        }
        let Some(zero_point) = model.operand(node, zero_point)? else {
            return Ok(Self { scale, zero_point: if is_unsigned { i8::MIN } else { 0 }, is_unsigned });
        };
        match stored::bytes(zero_point).as_deref() {
            Some([zero]) => Ok(Self { scale, zero_point: *zero, is_unsigned: zero_point.data_type == UINT8 }),
            _ => Err(format!("its zero point has element type {}: INT8 or UINT8 is needed", zero_point.data_type)),
        }
    }

    /// Whether the engine sees no difference.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.scale.to_bits() == other.scale.to_bits() && self.zero_point == other.zero_point
    }

    /// As `QuantizeLinear` rounds: ties to even, what is far ends at the bounds.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "clamped to eight bits before")]
    pub fn quantise(&self, real: f32) -> i8 {
        let zero = f32::from(self.zero_point);
        // A value that is no number ends at the lower bound.
        let steps = (real / self.scale).max(f32::from(i8::MIN) - zero).min(f32::from(i8::MAX) - zero);
        (steps.round_ties_even() + zero) as i8
    }

    /// As `DequantizeLinear` turns a value back.
    #[must_use]
    pub fn real(&self, value: i8) -> f32 {
        f32::from(i16::from(value) - i16::from(self.zero_point)) * self.scale
    }

    /// The byte that the model has for an int8 value of the engine.
    #[must_use]
    pub const fn byte(&self, value: i8) -> u8 {
        if self.is_unsigned { stored::unsigned(value) } else { value.cast_unsigned() }
    }
}

/// A stored tensor of bytes with its scales.
pub(super) struct Parameter {
    /// Sizes of its dimensions.
    pub(super) sizes: Vec<usize>,
    values: Vec<i8>,
    scales: Vec<f32>,
    zero_points: Vec<i8>,
    is_unsigned: bool,
    /// Along which there is a scale each.
    axis: Option<usize>,
}

impl Parameter {
    /// Of a `QLinear` operator: tensor, scale and zero point are at these inputs; `axis` is that of outputs.
    pub(super) fn beside(
        model: &Model<'_>,
        node: &NodeProto,
        [tensor, scale, zero_point]: [usize; 3],
        axis: usize,
    ) -> Result<Self, String> {
        let Some(tensor) = model.operand(node, tensor)? else { return Err("it has no weights".to_owned()) };
        let scales = model.floats(node, scale)?;
        Self::new(tensor, scales, model.operand(node, zero_point)?, Some(axis))
    }

    /// What a `DequantizeLinear` makes of a stored tensor.
    pub(super) fn dequantised(model: &Model<'_>, name: &str) -> Result<Self, String> {
        let node = model.maker(name).filter(|node| node.op_type == "DequantizeLinear");
        let Some(node) = node else {
            return Err(format!("`{}` is not quantised", validate::shown(name)));
        };
        if validate::int(node, "block_size").unwrap_or(0) != 0 {
            return Err("its weights are quantised in blocks".to_owned());
        }
        let Some(tensor) = model.operand(node, 0)? else { return Err("it has no weights".to_owned()) };
        let rank = i64::try_from(tensor.dims.len()).unwrap_or(0);
        let axis = validate::int(node, "axis").unwrap_or(1);
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok();
        Self::new(tensor, model.floats(node, 1)?, model.operand(node, 2)?, axis)
    }

    fn new(
        tensor: &TensorProto,
        scales: Vec<f32>,
        zero_points: Option<&TensorProto>,
        axis: Option<usize>,
    ) -> Result<Self, String> {
        let (Some(values), UINT8 | INT8) = (stored::bytes(tensor), tensor.data_type) else {
            return Err(format!("its weights have element type {}: INT8 or UINT8 is needed", tensor.data_type));
        };
        let is_unsigned = tensor.data_type == UINT8;
        let zero_points = match zero_points {
            None => vec![if is_unsigned { i8::MIN } else { 0 }],
            Some(zeros) => stored::bytes(zeros).ok_or("the zero points of its weights are no bytes")?,
        };
        let sizes = tensor.dims.iter().filter_map(|size| usize::try_from(*size).ok()).collect();
        Ok(Self { sizes, values, scales, zero_points, is_unsigned, axis })
    }

    /// Its values, if zero is in their middle.
    pub(super) fn symmetric(&self) -> Result<&[i8], String> {
        match self.zero_points.iter().find(|zero| **zero != 0) {
            None => Ok(&self.values),
            Some(zero) if self.is_unsigned => {
                let zero = stored::unsigned(*zero);
                Err(format!(
                    "its weights have the zero point {zero}: quantise them symmetrically (as INT8, or around 128)"
                ))
            }
            Some(zero) => Err(format!("its weights have the zero point {zero}: quantise them symmetrically")),
        }
    }

    /// A scale for each of the outputs, which lie along `axis`.
    pub(super) fn scales(&self, axis: usize, outputs: usize) -> Result<Vec<f32>, String> {
        match self.scales[..] {
            [scale] => Ok(vec![scale; outputs]),
            _ if self.axis == Some(axis) && self.scales.len() == outputs => Ok(self.scales.clone()),
            _ => Err(format!("its weights have {} scales, and not along its {outputs} outputs", self.scales.len())),
        }
    }
}

/// Most by which a bias may be quantised otherwise than in units of input scale times weight scale, as a
/// share: what one rounding more or less makes.
const UNITS_APART_MAX: f32 = 1e-5;

/// What a `DequantizeLinear` makes of a stored bias, as whole numbers of `units`.
pub(super) fn bias(model: &Model<'_>, name: &str, units: &[f32]) -> Result<Vec<i32>, String> {
    let node = model.maker(name).filter(|node| node.op_type == "DequantizeLinear");
    let Some(node) = node else {
        return Err(format!(
            "its bias `{}` is not quantised: int32 in units of input scale times weight scale is needed",
            validate::shown(name)
        ));
    };
    let Some(values) = model.operand(node, 0)? else { return Err("its bias is missing".to_owned()) };
    let zero_points = model.operand(node, 2)?.and_then(stored::integers).unwrap_or_default();
    if zero_points.iter().any(|zero| *zero != 0) {
        return Err("its bias has a zero point".to_owned());
    }
    let scales = model.floats(node, 1)?;
    let is_near = |scale: f32, unit: f32| (scale / unit - 1.0).abs() <= UNITS_APART_MAX;
    let mut pairs = scales.iter().cycle().zip(units);
    if scales.len() != 1 && scales.len() != units.len() {
        return Err(format!("its bias has {} scales for {} outputs", scales.len(), units.len()));
    }
    if let Some((scale, unit)) = pairs.find(|(scale, unit)| !is_near(**scale, **unit)) {
        return Err(format!("its bias has scale {scale:e}, not input scale times weight scale, {unit:e}"));
    }
    spread(values, units.len())
}

/// A bias for each output, all in a row.
pub(super) fn spread(tensor: &TensorProto, outputs: usize) -> Result<Vec<i32>, String> {
    let Some(values) = stored::integers(tensor) else {
        return Err(format!("its bias has element type {}: INT32 is needed", tensor.data_type));
    };
    let is_row = tensor.dims.iter().rev().skip(1).all(|size| *size == 1);
    match values[..] {
        [one] => Ok(vec![one; outputs]),
        _ if is_row && values.len() == outputs => Ok(values),
        _ => Err(format!("its bias has sizes {:?} for {outputs} outputs", tensor.dims)),
    }
}
