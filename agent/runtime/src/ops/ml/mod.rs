//! `ai.onnx.ml`: the operators of classical models, for numbers.
//!
//! ```text
//!   attributes  what a node says of itself
//!   kernel      how such an operator becomes one of tract
//!   scores      from raw scores to what a model answers
//!   linear, svm, scale, encode, features, trees
//! ```
//!
//! Where the specification leaves something open, onnxruntime is the reference: exporters test
//! against it. Texts do not come here: `lower` has made numbers of them, or refused the model. What
//! these operators believe of their attributes is proved in `validate`.

mod attributes;
mod encode;
mod features;
mod kernel;
mod linear;
mod scale;
mod scores;
mod svm;
mod trees;

use tract_onnx::model::OnnxOpRegister;

/// Puts the operators of `ai.onnx.ml` where tract looks them up.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    for (name, build) in [
        ("TreeEnsembleClassifier", trees::classifier as kernel::Build),
        ("TreeEnsembleRegressor", trees::regressor),
        ("TreeEnsemble", trees::regressor),
        ("LinearClassifier", linear::classifier),
        ("LinearRegressor", linear::regressor),
        ("SVMClassifier", svm::classifier),
        ("SVMRegressor", svm::regressor),
        ("Scaler", scale::scaler),
        ("Normalizer", scale::normalizer),
        ("Imputer", scale::imputer),
        ("Binarizer", scale::binarizer),
        ("OneHotEncoder", encode::one_hot),
        ("LabelEncoder", encode::labels),
        ("ArrayFeatureExtractor", features::extractor),
        ("FeatureVectorizer", features::vectorizer),
    ] {
        operators.insert(name, build);
    }
}
