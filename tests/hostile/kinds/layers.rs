//! Layers with many inputs that must agree: recurrent ones, quantised ones, normalisations.

use super::{Kinds, SHARP};
use crate::onnx::{Held, INT8, INT32, Model, Tensor, UINT8, floats, list, node, value, weights};

pub(crate) fn add(kinds: &mut Kinds) {
    recurrent(kinds);
    quantised(kinds);
    normalised(kinds);
    linear(kinds);
    attention(kinds);
}

fn recurrent(kinds: &mut Kinds) {
    for (operator, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        let stored =
            vec![weights("w", &[1, gates * 5, 4]), weights("r", &[1, gates * 5, 5]), weights("b", &[1, gates * 10])];
        let layer = node(operator, "x w r b", "s last").int("hidden_size", 5);
        let model = Model::new(vec![layer, node("Squeeze", "last zero", "y")], stored, &[3, 1, 4], &[1, 5])
            .but(|model| model.graph.stored.push(list("zero", &[0])));
        kinds.sound(format!("recurrent/{operator}"), &model);
        for number in SHARP {
            kinds.add(format!("recurrent/{operator} hidden {number}"), &model.set("hidden_size", Held::Int(number)));
            kinds.add(format!("recurrent/{operator} layout {number}"), &model.set("layout", Held::Int(number)));
        }
        for direction in ["forward", "reverse", "bidirectional", "sideways"] {
            kinds.add(
                format!("recurrent/{operator} {direction}"),
                &model.set("direction", Held::Text(direction.into())),
            );
        }
        for (index, name) in ["w", "r", "b"].into_iter().enumerate() {
            for dims in [
                vec![],
                vec![1],
                vec![1, 5],
                vec![1, 5, 4],
                vec![2, gates * 5, 4],
                vec![1, gates * 5 + 1, 4],
                vec![1, gates * 5, 0],
                vec![0, gates * 5, 5],
                vec![1, gates * 5, 4, 1],
            ] {
                kinds.add(
                    format!("recurrent/{operator} {name} {dims:?}"),
                    &model.but(|model| model.graph.stored[index] = weights(name, &dims)),
                );
            }
        }
        for shape in [
            vec![-1, 1, 4],
            vec![3, -1, 4],
            vec![-1, -1, 4],
            vec![3, 1, -1],
            vec![3, 4],
            vec![3, 1, 4, 1],
            vec![1, 1, 5],
            vec![1_000_000, 1, 4],
        ] {
            kinds.add(
                format!("recurrent/{operator} over {shape:?}"),
                &model.but(|model| model.graph.inputs[0] = value("x", &shape)),
            );
        }
        for (name, inputs) in [
            ("lengths", "x w r b n"),
            ("a state", "x w r b - h"),
            ("two states", "x w r b - h h"),
            ("peepholes", "x w r b - h h p"),
            ("no weights", "x"),
            ("absent weights", "x - r"),
            ("no bias", "x w r"),
        ] {
            let layer = model.but(|model| {
                model.first().inputs = node("", inputs, "").inputs;
                model.graph.stored.extend([
                    Tensor { kind: INT32, raw: 3i32.to_le_bytes().into(), dims: vec![1], ..floats("n", &[], &[]) },
                    weights("h", &[1, 1, 5]),
                    weights("p", &[1, 15]),
                ]);
            });
            kinds.add(format!("recurrent/{operator} with {name}"), &layer);
            kinds.add(
                format!("recurrent/{operator} with {name} of wrong shapes"),
                &layer.but(|model| {
                    model.graph.stored.truncate(4);
                    model.graph.stored.extend([list("n", &[9, 9]), weights("h", &[3, 7]), weights("p", &[2])]);
                }),
            );
        }
        for outputs in ["- last", "s -", "- - c", "s last c", "s last c d", ""] {
            kinds.add(
                format!("recurrent/{operator} gives {outputs:?}"),
                &model.but(|model| model.first().outputs = node("", "", outputs).outputs),
            );
        }
        kinds.add(
            format!("recurrent/{operator} activated by others"),
            &model.set("activations", Held::Texts(vec!["Evil".into(); 3])),
        );
        kinds.add(format!("recurrent/{operator} with couplings"), &model.set("input_forget", Held::Int(1)));
    }
}

fn byte(name: &str, kind: i32, dims: &[i64]) -> Tensor {
    let count: i64 = dims.iter().product();
    Tensor { name: name.into(), kind, dims: dims.into(), raw: vec![1; count as usize], ..Tensor::default() }
}

fn quantised(kinds: &mut Kinds) {
    let pair = Model::new(
        vec![node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")],
        vec![floats("s", &[], &[0.5]), byte("z", UINT8, &[])],
        &[-1, 4],
        &[-1, 4],
    );
    let product = Model::new(
        vec![
            node("QuantizeLinear", "x s z", "q"),
            node("QLinearMatMul", "q s z w s z s z", "p"),
            node("DequantizeLinear", "p s z", "y"),
        ],
        vec![floats("s", &[], &[0.5]), byte("z", UINT8, &[]), byte("w", UINT8, &[4, 4])],
        &[-1, 4],
        &[-1, 4],
    );
    let counted = Model::new(
        vec![
            node("DynamicQuantizeLinear", "x", "q s z"),
            node("MatMulInteger", "q w z o", "i"),
            node("Cast", "i", "y").int("to", 1),
        ],
        vec![byte("o", UINT8, &[]), byte("o2", UINT8, &[]), byte("w", UINT8, &[4, 4])],
        &[-1, 4],
        &[-1, 4],
    );
    for (name, model) in [("pair", pair), ("product", product), ("counted", counted)] {
        kinds.sound(format!("quantised/{name}"), &model);
        for scale in [0.0, -0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45, f32::MAX] {
            kinds.add(
                format!("quantised/{name} scale {scale:e}"),
                &model.but(|model| model.graph.stored[0] = floats("s", &[], &[scale])),
            );
        }
        for dims in [vec![0], vec![1], vec![2], vec![4], vec![2, 2], vec![1, 1, 1]] {
            kinds.add(
                format!("quantised/{name} scales {dims:?}"),
                &model.but(|model| model.graph.stored[0] = weights("s", &dims)),
            );
            kinds.add(
                format!("quantised/{name} positive scales {dims:?}"),
                &model.but(|model| {
                    let count: i64 = dims.iter().product();
                    model.graph.stored[0] = floats("s", &dims, &vec![0.5; count as usize]);
                }),
            );
            kinds.add(
                format!("quantised/{name} zero points {dims:?}"),
                &model.but(|model| model.graph.stored[1] = byte("z", UINT8, &dims)),
            );
        }
        for kind in [INT8, 4, INT32, 7, 1, 9, 8] {
            let width = match kind {
                1 | 6 => 4,
                4 => 2,
                7 => 8,
                8 => 0,
                _ => 1,
            };
            let changed = |at: usize| {
                model.but(|model| {
                    if let Some(tensor) = model.graph.stored.get_mut(at) {
                        let count: i64 = tensor.dims.iter().product();
                        tensor.kind = kind;
                        tensor.raw = vec![0; count as usize * width];
                    }
                })
            };
            kinds.add(format!("quantised/{name} scale of type {kind}"), &changed(0));
            kinds.add(format!("quantised/{name} zero point of type {kind}"), &changed(1));
            kinds.add(format!("quantised/{name} weights of type {kind}"), &changed(2));
        }
        kinds.add(
            format!("quantised/{name} scale by an input"),
            &model.but(|model| {
                model.graph.stored.remove(0);
                model.graph.inputs.push(value("s", &[]));
            }),
        );
        for dims in [vec![], vec![4], vec![3, 4], vec![4, 0], vec![2, 4, 4]] {
            if model.graph.stored.len() > 2 {
                kinds.add(
                    format!("quantised/{name} weights {dims:?}"),
                    &model.but(|model| model.graph.stored[2] = byte("w", UINT8, &dims)),
                );
            }
        }
    }
}

fn normalised(kinds: &mut Kinds) {
    let image = |operator: &str, inputs: &str, count: usize| {
        let stored = ["a", "b", "c", "d"].into_iter().take(count).map(|name| floats(name, &[2], &[1.0, 0.5])).collect();
        Model::new(vec![node(operator, inputs, "y")], stored, &[-1, 2, 3, 3], &[-1, 2, 3, 3])
    };
    for (name, model) in [
        ("BatchNormalization", image("BatchNormalization", "x a b c d", 4)),
        ("InstanceNormalization", image("InstanceNormalization", "x a b", 2)),
        ("LRN", image("LRN", "x", 0).set("size", Held::Int(3))),
    ] {
        kinds.sound(format!("normalised/{name}"), &model);
        for dims in [vec![], vec![1], vec![3], vec![2, 2], vec![0]] {
            for at in 0..model.graph.stored.len() {
                kinds.add(
                    format!("normalised/{name} {at} {dims:?}"),
                    &model.but(|model| {
                        let name = model.graph.stored[at].name.clone();
                        model.graph.stored[at] = weights(&name, &dims);
                    }),
                );
            }
        }
        for number in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
            kinds.add(format!("normalised/{name} epsilon {number}"), &model.set("epsilon", Held::Float(number)));
            if !model.graph.stored.is_empty() {
                let last = model.graph.stored.len() - 1;
                kinds.add(
                    format!("normalised/{name} of {number}"),
                    &model.but(|model| {
                        let name = model.graph.stored[last].name.clone();
                        model.graph.stored[last] = floats(&name, &[2], &[number; 2]);
                    }),
                );
            }
        }
        for number in SHARP {
            kinds.add(format!("normalised/{name} size {number}"), &model.set("size", Held::Int(number)));
        }
        for shape in [vec![-1], vec![-1, 2], vec![-1, 3, 3, 3]] {
            kinds.add(
                format!("normalised/{name} over {shape:?}"),
                &model.but(|model| model.graph.inputs[0] = value("x", &shape)),
            );
        }
    }
    for number in SHARP.into_iter().chain([2, 3]) {
        let groups = image("GroupNormalization", "x a b", 2).set("num_groups", Held::Int(number));
        kinds.add(format!("normalised/GroupNormalization {number}"), &groups);
    }
}

fn linear(kinds: &mut Kinds) {
    let classifier = Model::new(
        vec![
            node("LinearClassifier", "x", "label y")
                .of("ai.onnx.ml")
                .with("coefficients", Held::Floats(vec![0.1; 12]))
                .with("intercepts", Held::Floats(vec![0.1; 3]))
                .ints("classlabels_ints", &[0, 1, 2]),
        ],
        vec![],
        &[-1, 4],
        &[-1, 3],
    );
    let regressor = Model::new(
        vec![
            node("LinearRegressor", "x", "y")
                .of("ai.onnx.ml")
                .with("coefficients", Held::Floats(vec![0.1; 4]))
                .with("intercepts", Held::Floats(vec![0.1]))
                .int("targets", 1),
        ],
        vec![],
        &[-1, 4],
        &[-1, 1],
    );
    for (name, model) in [("LinearClassifier", classifier), ("LinearRegressor", regressor)] {
        kinds.sound(format!("linear/{name}"), &model);
        for count in [0, 1, 2, 5, 7, 100_000] {
            kinds.add(
                format!("linear/{name} {count} coefficients"),
                &model.set("coefficients", Held::Floats(vec![0.1; count])),
            );
            kinds.add(
                format!("linear/{name} {count} intercepts"),
                &model.set("intercepts", Held::Floats(vec![0.1; count])),
            );
            kinds.add(
                format!("linear/{name} {count} labels"),
                &model.set("classlabels_ints", Held::Ints(vec![1; count])),
            );
        }
        for number in SHARP {
            kinds.add(format!("linear/{name} {number} targets"), &model.set("targets", Held::Int(number)));
        }
        for text in ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT", "EVIL"] {
            kinds.add(format!("linear/{name} then {text}"), &model.set("post_transform", Held::Text(text.into())));
        }
        for shape in [vec![4], vec![-1, 3], vec![-1, 4, 1], vec![-1, -1]] {
            kinds.add(
                format!("linear/{name} over {shape:?}"),
                &model.but(|model| model.graph.inputs[0] = value("x", &shape)),
            );
        }
        kinds.add(
            format!("linear/{name} of another domain"),
            &model.but(|model| model.first().domain = "ai.onnx".into()),
        );
    }
    for (name, texts, numbers) in [("none", 0, 0), ("as many", 2, 2), ("more texts", 3, 2), ("more numbers", 2, 3)] {
        let mapper = node("CategoryMapper", "i", "m")
            .of("ai.onnx.ml")
            .with("cats_strings", Held::Texts(vec!["a".into(); texts]))
            .ints("cats_int64s", &vec![1; numbers])
            .with("default_string", Held::Text("b".into()));
        let nodes = vec![node("Cast", "x", "i").int("to", 7), mapper, node("Relu", "x", "y")];
        kinds.add(format!("linear/CategoryMapper with {name}"), &Model::new(nodes, vec![], &[-1, 4], &[-1, 4]));
    }
}

/// Heads, blocks and bits of transformers' operators.
fn attention(kinds: &mut Kinds) {
    let three = |operator: &str, domain: &str| {
        Model::new(vec![node(operator, "x x x", "y").of(domain)], vec![], &[1, 4, 8], &[1, 4, 8])
    };
    for (name, model) in [
        ("Attention", three("Attention", "").but(|model| model.sets[0].1 = 23)),
        ("MultiHeadAttention", three("MultiHeadAttention", "com.microsoft")),
        ("GroupQueryAttention", three("GroupQueryAttention", "com.microsoft")),
        ("RotaryEmbedding", three("RotaryEmbedding", "com.microsoft")),
        ("MatMulNBits", three("MatMulNBits", "com.microsoft")),
        ("GatherBlockQuantized", three("GatherBlockQuantized", "com.microsoft")),
    ] {
        for attribute in
            ["num_heads", "q_num_heads", "kv_num_heads", "rotary_embedding_dim", "K", "N", "bits", "block_size"]
        {
            for number in SHARP.into_iter().chain([2, 3]) {
                let model = model
                    .set("K", Held::Int(8))
                    .set("N", Held::Int(8))
                    .set("bits", Held::Int(4))
                    .set("block_size", Held::Int(16))
                    .set("num_heads", Held::Int(2))
                    .set("q_num_heads", Held::Int(2))
                    .set("kv_num_heads", Held::Int(2));
                kinds.add(format!("attention/{name} {attribute} {number}"), &model.set(attribute, Held::Int(number)));
            }
        }
    }
}
