//! Quantised operators: integers of 8 bits with scales and zero points.
//!
//! ```text
//!   linear      QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear
//!   dense       matrix products         ─┐
//!   conv        convolutions            ─┼─ kernel   sums of 32 bits, vectorised
//!    depthwise  of single channels      ─┘  finish   bias, scales, saturation
//!    window     their way over an image
//!   pool        the greatest of windows
//!   turn        channels to last, or back
//!   pointwise   sums, products, tables
//!   lower       brings models to these before tract reads them
//! ```

mod conv;
mod dense;
mod depthwise;
mod finish;
mod kernel;
mod linear;
pub(crate) mod lower;
mod node;
mod number;
mod pointwise;
mod pool;
mod turn;
mod window;

use tract_onnx::Onnx;
use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::ModelProto;

use conv::Conv;
use dense::Dense;
use finish::{DYNAMIC, GEMM, INTEGER, LINEAR, TO_FLOAT};
use node::parse;
use pointwise::{Binary, Lookup};
use pool::MaxPool;
use turn::Turn;

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
    operators.insert("QLinearConv", |_, node| Ok(parse(node, Conv::read(node, "QLinearConv", LINEAR, false)?)));
    operators.insert("ConvInteger", |_, node| Ok(parse(node, Conv::read(node, "ConvInteger", INTEGER, false)?)));
    operators.insert("QLinearAdd", |_, node| Ok(parse(node, Binary::Add)));
    operators.insert("QLinearMul", |_, node| Ok(parse(node, Binary::Mul)));
    // Names that no model may use: what `lower` makes.
    operators.insert("FusedGemm", |_, node| Ok(parse(node, Dense::read(node, "FusedGemm", GEMM, false)?)));
    operators
        .insert("FusedDynamicGemm", |_, node| Ok(parse(node, Dense::read(node, "FusedDynamicGemm", DYNAMIC, true)?)));
    operators.insert("FusedConv", |_, node| Ok(parse(node, Conv::read(node, "FusedConv", GEMM, true)?)));
    operators
        .insert("ImageQLinearConv", |_, node| Ok(parse(node, Conv::read(node, "ImageQLinearConv", LINEAR, true)?)));
    operators
        .insert("ImageConvInteger", |_, node| Ok(parse(node, Conv::read(node, "ImageConvInteger", INTEGER, true)?)));
    operators.insert("QuantisedMaxPool", |_, node| Ok(parse(node, MaxPool::read(node)?)));
    operators.insert("QuantisedToLast", |_, node| Ok(parse(node, Turn::LAST)));
    operators.insert("QuantisedToSecond", |_, node| Ok(parse(node, Turn::SECOND)));
    operators.insert("QuantisedLookup", |_, node| Ok(parse(node, Lookup::read(node)?)));
}

/// Brings a model that was validated to these operators.
pub(super) fn lower(model: ModelProto, framework: &Onnx) -> ModelProto {
    lower::lower(model, framework)
}
