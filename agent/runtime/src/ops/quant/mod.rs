//! Quantised operators: integers of 8 bits with scales and zero points.
//!
//! ```text
//!   linear    QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear
//!   dense     matrix products  ─┐
//!   conv      convolutions     ─┴─ kernel   sums of 32 bits, vectorised
//!    window                       finish   bias, scales, saturation
//! ```

mod conv;
mod dense;
mod finish;
mod kernel;
mod linear;
mod node;
mod number;
mod window;

use tract_onnx::model::OnnxOpRegister;

use conv::Conv;
use dense::Dense;
use finish::{DYNAMIC, GEMM, INTEGER, LINEAR, TO_FLOAT};
use node::parse;

/// Puts the operators behind their names.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("QuantizeLinear", |_, node| Ok(parse(node, linear::Quantize::read(node)?)));
    operators.insert("DequantizeLinear", |_, node| Ok(parse(node, linear::Dequantize::read(node)?)));
    operators.insert("DynamicQuantizeLinear", |_, node| Ok(parse(node, linear::DynamicQuantize)));
    operators.insert("MatMulInteger", |_, node| Ok(parse(node, Dense::read(node, "MatMulInteger", INTEGER, false)?)));
    operators.insert("QLinearMatMul", |_, node| Ok(parse(node, Dense::read(node, "QLinearMatMul", LINEAR, false)?)));
    operators.insert("QGemm", |_, node| Ok(parse(node, Dense::read(node, "QGemm", GEMM, false)?)));
    operators.insert("MatMulIntegerToFloat", |_, node| {
        Ok(parse(node, Dense::read(node, "MatMulIntegerToFloat", TO_FLOAT, false)?))
    });
    operators.insert("DynamicQuantizeMatMul", |_, node| {
        Ok(parse(node, Dense::read(node, "DynamicQuantizeMatMul", DYNAMIC, true)?))
    });
    operators.insert("QLinearConv", |_, node| Ok(parse(node, Conv::read(node, "QLinearConv", LINEAR)?)));
    operators.insert("ConvInteger", |_, node| Ok(parse(node, Conv::read(node, "ConvInteger", INTEGER)?)));
}
