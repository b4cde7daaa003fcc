//! Operators of our own, where tract has none, computes another thing, or takes far longer.
//!
//! They stand behind the names that ONNX gives them: a model that people signed stays the one that
//! every other tool reads. `framework` is tract with them; [`rewrite`] puts faster ones in the place of
//! several of a typed model. Which operators a model may use is said in `validate::operators`.
//!
//! Tract looks an operator up by its name alone; `validate` has refused every name of a strange domain.

mod fast;
mod image;
mod kernels;
pub(crate) mod missing;
mod product;
mod recurrent;
mod softmax;
mod windows;

use tract_onnx::Onnx;
use tract_onnx::prelude::{TractResult, TypedModel};

/// Tract's reader of ONNX with the operators of this module.
pub(crate) fn framework() -> Onnx {
    let mut onnx =
        tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true).with_ignore_output_types(true);
    missing::register(&mut onnx.op_register);
    recurrent::register(&mut onnx.op_register);
    onnx
}

/// Puts operators of our own into a model whose shapes are known, before tract optimises it.
///
/// # Errors
///
/// What tract says of a model that does not fit together any more.
pub(crate) fn rewrite(mut model: TypedModel) -> TractResult<TypedModel> {
    // Before tract tidies up: it takes batches of one row out of shapes.
    model.prop_consts()?;
    fast::rewrite(&model)
}
