//! Tree ensembles with every field corrupted: unchecked ids there were measured to write out of
//! bounds.

use super::{Kinds, SHARP};
use crate::onnx::{Held, Model, node, value};

const INTS: [&str; 9] = [
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "class_ids",
    "class_nodeids",
    "class_treeids",
    "classlabels_int64s",
];

/// Two trees over four features: a stump, and one of five nodes; three classes.
fn forest() -> Model {
    let ints = |values: &[i64]| Held::Ints(values.into());
    let leaf = "LEAF";
    let modes = ["BRANCH_LEQ", leaf, leaf, "BRANCH_LEQ", "BRANCH_GT", leaf, leaf, leaf];
    let ensemble = node("TreeEnsembleClassifier", "x", "label y")
        .of("ai.onnx.ml")
        .with("nodes_treeids", ints(&[0, 0, 0, 1, 1, 1, 1, 1]))
        .with("nodes_nodeids", ints(&[0, 1, 2, 0, 1, 2, 3, 4]))
        .with("nodes_featureids", ints(&[0, 0, 0, 3, 1, 0, 0, 0]))
        .with("nodes_truenodeids", ints(&[1, 0, 0, 1, 2, 0, 0, 0]))
        .with("nodes_falsenodeids", ints(&[2, 0, 0, 4, 3, 0, 0, 0]))
        .with("nodes_values", Held::Floats(vec![0.5; 8]))
        .with("nodes_modes", Held::Texts(modes.map(str::to_owned).into()))
        .with("class_treeids", ints(&[0, 0, 1, 1, 1]))
        .with("class_nodeids", ints(&[1, 2, 2, 3, 4]))
        .with("class_ids", ints(&[0, 1, 2, 0, 1]))
        .with("class_weights", Held::Floats(vec![1.0; 5]))
        .with("classlabels_int64s", ints(&[7, 8, 9]))
        .with("post_transform", Held::Text("NONE".into()));
    Model::new(vec![ensemble], vec![], &[-1, 4], &[-1, 3])
}

fn ints(model: &mut Model, name: &str, change: impl FnOnce(&mut Vec<i64>)) {
    for (known, held) in &mut model.first().attributes {
        if let (true, Held::Ints(values)) = (known == name, held) {
            return change(values);
        }
    }
}

pub(crate) fn add(kinds: &mut Kinds) {
    kinds.sound("trees/forest", &forest());
    for name in INTS {
        kinds.add(
            format!("trees/without {name}"),
            &forest().but(|model| model.first().attributes.retain(|(known, _)| known != name)),
        );
        kinds.add(format!("trees/{name} as a number"), &forest().set(name, Held::Int(1)));
        kinds.add(format!("trees/{name} as floats"), &forest().set(name, Held::Floats(vec![0.0; 8])));
        for length in [0, 1, 4, 7, 9, 1000] {
            kinds.add(
                format!("trees/{length} {name}"),
                &forest().but(|model| ints(model, name, |values| values.resize(length, 0))),
            );
        }
        for at in [0, 1, 3] {
            for number in SHARP.into_iter().chain([1, 2, 3, 4, 5, 8, 100]) {
                kinds.add(
                    format!("trees/{name} {at} is {number}"),
                    &forest().but(|model| {
                        ints(model, name, |values| {
                            if let Some(value) = values.get_mut(at) {
                                *value = number;
                            }
                        })
                    }),
                );
            }
        }
        kinds.add(
            format!("trees/{name} backwards"),
            &forest().but(|model| ints(model, name, |values| values.reverse())),
        );
    }
    for name in ["nodes_values", "class_weights", "base_values", "nodes_hitrates"] {
        for length in [0, 1, 3, 4, 7, 9, 1000] {
            kinds.add(format!("trees/{length} {name}"), &forest().set(name, Held::Floats(vec![0.1; length])));
        }
        for number in [f32::NAN, f32::INFINITY, f32::MAX] {
            kinds.add(
                format!("trees/{name} of {number:e}"),
                &forest().set(name, Held::Floats(vec![number; if name == "class_weights" { 5 } else { 8 }])),
            );
        }
    }
    for length in [0, 7, 9] {
        kinds.add(
            format!("trees/{length} modes"),
            &forest().set("nodes_modes", Held::Texts(vec!["LEAF".into(); length])),
        );
        kinds.add(
            format!("trees/{length} tracks"),
            &forest().set("nodes_missing_value_tracks_true", Held::Ints(vec![1; length])),
        );
    }
    for mode in ["LEAF", "BRANCH_LEQ", "BRANCH_NEQ", "BRANCH_MEMBER", "", "\u{0}"] {
        kinds.add(format!("trees/all modes {mode:?}"), &forest().set("nodes_modes", Held::Texts(vec![mode.into(); 8])));
    }
    for (name, labels) in [("both labels", 3), ("no labels", 0), ("one label", 1), ("four labels", 4)] {
        kinds.add(
            format!("trees/texts: {name}"),
            &forest().set("classlabels_strings", Held::Texts(vec!["a".into(); labels])),
        );
        kinds.add(
            format!("trees/only texts: {name}"),
            &forest().but(|model| {
                model.first().attributes.retain(|(known, _)| known != "classlabels_int64s");
                model.first().attributes.push(("classlabels_strings".into(), Held::Texts(vec!["a".into(); labels])));
            }),
        );
    }
    for shape in [vec![4], vec![-1, 3], vec![-1, 2], vec![-1, -1], vec![-1, 4, 4], vec![1], vec![]] {
        kinds.add(format!("trees/over {shape:?}"), &forest().but(|model| model.graph.inputs[0] = value("x", &shape)));
    }
    for kind in [6, 7, 11, 2, 9, 8] {
        kinds.add(format!("trees/over type {kind}"), &forest().but(|model| model.graph.inputs[0].kind = kind));
    }
    for text in ["SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT", "EVIL"] {
        kinds.add(format!("trees/then {text}"), &forest().set("post_transform", Held::Text(text.into())));
    }
    for operator in ["TreeEnsembleRegressor", "TreeEnsemble", "TreeEnsembleEvil"] {
        kinds.add(format!("trees/{operator}"), &forest().but(|model| model.first().operator = operator.into()));
    }
    for domain in ["", "ai.onnx", "com.microsoft", "evil"] {
        kinds.add(format!("trees/of domain {domain:?}"), &forest().but(|model| model.first().domain = domain.into()));
    }
    for number in SHARP {
        kinds.add(format!("trees/{number} targets"), &forest().set("n_targets", Held::Int(number)));
    }
}
