//! Graphs: circles, names, inner graphs, operators and operator sets that do not exist.

use super::{Kinds, SHARP, dense};
use crate::onnx::{
    BOOL, Graph, Held, INT64, Message, Model, Node, STRING, Tensor, Value, floats, node, value, weights,
};

pub(crate) fn add(kinds: &mut Kinds) {
    circles(kinds);
    names(kinds);
    long(kinds);
    conditions(kinds);
    scans(kinds);
    operators(kinds);
    stored_elsewhere(kinds);
}

fn plain(nodes: Vec<Node>) -> Model {
    Model::new(nodes, vec![], &[-1, 4], &[-1, 4])
}

fn circles(kinds: &mut Kinds) {
    kinds.add("circles/a node that reads itself", &plain(vec![node("Add", "x y", "y")]));
    kinds.add("circles/only itself", &plain(vec![node("Relu", "y", "y")]));
    kinds.add("circles/two nodes", &plain(vec![node("Add", "x b", "y"), node("Relu", "y", "b")]));
    for count in [3, 100, 3000] {
        let mut nodes: Vec<Node> =
            (0..count).map(|index| node("Relu", &format!("h{index}"), &format!("h{}", (index + 1) % count))).collect();
        nodes.push(node("Add", "x h0", "y"));
        kinds.add(format!("circles/{count} nodes"), &plain(nodes));
    }
    kinds.add("circles/backwards order", &plain(vec![node("Relu", "h", "y"), node("Relu", "x", "h")]));
    kinds.add("circles/input of nobody", &plain(vec![node("Add", "x nobody", "y")]));
    kinds.add("circles/output of nobody", &plain(vec![node("Relu", "x", "z")]));
    kinds.add("circles/no nodes", &plain(vec![]));
    kinds.sound(
        "circles/output is the input",
        &plain(vec![]).but(|model| model.graph.outputs = vec![value("x", &[-1, 4])]),
    );
    kinds.add("circles/no outputs", &dense().but(|model| model.graph.outputs.clear()));
    kinds.add("circles/no inputs", &dense().but(|model| model.graph.inputs.clear()));
    kinds.add(
        "circles/nine inputs",
        &dense().but(|model| model.graph.inputs.extend((0..8).map(|index| value(&format!("u{index}"), &[1])))),
    );
    kinds.sound("circles/unused input", &dense().but(|model| model.graph.inputs.push(value("u", &[-1, 2]))));
    kinds.add("circles/input with a stored value", &dense().but(|model| model.graph.inputs.push(value("w", &[9, 9]))));
    kinds.add("circles/all stored", &dense().but(|model| model.graph.stored.push(weights("x", &[1, 4]))));
}

fn names(kinds: &mut Kinds) {
    let rename = |change: &dyn Fn(&mut Graph)| dense().but(|model| change(&mut model.graph));
    kinds.add("names/two outputs of one name", &rename(&|graph| graph.nodes[1].outputs = vec!["h".into()]));
    kinds.add("names/two inputs of one name", &rename(&|graph| graph.inputs.push(value("x", &[-1, 4]))));
    kinds.add("names/two stored of one name", &rename(&|graph| graph.stored.push(weights("w", &[9, 9]))));
    kinds.add("names/graph outputs of one name", &rename(&|graph| graph.outputs.push(value("y", &[-1, 3]))));
    kinds.add("names/output named as the weights", &rename(&|graph| graph.nodes[0].outputs = vec!["w".into()]));
    kinds.add("names/output named as the input", &rename(&|graph| graph.nodes[1].outputs = vec!["x".into()]));
    kinds.add(
        "names/nodes of one name",
        &rename(&|graph| graph.nodes.iter_mut().for_each(|node| node.name = "n".into())),
    );
    kinds.add("names/node named as a value", &rename(&|graph| graph.nodes[1].name = "w".into()));
    kinds.add("names/node named as another's output", &rename(&|graph| graph.nodes[1].name = "h".into()));
    kinds.add("names/empty stored", &rename(&|graph| graph.stored[0].name = String::new()));
    kinds.add("names/empty input", &rename(&|graph| graph.inputs[0].name = String::new()));
    kinds.add("names/empty output", &rename(&|graph| graph.outputs[0].name = String::new()));
    kinds.add("names/empty node output", &rename(&|graph| graph.nodes[0].outputs = vec![String::new()]));
    kinds.add("names/empty node input", &rename(&|graph| graph.nodes[0].inputs[0] = String::new()));
    kinds.add("names/no node outputs", &rename(&|graph| graph.nodes[0].outputs.clear()));
    for (name, text) in [
        ("slashes", "../../etc/passwd"),
        ("zero", "a\u{0}b"),
        ("space", "a b"),
        ("quotes", "\"';--"),
        ("markup", "<script>"),
        ("arabic", "\u{202e}abc"),
    ] {
        kinds.add(
            format!("names/input with {name}"),
            &rename(&|graph| {
                graph.inputs[0].name = text.into();
                graph.nodes[0].inputs[0] = text.into();
            }),
        );
        kinds.add(format!("names/node with {name}"), &rename(&|graph| graph.nodes[0].name = text.into()));
    }
    for bytes in [100, 2000, 1_000_000] {
        kinds.add(
            format!("names/value of {bytes} bytes"),
            &rename(&|graph| {
                let name = "a".repeat(bytes);
                graph.nodes[0].outputs[0].clone_from(&name);
                graph.nodes[1].inputs[0] = name;
            }),
        );
        kinds.add(
            format!("names/operator of {bytes} bytes"),
            &rename(&|graph| graph.nodes[0].operator = "A".repeat(bytes)),
        );
    }
}

fn long(kinds: &mut Kinds) {
    for count in [500, 1_900, 20_000] {
        let name = |index: usize| match index {
            0 => "x".to_owned(),
            index if index == count => "y".to_owned(),
            index => format!("h{index}"),
        };
        let chain =
            |operator: &str| plain((0..count).map(|index| node(operator, &name(index), &name(index + 1))).collect());
        for operator in ["Relu", "Sigmoid", "Identity", "Neg"] {
            kinds.add(format!("long/{count} times {operator}"), &chain(operator));
        }
        let turned =
            (0..count).map(|index| node("Transpose", &name(index), &name(index + 1)).ints("perm", &[1, 0])).collect();
        kinds.add(format!("long/{count} times Transpose"), &plain(turned));
        let mut wide: Vec<Node> = (0..count).map(|index| node("Relu", "x", &format!("h{index}"))).collect();
        wide.push(node("Relu", "h0", "y"));
        kinds.add(format!("long/{count} readers of the input"), &plain(wide));
        let mut joined: Vec<Node> = (0..count).map(|index| node("Sigmoid", "x", &format!("h{index}"))).collect();
        let all: Vec<String> = (0..count).map(|index| format!("h{index}")).collect();
        joined.push(node("Sum", &all.join(" "), "y"));
        kinds.add(format!("long/sum of {count}"), &plain(joined));
        kinds.add(
            format!("long/{count} stored tensors"),
            &dense().but(|model| {
                model.graph.stored.extend((0..count).map(|index| floats(&format!("s{index}"), &[1], &[1.0])))
            }),
        );
        kinds.add(
            format!("long/node with {count} attributes"),
            &dense().but(|model| {
                model.graph.nodes[0].attributes = (0..count).map(|index| (format!("a{index}"), Held::Int(1))).collect();
            }),
        );
        kinds.add(format!("long/attribute with {count} numbers"), &dense().set("axes", Held::Ints(vec![0; count])));
        kinds.add(
            format!("long/Transpose of {count} axes"),
            &plain(vec![node("Transpose", "x", "y").ints("perm", &(0..count as i64).collect::<Vec<_>>())]),
        );
    }
}

fn branch(nodes: Vec<Node>, output: &str) -> Held {
    Held::Graph(Graph { nodes, outputs: vec![value(output, &[-1, 4])], ..Graph::default() })
}

fn condition() -> Model {
    let chosen = node("If", "c", "y")
        .with("then_branch", branch(vec![node("Relu", "x", "t")], "t"))
        .with("else_branch", branch(vec![node("Neg", "x", "e")], "e"));
    let flag = Tensor { name: "c".into(), kind: BOOL, dims: vec![], raw: vec![1], more: Message::default() };
    Model::new(vec![chosen], vec![flag], &[-1, 4], &[-1, 4])
}

fn conditions(kinds: &mut Kinds) {
    kinds.add("if/plain", &condition());
    kinds.add(
        "if/by an input",
        &condition().but(|model| {
            model.graph.stored.clear();
            model.graph.inputs.push(Value { sizes: Some(vec![]), ..value("c", &[]) }.of(BOOL));
        }),
    );
    kinds.add("if/by a float", &condition().but(|model| model.graph.stored[0] = floats("c", &[], &[1.0])));
    kinds.add("if/by a list", &condition().but(|model| model.graph.stored[0].dims = vec![1]));
    kinds.add("if/without a branch", &condition().but(|model| drop(model.first().attributes.pop())));
    kinds.add("if/without outputs", &condition().set("else_branch", Held::Graph(Graph::default())));
    kinds.add("if/a branch that gives the outer value", &condition().set("else_branch", branch(vec![], "x")));
    kinds.add("if/a branch that gives nobody's value", &condition().set("else_branch", branch(vec![], "nobody")));
    kinds.add(
        "if/a branch that reads nobody's value",
        &condition().set("else_branch", branch(vec![node("Neg", "nobody", "e")], "e")),
    );
    kinds.add(
        "if/a branch that reads its own If",
        &condition().set("else_branch", branch(vec![node("Neg", "y", "e")], "e")),
    );
    kinds.add(
        "if/a branch with inputs",
        &condition().set(
            "else_branch",
            Held::Graph(Graph {
                nodes: vec![node("Neg", "x", "e")],
                inputs: vec![value("x", &[-1, 4])],
                outputs: vec![value("e", &[-1, 4])],
                ..Graph::default()
            }),
        ),
    );
    kinds.add(
        "if/branches of other shapes",
        &condition().set("else_branch", branch(vec![node("Transpose", "x", "e")], "e")),
    );
    kinds.add("if/a number for a branch", &condition().set("else_branch", Held::Int(1)));
    kinds.add("if/a graph in Relu", &plain(vec![node("Relu", "x", "y").with("body", branch(vec![], "x"))]));
    for depth in [2, 5, 9, 20, 60, 150, 500] {
        let mut inner = branch(vec![node("Relu", "x", "d0")], "d0");
        for level in 1..=depth {
            let output = format!("d{level}");
            let chosen = node("If", "c", &output)
                .with("then_branch", inner.clone())
                .with("else_branch", branch(vec![node("Neg", "x", "e")], "e"));
            inner = branch(vec![chosen], &output);
        }
        kinds.add(format!("if/{depth} deep"), &condition().set("then_branch", inner));
    }
}

fn scan() -> Model {
    let body = Graph {
        nodes: vec![node("Add", "s v", "t"), node("Identity", "t", "o")],
        inputs: vec![value("s", &[4]), value("v", &[4])],
        outputs: vec![value("t", &[4]), value("o", &[4])],
        ..Graph::default()
    };
    let scanned = node("Scan", "init x", "last y").int("num_scan_inputs", 1).with("body", Held::Graph(body));
    Model::new(vec![scanned], vec![weights("init", &[4])], &[3, 4], &[3, 4])
}

fn scans(kinds: &mut Kinds) {
    kinds.sound("scan/plain", &scan());
    for number in SHARP {
        kinds.add(format!("scan/of {number} inputs"), &scan().set("num_scan_inputs", Held::Int(number)));
        for name in ["scan_input_axes", "scan_output_axes", "scan_input_directions", "scan_output_directions"] {
            kinds.add(format!("scan/{name} {number}"), &scan().set(name, Held::Ints(vec![number])));
        }
    }
    for name in ["scan_input_axes", "scan_output_axes", "scan_input_directions", "scan_output_directions"] {
        kinds.add(format!("scan/three {name}"), &scan().set(name, Held::Ints(vec![0; 3])));
    }
    kinds.add("scan/without a body", &scan().but(|model| drop(model.first().attributes.pop())));
    kinds.add("scan/with an empty body", &scan().set("body", Held::Graph(Graph::default())));
    kinds.add("scan/without states", &scan().but(|model| drop(model.first().inputs.remove(0))));
    kinds.add("scan/over a varying size", &scan().but(|model| model.graph.inputs[0] = value("x", &[-1, 4])));
    kinds.add("scan/over ten million", &scan().but(|model| model.graph.inputs[0] = value("x", &[10_000_000, 4])));
    kinds.add("scan/with states that do not fit", &scan().but(|model| model.graph.stored[0] = weights("init", &[5])));
    kinds.add(
        "scan/with a body that reads nobody",
        &scan().but(|model| {
            if let Some((_, Held::Graph(body))) = model.first().attributes.last_mut() {
                body.nodes[0].inputs[0] = "nobody".into();
            }
        }),
    );
    kinds.add(
        "scan/with a body that grows its state",
        &scan().but(|model| {
            if let Some((_, Held::Graph(body))) = model.first().attributes.last_mut() {
                body.nodes[0] = node("Concat", "s v", "t").int("axis", 0);
            }
        }),
    );
    for operator in ["Loop", "SequenceMap", "Optional", "SequenceConstruct", "SplitToSequence"] {
        kinds.add(format!("scan/{operator}"), &scan().but(|model| model.first().operator = operator.into()));
    }
}

fn operators(kinds: &mut Kinds) {
    for operator in [
        "",
        "relu",
        "Relu ",
        "Custom",
        "Scaler",
        "ZipMap",
        "TreeEnsembleRegressor",
        "SVMClassifier",
        "QGemm",
        "PyOp",
        "ATen",
    ] {
        kinds.add(format!("operators/{operator:?}"), &plain(vec![node(operator, "x", "y")]));
    }
    for domain in ["ai.onnx.ml", "com.microsoft", "evil", "ai.onnx.preview.training", "ai.onnx ", "AI.ONNX", "\u{0}"] {
        kinds.add(format!("operators/Relu of {domain:?}"), &plain(vec![node("Relu", "x", "y").of(domain)]));
        kinds.add(
            format!("operators/set {domain:?} twice"),
            &dense().but(|model| model.sets.extend([(domain.into(), 1), (domain.into(), 2)])),
        );
    }
    kinds.sound("operators/Relu of ai.onnx", &plain(vec![node("Relu", "x", "y").of("ai.onnx")]));
    for version in [0, -1, 1, 5, 6, 7, 9, 12, 13, 18, 21, 22, 64, 65, 1000, 65_536, i64::MAX, i64::MIN] {
        for (name, model) in [
            ("dense", dense()),
            ("Softmax", plain(vec![node("Softmax", "x", "y")])),
            ("Dropout", plain(vec![node("Dropout", "x", "y")])),
        ] {
            kinds.add(format!("operators/set {version} for {name}"), &model.but(|model| model.sets[0].1 = version));
        }
    }
    kinds.add("operators/no sets", &dense().but(|model| model.sets.clear()));
    kinds.add("operators/default set twice", &dense().but(|model| model.sets.push(("ai.onnx".into(), 9))));
    kinds.add(
        "operators/function",
        &dense().but(|model| {
            let mut function = Message::default();
            function.text(1, "Relu");
            model.more.bytes(25, &function.0);
        }),
    );
    kinds.add("operators/training", &dense().but(|model| model.more.bytes(20, &[])));
}

fn stored_elsewhere(kinds: &mut Kinds) {
    for path in ["weights.bin", "/etc/passwd", "../../../etc/passwd", "/dev/zero", ""] {
        kinds.add(
            format!("elsewhere/{path:?}"),
            &dense().but(|model| {
                let (mut entry, tensor) = (Message::default(), &mut model.graph.stored[0]);
                entry.text(1, "location");
                entry.text(2, path);
                tensor.raw.clear();
                tensor.more.bytes(13, &entry.0);
                tensor.more.int(14, 1);
            }),
        );
    }
    kinds.add("elsewhere/said without a place", &dense().but(|model| model.graph.stored[0].more.int(14, 1)));
    kinds.add("elsewhere/segment", &dense().but(|model| model.graph.stored[0].more.bytes(3, &[8, 0, 16, 1])));
    kinds.add(
        "elsewhere/sparse weights",
        &dense().but(|model| {
            model.graph.stored.clear();
            let mut sparse = Message::default();
            sparse.int(3, 1 << 40);
            model.graph.more.bytes(15, &sparse.0);
        }),
    );
    kinds.add(
        "elsewhere/sparse attribute",
        &dense().but(|model| {
            let mut fields = Message::default();
            fields.text(1, "sparse_value");
            fields.int(20, 11);
            fields.bytes(22, &[]);
            model.first().attributes.push((String::new(), Held::Fields(fields)));
        }),
    );
    let texts = |count: usize| {
        let mut more = Message::default();
        (0..count).for_each(|_| more.bytes(6, b"abc"));
        Tensor { name: "w".into(), kind: STRING, dims: vec![4], raw: vec![], more }
    };
    for count in [0, 3, 4] {
        kinds.add(
            format!("elsewhere/{count} texts for 4"),
            &Model::new(vec![node("Add", "x w", "y")], vec![texts(count)], &[-1, 4], &[-1, 4]),
        );
    }
    kinds.add(
        "elsewhere/raw texts",
        &Model::new(vec![node("Add", "x w", "y")], vec![Tensor { raw: vec![1; 4], ..texts(0) }], &[-1, 4], &[-1, 4]),
    );
    kinds.add(
        "elsewhere/texts that are no text",
        &Model::new(
            vec![node("Identity", "w", "t"), node("Relu", "x", "y")],
            vec![texts(4).clone()],
            &[-1, 4],
            &[-1, 4],
        )
        .but(|model| {
            model.graph.stored[0].more = Message::default();
            (0..4).for_each(|_| model.graph.stored[0].more.bytes(6, &[0xff, 0xfe]));
        }),
    );
    for kind in [0, 4, 8, 10, 14, 16, 20, 99, -1] {
        kinds.add(format!("elsewhere/input of type {kind}"), &dense().but(|model| model.graph.inputs[0].kind = kind));
    }
    kinds.add("elsewhere/input of integers", &dense().but(|model| model.graph.inputs[0].kind = INT64));
}
