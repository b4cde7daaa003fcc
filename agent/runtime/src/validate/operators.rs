//! The operators that this runtime has, by domain. Tract looks an operator up by its name alone, so
//! that a stranger's `Relu` would pass for the one of ONNX.

use tract_onnx::pb::NodeProto;

use super::{Fault, INLINE, PREPARE, shown};

/// As many as there may be of what can be repeated: a `Concat` of a whole network's outputs.
const MANY: usize = 512;

/// How the shape of the first output follows from the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It is that of the first input.
    Same,
    /// All inputs are broadcast.
    Broadcast,
    /// By the operator's name: see `shapes`.
    Own,
    /// By the operator's name: see `classical`.
    Classical,
}

/// Operators, the fewest and most inputs and outputs; so many at the beginning must be there.
type Group = (&'static [&'static str], (usize, usize), (usize, usize), Rule);

const ONE: (usize, usize) = (1, 1);

/// `ai.onnx`, which is also written as nothing.
const DEFAULT: [Group; 46] = [
    (&["Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf"], ONE, ONE, Rule::Same),
    (&["Exp", "Floor", "Log", "Neg", "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt"], ONE, ONE, Rule::Same),
    (&["Tan", "Tanh", "Not", "BitwiseNot", "IsInf", "IsNaN", "Identity", "Cast"], ONE, ONE, Rule::Same),
    (&["Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Selu"], ONE, ONE, Rule::Same),
    (&["Shrink", "Sigmoid", "Softplus", "Softsign", "Swish", "ThresholdedRelu"], ONE, ONE, Rule::Same),
    (&["ParametricSoftplus", "ScaledTanh"], ONE, ONE, Rule::Same),
    (&["Hardmax", "LogSoftmax", "Softmax", "LRN", "LpNormalization"], ONE, ONE, Rule::Same),
    (&["MeanVarianceNormalization", "EyeLike", "RandomNormalLike", "RandomUniformLike"], ONE, ONE, Rule::Same),
    (&["Clip"], (1, 3), ONE, Rule::Same),
    (&["CastLike"], (2, 2), ONE, Rule::Same),
    (&["Dropout"], (1, 3), (1, 2), Rule::Same),
    (&["CumSum"], (2, 2), ONE, Rule::Same),
    (&["Trilu"], (1, 2), ONE, Rule::Same),
    (&["BatchNormalization"], (5, 5), ONE, Rule::Same),
    (&["InstanceNormalization", "GroupNormalization"], (3, 3), ONE, Rule::Same),
    (&["LayerNormalization"], (2, 3), (1, 3), Rule::Same),
    (&["RMSNormalization", "SimplifiedLayerNormalization"], (2, 3), (1, 2), Rule::Same),
    (&["QuantizeLinear", "DequantizeLinear"], (2, 3), ONE, Rule::Same),
    (&["DynamicQuantizeLinear"], ONE, (3, 3), Rule::Same),
    (&["Scatter", "ScatterElements", "ScatterND"], (3, 3), ONE, Rule::Same),
    (
        &["Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal"],
        (2, 2),
        ONE,
        Rule::Broadcast,
    ),
    (&["Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "Mul", "Or"], (2, 2), ONE, Rule::Broadcast),
    (&["PRelu", "Pow", "Sub", "Xor"], (2, 2), ONE, Rule::Broadcast),
    (&["Where"], (3, 3), ONE, Rule::Broadcast),
    (&["Max", "Mean", "Min", "Sum"], (1, MANY), ONE, Rule::Broadcast),
    (&["Concat"], (1, MANY), ONE, Rule::Own),
    (&["Constant", "RandomNormal", "RandomUniform"], (0, 0), ONE, Rule::Own),
    (
        &["ArgMax", "ArgMin", "ConstantOfShape", "DepthToSpace", "Flatten", "GlobalAveragePool", "GlobalLpPool"],
        ONE,
        ONE,
        Rule::Own,
    ),
    (
        &["AveragePool", "GlobalMaxPool", "NonZero", "Shape", "Size", "SpaceToDepth", "Transpose", "Multinomial"],
        ONE,
        ONE,
        Rule::Own,
    ),
    (&["BlackmanWindow", "HammingWindow", "HannWindow"], ONE, ONE, Rule::Own),
    (
        &["Expand", "Gather", "GatherElements", "GatherND", "MatMul", "Reshape", "Tile", "Compress", "GridSample"],
        (2, 2),
        ONE,
        Rule::Own,
    ),
    (
        &[
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "ReduceSumSquare",
            "Squeeze",
            "Unsqueeze",
        ],
        (1, 2),
        ONE,
        Rule::Own,
    ),
    (&["Conv", "ConvTranspose", "Gemm"], (2, 3), ONE, Rule::Own),
    (&["OneHot", "Range"], (3, 3), ONE, Rule::Own),
    (&["ConvInteger", "MatMulInteger"], (2, 4), ONE, Rule::Own),
    (&["Resize"], (1, 4), ONE, Rule::Own),
    (&["Pad", "Slice", "MelWeightMatrix", "NonMaxSuppression", "DFT", "STFT"], (1, 5), ONE, Rule::Own),
    (&["QLinearConv"], (8, 9), ONE, Rule::Own),
    (&["QLinearMatMul"], (8, 8), ONE, Rule::Own),
    (&["MaxPool", "TopK"], (1, 2), (1, 2), Rule::Own),
    (&["LSTM"], (3, 8), (0, 3), Rule::Own),
    (&["GRU", "RNN"], (3, 6), (0, 2), Rule::Own),
    (&["NegativeLogLikelihoodLoss"], (2, 3), ONE, Rule::Own),
    (&["SoftmaxCrossEntropyLoss"], (2, 3), (1, 2), Rule::Own),
    (&["CenterCropPad", "Col2Im"], (2, 3), ONE, Rule::Own),
    (&["TfIdfVectorizer"], ONE, ONE, Rule::Own),
];

/// The same for what takes graphs or any number of outputs.
const WIDE: [Group; 6] = [
    (&["Split"], (1, 2), (1, MANY), Rule::Own),
    (&["Einsum"], (1, 8), ONE, Rule::Own),
    (&["If"], ONE, (1, MANY), Rule::Own),
    (&["Scan"], (1, MANY), (1, MANY), Rule::Own),
    (&["Attention"], (3, 6), (1, 4), Rule::Own),
    (&["RotaryEmbedding"], (3, 4), ONE, Rule::Own),
];

/// `ai.onnx.ml`, for numbers.
const ML: [Group; 5] = [
    (&["TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier"], ONE, (2, 2), Rule::Classical),
    (&["TreeEnsembleRegressor", "TreeEnsemble", "LinearRegressor", "SVMRegressor"], ONE, ONE, Rule::Classical),
    (&["Scaler", "Normalizer", "Imputer", "Binarizer", "OneHotEncoder", "LabelEncoder"], ONE, ONE, Rule::Classical),
    (&["ArrayFeatureExtractor"], (2, 2), ONE, Rule::Classical),
    (&["FeatureVectorizer"], (1, MANY), ONE, Rule::Classical),
];

/// `com.microsoft`, as onnxruntime's optimiser writes.
const MICROSOFT: [Group; 15] = [
    (&["QLinearAdd", "QLinearMul"], (7, 8), ONE, Rule::Own),
    (&["QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"], (4, 5), ONE, Rule::Own),
    (&["QLinearAveragePool", "QLinearGlobalAveragePool"], (4, 5), ONE, Rule::Own),
    (&["QLinearConcat"], (5, MANY), ONE, Rule::Own),
    (&["QLinearWhere"], (9, 9), ONE, Rule::Own),
    (&["QGemm"], (6, 9), ONE, Rule::Own),
    (&["MatMulIntegerToFloat"], (4, 7), ONE, Rule::Own),
    (&["DynamicQuantizeMatMul"], (3, 5), ONE, Rule::Own),
    (&["DynamicQuantizeLSTM"], (3, 12), (1, 3), Rule::Own),
    (&["Gelu", "QuickGelu"], ONE, ONE, Rule::Same),
    (&["BiasGelu"], (2, 2), ONE, Rule::Same),
    (&["FastGelu"], (1, 2), ONE, Rule::Same),
    (&["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"], (3, 5), (1, 4), Rule::Same),
    (&["SimplifiedLayerNormalization"], (2, 3), (1, 2), Rule::Same),
    (
        &["MatMulNBits", "GatherBlockQuantized", "RotaryEmbedding", "MultiHeadAttention", "GroupQueryAttention"],
        (3, 14),
        (1, 3),
        Rule::Own,
    ),
];

/// A domain under one name: the default one has two.
pub(super) fn plain_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The rule of a node's operator, whose inputs and outputs are as many as it takes.
pub(super) fn rule(node: &NodeProto) -> Result<Rule, Fault> {
    let domain = plain_domain(&node.domain);
    let mut groups = match domain {
        "" => DEFAULT.iter().chain(&WIDE),
        "ai.onnx.ml" => ML.iter().chain(&[]),
        "com.microsoft" => MICROSOFT.iter().chain(&[]),
        _ => [].iter().chain(&[]),
    };
    if let ("ai.onnx.ml", "ZipMap" | "DictVectorizer" | "CastMap") = (domain, node.op_type.as_str()) {
        return Err(Fault::new("it makes or takes maps, and devices have tensors only", PREPARE));
    }
    let found = groups.find(|(names, _, _, _)| names.contains(&node.op_type.as_str()));
    let Some((_, inputs, outputs, rule)) = found else {
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        return Err(Fault::new(
            format!("this runtime has no operator {} of domain `{}`", shown(&node.op_type), shown(domain)),
            INLINE,
        ));
    };
    let (given, missing) = (node.input.len(), node.input.iter().take(inputs.0).any(String::is_empty));
    if missing || !(inputs.0..=inputs.1).contains(&given) {
        return Err(Fault::broken(format!(
            "{given} inputs, some perhaps empty: {} to {} are needed",
            inputs.0, inputs.1
        )));
    }
    let (given, missing) = (node.output.len(), node.output.iter().take(outputs.0).any(String::is_empty));
    if missing || !(outputs.0..=outputs.1).contains(&given) {
        return Err(Fault::broken(format!(
            "{given} outputs, some perhaps empty: {} to {} are needed",
            outputs.0, outputs.1
        )));
    }
    Ok(*rule)
}
