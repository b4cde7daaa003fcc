//! The runtime's own operators, each whole and then with every attribute and every stored tensor
//! disturbed: removed, of another type, too short, too long, and with numbers at which counting breaks.

use super::{Kinds, SHARP};
use crate::onnx::{Held, INT8, INT64, Model, Node, Tensor, UINT8, floats, integers, list, node, weights};

const ML: &str = "ai.onnx.ml";
const MICROSOFT: &str = "com.microsoft";
/// Longer than any list of a small model.
const LONG: usize = 5_000;

pub(crate) fn add(kinds: &mut Kinds) {
    for (name, model) in plain().into_iter().chain(classical()).chain(quantised()) {
        kinds.sound(format!("own/{name}"), &model);
        disturb(kinds, name, &model);
    }
}

/// A model whose first input is `x` of `shape`.
fn of(first: Node, stored: Vec<Tensor>, shape: &[i64], made: &[i64]) -> Model {
    Model::new(vec![first], stored, shape, made)
}

fn ints(values: &[i64]) -> Held {
    Held::Ints(values.into())
}

fn text(text: &str) -> Held {
    Held::Text(text.into())
}

fn plain() -> Vec<(&'static str, Model)> {
    let classes = |count: i64| list("t", &(0..count).map(|place| place % 3).collect::<Vec<i64>>());
    let loss = |name: &str| node(name, "x t w", "y").with("reduction", text("mean")).int("ignore_index", 1);
    let losses = ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"];
    let mut all: Vec<(&'static str, Model)> = Vec::new();
    for name in losses {
        let stored = vec![classes(5), floats("w", &[3], &[1.0, 2.0, 3.0])];
        all.push((name, of(loss(name), stored, &[5, 3], &[])));
    }
    let crop = node("CenterCropPad", "x s", "y").ints("axes", &[1, 2]);
    all.push(("CenterCropPad", of(crop, vec![list("s", &[3, 9])], &[-1, 5, 6], &[-1, 3, 9])));
    let columns =
        node("Col2Im", "x i b", "y").ints("strides", &[1, 1]).ints("pads", &[0, 0, 0, 0]).ints("dilations", &[1, 1]);
    let sizes = vec![list("i", &[5, 5]), list("b", &[1, 5])];
    all.push(("Col2Im", of(columns, sizes, &[1, 5, 5], &[1, 1, 5, 5])));
    let hot = node("OneHot", "x d v", "y").int("axis", -1);
    all.push((
        "OneHot",
        of(hot, vec![integers("d", &[], &[4]), floats("v", &[2], &[0.0, 1.0])], &[-1, 3], &[-1, 3, 4]),
    ));
    for name in ["ReduceMax", "ReduceMin"] {
        let reduce = node(name, "x", "y").ints("axes", &[1]).int("keepdims", 0);
        all.push((name, of(reduce, vec![], &[-1, 4], &[-1])));
    }
    let blocks = node("SpaceToDepth", "x", "y").int("blocksize", 2).with("mode", text("CRD"));
    all.push(("SpaceToDepth", of(blocks, vec![], &[1, 2, 4, 6], &[1, 8, 2, 3])));
    all.push(("Swish", of(node("Swish", "x", "y").with("alpha", Held::Float(0.5)), vec![], &[-1, 4], &[-1, 4])));
    let grams = node("TfIdfVectorizer", "x", "y")
        .with("mode", text("TFIDF"))
        .int("min_gram_length", 1)
        .int("max_gram_length", 2)
        .int("max_skip_count", 1)
        .ints("pool_int64s", &[2, 3, 5, 4, 5, 6])
        .ints("ngram_counts", &[0, 4])
        .ints("ngram_indexes", &[0, 1, 2, 3, 4])
        .with("weights", Held::Floats(vec![1.0; 5]));
    let whole = of(grams, vec![], &[-1, 6], &[-1, 5]).but(|model| model.graph.inputs[0].kind = INT64);
    all.push(("TfIdfVectorizer", whole));
    for (name, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        let layer = node(name, "x w r", "y - ").int("hidden_size", 3).with("direction", text("reverse"));
        let layer = Node { outputs: vec!["y".into()], ..layer };
        let stored = vec![weights("w", &[1, gates * 3, 4]), weights("r", &[1, gates * 3, 3])];
        all.push((name, of(layer, stored, &[5, 2, 4], &[5, 1, 2, 3])));
    }
    all
}

fn classical() -> Vec<(&'static str, Model)> {
    let four = || Held::Floats(vec![0.5, 1.0, 1.5, 2.0]);
    let scaler = node("Scaler", "x", "y").of(ML).with("offset", four()).with("scale", four());
    let normalizer = node("Normalizer", "x", "y").of(ML).with("norm", text("L2"));
    let binarizer = node("Binarizer", "x", "y").of(ML).with("threshold", Held::Float(0.5));
    let imputer = node("Imputer", "x", "y")
        .of(ML)
        .with("imputed_value_floats", four())
        .with("replaced_value_float", Held::Float(f32::NAN));
    let encoder = node("OneHotEncoder", "x", "y").of(ML).ints("cats_int64s", &[0, 1, 2]).int("zeros", 1);
    let labels = node("LabelEncoder", "x", "y")
        .of(ML)
        .with("keys_floats", Held::Floats(vec![0.0, 1.0, 2.0]))
        .with("values_floats", Held::Floats(vec![5.0, 6.0, 7.0]))
        .with("default_float", Held::Float(-1.0));
    let linear = node("LinearRegressor", "x", "y")
        .of(ML)
        .with("coefficients", four())
        .with("intercepts", Held::Floats(vec![0.1]))
        .int("targets", 1);
    let classifier = node("LinearClassifier", "x", "label y")
        .of(ML)
        .with("coefficients", Held::Floats(vec![0.25; 12]))
        .with("intercepts", Held::Floats(vec![0.1; 3]))
        .ints("classlabels_ints", &[0, 1, 2])
        .with("post_transform", text("SOFTMAX"));
    let machine = |name: &str, outputs: &str| {
        node(name, "x", outputs)
            .of(ML)
            .with("kernel_type", text("RBF"))
            .with("kernel_params", Held::Floats(vec![0.5, 0.0, 3.0]))
            .with("support_vectors", Held::Floats(vec![0.5; 12]))
            .with("coefficients", Held::Floats(vec![0.5, -0.5, 0.25]))
            .with("rho", Held::Floats(vec![0.1]))
    };
    let vectors = machine("SVMClassifier", "label y")
        .ints("classlabels_ints", &[0, 1])
        .ints("vectors_per_class", &[2, 1])
        .with("post_transform", text("NONE"));
    let regressor = machine("SVMRegressor", "y").int("n_supports", 3);
    let trees = node("TreeEnsembleRegressor", "x", "y")
        .of(ML)
        .with("nodes_treeids", ints(&[0, 0, 0]))
        .with("nodes_nodeids", ints(&[0, 1, 2]))
        .with("nodes_featureids", ints(&[3, 0, 0]))
        .with("nodes_truenodeids", ints(&[1, 0, 0]))
        .with("nodes_falsenodeids", ints(&[2, 0, 0]))
        .with("nodes_values", Held::Floats(vec![0.5, 0.0, 0.0]))
        .with("nodes_modes", Held::Texts(["BRANCH_LEQ", "LEAF", "LEAF"].map(str::to_owned).into()))
        .with("target_treeids", ints(&[0, 0]))
        .with("target_nodeids", ints(&[1, 2]))
        .with("target_ids", ints(&[0, 0]))
        .with("target_weights", Held::Floats(vec![1.0, 2.0]))
        .int("n_targets", 1)
        .with("aggregate_function", text("SUM"));
    let extractor = node("ArrayFeatureExtractor", "x i", "y").of(ML);
    let joined = node("FeatureVectorizer", "x x", "y").of(ML).ints("inputdimensions", &[4, 4]);
    let one = |first: Node, made: i64| of(first, vec![], &[-1, 4], &[-1, made]);
    vec![
        ("Scaler", one(scaler, 4)),
        ("Normalizer", one(normalizer, 4)),
        ("Binarizer", one(binarizer, 4)),
        ("Imputer", one(imputer, 4)),
        ("OneHotEncoder", of(encoder, vec![], &[-1, 4], &[-1, 4, 3])),
        ("LabelEncoder", one(labels, 4).but(|model| model.sets[1].1 = 2)),
        ("LinearRegressor", one(linear, 1)),
        ("LinearClassifier", one(classifier, 3)),
        ("SVMClassifier", one(vectors, 2)),
        ("SVMRegressor", one(regressor, 1)),
        ("TreeEnsembleRegressor", one(trees, 1)),
        ("ArrayFeatureExtractor", of(extractor, vec![list("i", &[0, 3])], &[-1, 4], &[-1, 2])),
        ("FeatureVectorizer", one(joined, 8)),
    ]
}

fn quantised() -> Vec<(&'static str, Model)> {
    let scale = |name: &str| floats(name, &[], &[0.05]);
    let bytes = |name: &str, kind: i32, dims: &[i64]| {
        let count: i64 = dims.iter().product();
        Tensor { name: name.into(), kind, dims: dims.into(), raw: vec![3; count as usize], ..Tensor::default() }
    };
    let chain = |middle: Node, stored: Vec<Tensor>, shape: &[i64], made: &[i64]| {
        let quantise = node("QuantizeLinear", "x s z", "q");
        let back = node("DequantizeLinear", "p s z", "y");
        let mut all = vec![scale("s"), bytes("z", INT8, &[])];
        all.extend(stored);
        Model::new(vec![middle, quantise, back], all, shape, made).but(|model| model.graph.nodes.swap(0, 1))
    };
    let product = node("QLinearMatMul", "q s z w s z s z", "p");
    let dense = node("QGemm", "q s z w s z - s z", "p").of(MICROSOFT).int("transB", 0);
    let sum = node("QLinearAdd", "q s z q s z s z", "p").of(MICROSOFT);
    let soft = node("QLinearSoftmax", "q s z s z", "p").of(MICROSOFT).int("axis", -1).int("opset", 13);
    let sigmoid = node("QLinearSigmoid", "q s z s z", "p").of(MICROSOFT);
    let leaky = node("QLinearLeakyRelu", "q s z s z", "p").of(MICROSOFT).with("alpha", Held::Float(0.1));
    let joined = node("QLinearConcat", "s z q s z q s z", "p").of(MICROSOFT).int("axis", 1);
    let mean = node("QLinearGlobalAveragePool", "q s z s z", "p").of(MICROSOFT).int("channels_last", 0);
    let pool = node("QLinearAveragePool", "q s z s z", "p").of(MICROSOFT).ints("kernel_shape", &[2, 2]);
    let windows = node("QLinearConv", "q s z k s z s z", "p").ints("pads", &[1, 1, 1, 1]);
    let whole = node("MatMulInteger", "b w", "i");
    let dynamic = Model::new(
        vec![whole, node("DynamicQuantizeLinear", "x", "b bs bz"), node("Cast", "i", "y").int("to", 1)],
        vec![bytes("w", UINT8, &[4, 3])],
        &[-1, 4],
        &[-1, 3],
    );
    let row = [-1, 4].as_slice();
    vec![
        ("QLinearMatMul", chain(product, vec![bytes("w", INT8, &[4, 3])], row, &[-1, 3])),
        ("QGemm", chain(dense, vec![bytes("w", INT8, &[4, 3])], row, &[-1, 3])),
        ("QLinearAdd", chain(sum, vec![], row, row)),
        ("QLinearSoftmax", chain(soft, vec![], row, row)),
        ("QLinearSigmoid", chain(sigmoid, vec![], row, row)),
        ("QLinearLeakyRelu", chain(leaky, vec![], row, row)),
        ("QLinearConcat", chain(joined, vec![], row, &[-1, 8])),
        ("QLinearGlobalAveragePool", chain(mean, vec![], &[-1, 2, 4, 4], &[-1, 2, 1, 1])),
        ("QLinearAveragePool", chain(pool, vec![], &[-1, 2, 4, 4], &[-1, 2, 3, 3])),
        ("QLinearConv", chain(windows, vec![bytes("k", INT8, &[3, 2, 3, 3])], &[-1, 2, 4, 4], &[-1, 3, 4, 4])),
        ("MatMulInteger", dynamic.but(|model| model.graph.nodes.swap(0, 1))),
    ]
}

/// Every attribute of every node, and every stored tensor, in all ways that come to mind.
fn disturb(kinds: &mut Kinds, name: &str, model: &Model) {
    let mut changed = |what: String, change: &dyn Fn(&mut Model)| {
        kinds.add(format!("own/{name}: {what}"), &model.but(change));
    };
    for (index, first) in model.graph.nodes.iter().enumerate() {
        for (place, (attribute, held)) in first.attributes.iter().enumerate() {
            let called = format!("{}.{attribute}", first.operator);
            changed(format!("without {called}"), &|model| {
                model.graph.nodes[index].attributes.remove(place);
            });
            for (how, other) in others(held) {
                changed(format!("{called} {how}"), &|model| {
                    model.graph.nodes[index].attributes[place].1 = other.clone();
                });
            }
        }
        for input in 0..first.inputs.len() {
            let called = format!("{} input {input}", first.operator);
            changed(format!("{called} absent"), &|model| model.graph.nodes[index].inputs[input].clear());
            changed(format!("{called} is x"), &|model| model.graph.nodes[index].inputs[input] = "x".into());
            changed(format!("{called} gone"), &|model| model.graph.nodes[index].inputs.truncate(input));
        }
    }
    for (index, stored) in model.graph.stored.iter().enumerate() {
        let called = &stored.name;
        let last = stored.dims.len().saturating_sub(1);
        for (how, dims) in
            [("empty", vec![0]), ("a matrix", vec![2, 2]), ("long", vec![LONG as i64]), ("a number", vec![])]
        {
            changed(format!("{called} {how}"), &|model| model.graph.stored[index] = sized(stored, &dims));
        }
        if !stored.dims.is_empty() {
            for grown in [-1, 1] {
                let mut dims = stored.dims.clone();
                dims[last] += grown;
                changed(format!("{called} by {grown}"), &|model| model.graph.stored[index] = sized(stored, &dims));
            }
        }
        for kind in 0..=18 {
            changed(format!("{called} of type {kind}"), &|model| model.graph.stored[index].kind = kind);
        }
        if stored.kind == INT64 {
            for sharp in SHARP {
                changed(format!("{called} of {sharp}"), &|model| {
                    model.graph.stored[index].raw = sharp.to_le_bytes().repeat(stored.raw.len() / 8);
                });
            }
        } else {
            for byte in [0, 0x7f, 0x80, 0xff] {
                changed(format!("{called} of bytes {byte:#x}"), &|model| model.graph.stored[index].raw.fill(byte));
            }
        }
    }
}

/// The same numbers, repeated to other sizes.
fn sized(stored: &Tensor, dims: &[i64]) -> Tensor {
    let count: i64 = dims.iter().product();
    let width = stored.raw.len() / stored.dims.iter().product::<i64>().max(1) as usize;
    let raw = stored.raw.iter().copied().cycle().take(count as usize * width).collect();
    Tensor { dims: dims.into(), raw, ..stored.clone() }
}

/// Other things that an attribute may hold.
fn others(held: &Held) -> Vec<(String, Held)> {
    let mut all = vec![
        ("as a tensor".to_owned(), Held::Tensor(floats("t", &[1], &[1.0]))),
        ("as nothing".to_owned(), Held::Ints(vec![])),
    ];
    let mut list = |how: &str, held: Held| all.push((how.to_owned(), held));
    match held {
        Held::Int(_) => {
            SHARP.iter().for_each(|sharp| list(&format!("of {sharp}"), Held::Int(*sharp)));
            list("as floats", Held::Floats(vec![1.0; 3]));
        }
        Held::Float(_) => [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e30, 1e-40]
            .iter()
            .for_each(|sharp| list(&format!("of {sharp}"), Held::Float(*sharp))),
        Held::Text(_) => ["", "nonsense", "PROBIT", "SOFTMAX_ZERO", "LOGISTIC", "POLY", "SIGMOID", "MIN", "AVERAGE"]
            .iter()
            .for_each(|word| list(&format!("`{word}`"), Held::Text((*word).into()))),
        Held::Ints(values) => {
            let longer = values.iter().chain(values).copied().collect();
            list("twice as long", Held::Ints(longer));
            list("very long", Held::Ints(vec![1; LONG]));
            list("shorter", Held::Ints(values.iter().skip(1).copied().collect()));
            list("as floats", Held::Floats(values.iter().map(|value| *value as f32).collect()));
            for sharp in SHARP {
                list(&format!("of {sharp}"), Held::Ints(vec![sharp; values.len()]));
                let mut one = values.clone();
                if let Some(last) = one.last_mut() {
                    *last = sharp;
                }
                list(&format!("ending in {sharp}"), Held::Ints(one));
            }
        }
        Held::Floats(values) => {
            list("twice as long", Held::Floats(values.iter().chain(values).copied().collect()));
            list("very long", Held::Floats(vec![1.0; LONG]));
            list("shorter", Held::Floats(values.iter().skip(1).copied().collect()));
            list("of one", Held::Floats(vec![1.0]));
            for sharp in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
                list(&format!("of {sharp}"), Held::Floats(vec![sharp; values.len()]));
            }
        }
        Held::Texts(values) => {
            list("shorter", Held::Texts(values.iter().skip(1).cloned().collect()));
            list("of nonsense", Held::Texts(vec!["nonsense".into(); values.len()]));
            list("of branches", Held::Texts(vec!["BRANCH_LEQ".into(); values.len()]));
            list("very long", Held::Texts(vec!["LEAF".into(); LONG]));
        }
        Held::Tensor(_) | Held::Graph(_) | Held::Fields(_) => {}
    }
    all
}
