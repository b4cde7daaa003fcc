//! Every operator that the runtime has, with too few, too many and the wrong inputs.

use super::Kinds;
use crate::onnx::{BOOL, Held, INT64, Model, STRING, node, value};

const OPERATORS: &str = "Abs Acos Acosh Add And ArgMax ArgMin ArrayFeatureExtractor Asin Asinh Atan Atanh Attention \
    AveragePool BatchNormalization BiasGelu BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast \
    CastLike CategoryMapper Ceil Celu Clip Compress Concat Constant ConstantLike ConstantOfShape Conv ConvInteger \
    ConvTranspose Cos Cosh CumSum DFT DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal \
    Erf Exp Expand EyeLike FastGelu Flatten Floor GRU Gather GatherBlockQuantized GatherElements GatherND Gelu Gemm \
    GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization \
    GroupQueryAttention HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf \
    IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual LinearClassifier LinearRegressor Log LogSoftmax \
    LpNormalization MatMul MatMulInteger MatMulNBits Max MaxPool Mean MeanVarianceNormalization MelWeightMatrix Min \
    Mish Mod Mul MultiHeadAttention Multinomial Neg NonMaxSuppression NonZero Normalizer Not OneHot Or PRelu Pad \
    ParametricSoftplus Pow QLinearConv QLinearMatMul QuantizeLinear QuickGelu RMSNormalization RNN RandomNormal \
    RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp \
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize RotaryEmbedding Round \
    Rsqrt STFT ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign \
    SimplifiedLayerNormalization Sin Sinh Size SkipLayerNormalization SkipSimplifiedLayerNormalization Slice Softmax \
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose \
    TreeEnsembleClassifier Trilu Unsqueeze Where Xor CenterCropPad Col2Im NegativeLogLikelihoodLoss \
    SoftmaxCrossEntropyLoss TfIdfVectorizer Binarizer FeatureVectorizer Imputer LabelEncoder OneHotEncoder Scaler \
    SVMClassifier SVMRegressor TreeEnsemble TreeEnsembleRegressor ZipMap DynamicQuantizeMatMul MatMulIntegerToFloat \
    QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul \
    QLinearSigmoid QLinearSoftmax QLinearWhere DynamicQuantizeLSTM";

const ML: [&str; 17] = [
    "ArrayFeatureExtractor",
    "Binarizer",
    "CategoryMapper",
    "FeatureVectorizer",
    "Imputer",
    "LabelEncoder",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
    "ZipMap",
];
const MICROSOFT: [&str; 22] = [
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "QGemm",
    "QLinearAdd",
    "QLinearAveragePool",
    "QLinearConcat",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "QLinearWhere",
    "BiasGelu",
    "FastGelu",
    "QuickGelu",
    "GatherBlockQuantized",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

pub(crate) fn add(kinds: &mut Kinds) {
    for operator in OPERATORS.split_whitespace() {
        let domain = match operator {
            _ if ML.contains(&operator) => "ai.onnx.ml",
            _ if MICROSOFT.contains(&operator) => "com.microsoft",
            _ => "",
        };
        let with = |inputs: usize, outputs: usize, shape: &[i64]| {
            let outputs = if outputs == 1 { "y" } else { "y b c d e" };
            let inputs = vec!["x"; inputs].join(" ");
            Model::new(vec![node(operator, &inputs, outputs).of(domain)], vec![], shape, &[-1, -1])
        };
        for inputs in [0, 1, 2, 3, 4, 6, 9] {
            kinds.add(format!("inputs/{operator} of {inputs}"), &with(inputs, 1, &[-1, 4]));
        }
        for inputs in [1, 3] {
            kinds.add(format!("inputs/{operator} of {inputs} giving five"), &with(inputs, 5, &[-1, 4]));
        }
        for inputs in 1..=4 {
            kinds.add(format!("inputs/{operator} of {inputs} numbers"), &with(inputs, 1, &[]));
            kinds
                .add(format!("inputs/{operator} of {inputs} of six dimensions"), &with(inputs, 1, &[1, 2, 3, 1, 2, 1]));
            kinds.add(format!("inputs/{operator} of {inputs} images"), &with(inputs, 1, &[1, 2, 4, 4]));
            for (name, kind) in [("flags", BOOL), ("texts", STRING), ("integers", INT64), ("doubles", 11), ("bytes", 2)]
            {
                kinds.add(
                    format!("inputs/{operator} of {inputs} lists of {name}"),
                    &with(inputs, 1, &[4]).but(|model| model.graph.inputs[0].kind = kind),
                );
            }
        }
        kinds.add(
            format!("inputs/{operator} of absent ones"),
            &with(3, 1, &[-1, 4]).but(|model| model.first().inputs = vec![String::new(), String::new(), "x".into()]),
        );
        kinds.add(
            format!("inputs/{operator} with attributes of nonsense"),
            &with(1, 1, &[-1, 4]).but(|model| {
                for name in [
                    "axis",
                    "axes",
                    "kernel_shape",
                    "to",
                    "mode",
                    "perm",
                    "equation",
                    "direction",
                    "epsilon",
                    "value",
                    "num_heads",
                ] {
                    model.first().attributes.push((name.into(), Held::Text("nonsense".into())));
                }
            }),
        );
        kinds.add(
            format!("inputs/{operator} of unknown shape"),
            &with(1, 1, &[]).but(|model| {
                model.graph.nodes.insert(0, node("NonZero", "x", "z"));
                model.graph.inputs[0] = value("x", &[-1, 4]);
                let count = 2;
                model.graph.nodes[1].inputs = vec!["z".into(); count];
            }),
        );
    }
}
