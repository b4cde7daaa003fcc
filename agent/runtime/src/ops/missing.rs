//! Operators of `ai.onnx` that tract lacks or computes wrongly.

use tract_onnx::model::OnnxOpRegister;

pub(super) fn register(_operators: &mut OnnxOpRegister) {}
