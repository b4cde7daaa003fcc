//! Operators of our own, where tract has none, computes another thing, or takes far longer.
//!
//! They stand behind the names that ONNX gives them: a model that people signed stays the one that
//! every other tool reads. `framework` is tract with them; [`rewrite`] puts faster ones in the place of
//! several of a typed model. Which operators a model may use is said in `validate::operators`.
//!
//! Tract looks an operator up by its name alone; `validate` has refused every name of a strange domain.

mod chain;
mod corrected;
mod fast;
mod image;
pub(crate) mod kernel;
mod kernels;
mod layout;
mod log_sums;
mod losses;
mod ml;
mod ngrams;
mod product;
pub(crate) mod quant;
mod recurrent;
mod softmax;
mod windows;

use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{Framework as _, InferenceModel, TractResult, TypedModel};

/// Tract's reader of ONNX with the operators of this module.
fn framework() -> Onnx {
    let mut onnx =
        tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true).with_ignore_output_types(true);
    corrected::register(&mut onnx.op_register);
    layout::register(&mut onnx.op_register);
    losses::register(&mut onnx.op_register);
    ml::register(&mut onnx.op_register);
    ngrams::register(&mut onnx.op_register);
    quant::register(&mut onnx.op_register);
    recurrent::register(&mut onnx.op_register);
    onnx
}

/// Reads a model that was validated.
///
/// # Errors
///
/// What tract says of it.
pub(crate) fn parse(model: ModelProto) -> TractResult<InferenceModel> {
    let framework = framework();
    framework.model_for_proto_model(&quant::lower(model, &framework))
}

/// Puts operators of our own into a model whose shapes are known, before tract optimises it.
///
/// # Errors
///
/// What tract says of a model that does not fit together any more.
pub(crate) fn rewrite(model: TypedModel) -> TractResult<TypedModel> {
    let mut model = log_sums::rewrite(model)?;
    // Before tract tidies up: it takes batches of one row out of shapes.
    model.prop_consts()?;
    chain::join(&fast::rewrite(&model)?)
}
