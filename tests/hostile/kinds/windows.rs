//! Windows and axes: kernels, strides and pads of wrong lengths and sizes, axes that are not there.

use super::{Kinds, SHARP};
use crate::onnx::{Held, Model, Node, Tensor, UINT8, floats, integers, list, node, weights};

pub(crate) fn add(kinds: &mut Kinds) {
    for (name, model) in sliding() {
        kinds.sound(format!("windows/{name}"), &model);
        for (attribute, is_pairs) in [
            ("kernel_shape", false),
            ("strides", false),
            ("dilations", false),
            ("pads", true),
            ("output_padding", false),
        ] {
            let right = if is_pairs { 4 } else { 2 };
            for length in [0, 1, 3, 5, 100] {
                kinds.add(
                    format!("windows/{name} {length} {attribute}"),
                    &model.set(attribute, Held::Ints(vec![1; length])),
                );
            }
            for number in SHARP.into_iter().chain([7, 100]) {
                kinds.add(
                    format!("windows/{name} {attribute} {number}"),
                    &model.set(attribute, Held::Ints(vec![number; right])),
                );
            }
        }
        for number in SHARP.into_iter().chain([2, 3]) {
            kinds.add(format!("windows/{name} group {number}"), &model.set("group", Held::Int(number)));
        }
        for text in ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "EVIL", ""] {
            kinds.add(format!("windows/{name} padded {text:?}"), &model.set("auto_pad", Held::Text(text.into())));
        }
        for shape in [
            vec![-1, 2],
            vec![-1, 2, 5],
            vec![-1, 2, 5, 5, 5],
            vec![-1, 3, 5, 5],
            vec![-1, 2, 1, 1],
            vec![-1, 2, 1, 100_000],
            vec![-1, -1, -1, -1],
        ] {
            kinds.add(
                format!("windows/{name} over {shape:?}"),
                &model.but(|model| model.graph.inputs[0] = crate::onnx::value("x", &shape)),
            );
        }
        if model.graph.stored.is_empty() {
            continue;
        }
        for dims in [
            vec![],
            vec![3],
            vec![3, 2],
            vec![3, 2, 3],
            vec![3, 2, 3, 3, 1],
            vec![3, 1, 3, 3],
            vec![0, 2, 3, 3],
            vec![3, 2, 0, 3],
            vec![3, 2, 9, 9],
        ] {
            kinds.add(
                format!("windows/{name} weights {dims:?}"),
                &model.but(|model| {
                    let count: i64 = dims.iter().product();
                    let each = if model.graph.stored[0].kind == 1 { 4 } else { 1 };
                    model.graph.stored[0].raw = vec![0; count as usize * each];
                    model.graph.stored[0].dims = dims;
                }),
            );
        }
    }
    for count in [0, 1, 4, 100] {
        let model = conv("Conv", "x w b").but(|model| model.graph.stored.push(weights("b", &[count])));
        kinds.add(format!("windows/Conv with {count} biases"), &model);
    }
    axes(kinds);
    permutations(kinds);
}

fn conv(operator: &str, inputs: &str) -> Model {
    Model::new(vec![node(operator, inputs, "y")], vec![weights("w", &[3, 2, 3, 3])], &[-1, 2, 5, 5], &[-1, -1, -1, -1])
}

fn sliding() -> Vec<(&'static str, Model)> {
    let pool = |operator: &str| {
        Model::new(
            vec![node(operator, "x", "y").ints("kernel_shape", &[2, 2])],
            vec![],
            &[-1, 2, 5, 5],
            &[-1, 2, -1, -1],
        )
    };
    let small = Tensor { name: "w".into(), kind: UINT8, dims: vec![3, 2, 3, 3], raw: vec![1; 54], ..Tensor::default() };
    let zero = Tensor { name: "z".into(), kind: UINT8, dims: vec![], raw: vec![1], ..Tensor::default() };
    let counted = vec![
        node("ConvInteger", "q w z", "i"),
        node("DynamicQuantizeLinear", "x", "q s t"),
        node("Cast", "i", "y").int("to", 1),
    ];
    let mut integer = Model::new(counted, vec![small.clone(), zero.clone()], &[-1, 2, 5, 5], &[-1, 3, -1, -1]);
    integer.graph.nodes[0].inputs = vec!["u".into(), "w".into(), "z".into()];
    integer.graph.inputs[0].name = "u".into();
    integer.graph.inputs[0].kind = UINT8;
    integer.graph.nodes.remove(1);
    let scaled = vec![node("QLinearConv", "u s z w s z s z", "q"), node("DequantizeLinear", "q s z", "y")];
    let mut linear = Model::new(scaled, vec![small, zero, floats("s", &[], &[0.5])], &[-1, 2, 5, 5], &[-1, 3, -1, -1]);
    linear.graph.inputs[0].name = "u".into();
    linear.graph.inputs[0].kind = UINT8;
    vec![
        ("Conv", conv("Conv", "x w")),
        (
            "ConvTranspose",
            conv("ConvTranspose", "x w").but(|model| model.graph.stored[0] = weights("w", &[2, 3, 3, 3])),
        ),
        ("MaxPool", pool("MaxPool")),
        ("AveragePool", pool("AveragePool")),
        ("ConvInteger", integer),
        ("QLinearConv", linear),
    ]
}

fn axes(kinds: &mut Kinds) {
    let one = |node: Node| {
        Model::new(
            vec![node],
            vec![weights("w", &[1, 4]), integers("i", &[1, 4], &[0; 4]), list("k", &[1])],
            &[-1, 4],
            &[-1, -1],
        )
    };
    let mut models: Vec<(&str, Model)> = ["Softmax", "LogSoftmax", "Hardmax", "Flatten", "LpNormalization"]
        .map(|name| (name, one(node(name, "x", "y"))))
        .into();
    for name in ["ArgMax", "ArgMin"] {
        models.push((
            name,
            one(node(name, "x", "i64")).but(|model| model.graph.nodes.push(node("Cast", "i64", "y").int("to", 1))),
        ));
    }
    models.push(("Concat", one(node("Concat", "x x", "y"))));
    models.push(("Gather", one(node("Gather", "x k", "y"))));
    models.push(("GatherElements", one(node("GatherElements", "x i", "y"))));
    models.push(("ScatterElements", one(node("ScatterElements", "x i w", "y"))));
    models.push(("Split", one(node("Split", "x", "y z").int("num_outputs", 2))));
    models.push(("TopK", one(node("TopK", "x k", "y j"))));
    models.push(("Compress", one(node("Compress", "x k", "y"))));
    models.push(("LayerNormalization", one(node("LayerNormalization", "x w", "y"))));
    models.push(("RMSNormalization", one(node("RMSNormalization", "x w", "y"))));
    models.push((
        "QuantizeLinear",
        Model::new(
            vec![node("QuantizeLinear", "x s", "q"), node("DequantizeLinear", "q s", "y")],
            vec![floats("s", &[4], &[0.5; 4])],
            &[-1, 4],
            &[-1, 4],
        ),
    ));
    for (name, model) in models {
        for axis in SHARP.into_iter().chain([1, -2, 2, -3, 3]) {
            kinds.add(format!("axes/{name} {axis}"), &model.set("axis", Held::Int(axis)));
        }
    }
    for name in ["ReduceSum", "ReduceMax", "ReduceMean", "ReduceL2", "ReduceLogSumExp", "Squeeze", "Unsqueeze"] {
        for axis in SHARP.into_iter().chain([1, -2, 2, 3]) {
            let as_attribute = one(node(name, "x", "y").ints("axes", &[axis])).but(|model| model.sets[0].1 = 11);
            kinds.add(format!("axes/{name} by attribute {axis}"), &as_attribute);
            let as_input = one(node(name, "x a", "y")).but(|model| model.graph.stored.push(list("a", &[axis])));
            kinds.add(format!("axes/{name} by input {axis}"), &as_input);
        }
        kinds.add(
            format!("axes/{name} twice"),
            &one(node(name, "x a", "y")).but(|model| model.graph.stored.push(list("a", &[1, 1]))),
        );
        kinds.add(
            format!("axes/{name} many"),
            &one(node(name, "x a", "y")).but(|model| model.graph.stored.push(list("a", &[0; 40]))),
        );
        kinds.add(format!("axes/{name} by a float"), &one(node(name, "x w", "y")));
    }
    for (name, parts) in [
        ("nothing", vec![]),
        ("too little", vec![1, 1]),
        ("too much", vec![3, 3]),
        ("less than nothing", vec![-1, 5]),
        ("three parts", vec![1, 1, 2]),
        ("an empty part", vec![0, 4]),
    ] {
        kinds.add(
            format!("axes/Split into {name}"),
            &one(node("Split", "x p", "y z").int("axis", 1)).but(|model| model.graph.stored.push(list("p", &parts))),
        );
    }
    for number in SHARP.into_iter().chain([3]) {
        let image = Model::new(
            vec![node("DepthToSpace", "x", "y").int("blocksize", number)],
            vec![],
            &[-1, 4, 2, 2],
            &[-1, -1, -1, -1],
        );
        kinds.add(format!("axes/DepthToSpace {number}"), &image);
        kinds.add(
            format!("axes/SpaceToDepth {number}"),
            &image.but(|model| model.first().operator = "SpaceToDepth".into()),
        );
    }
}

fn permutations(kinds: &mut Kinds) {
    for perm in [vec![], vec![0], vec![1, 1], vec![0, 2], vec![-1, 0], vec![0, 1, 2], vec![i64::MAX, 0], vec![0; 200]] {
        let name = format!("{:?}", &perm[..perm.len().min(4)]);
        kinds.add(
            format!("axes/Transpose by {} {name}", perm.len()),
            &Model::new(vec![node("Transpose", "x", "y").ints("perm", &perm)], vec![], &[-1, 4], &[-1, -1]),
        );
    }
    for (index, target) in [
        vec![],
        vec![-1, -1],
        vec![0, 0, 0],
        vec![-2, 2],
        vec![3, -1],
        vec![1; 9],
        vec![1; 1000],
        vec![0, -1],
        vec![-1, 0],
    ]
    .into_iter()
    .enumerate()
    {
        kinds.add(
            format!("axes/Reshape {index}"),
            &Model::new(vec![node("Reshape", "x n", "y")], vec![list("n", &target)], &[-1, 4], &[-1, -1]),
        );
    }
    for equation in [
        "",
        "->",
        "ab->ab",
        "ab,bc->ac",
        "ab->abab",
        "aa->a",
        "ab->c",
        "...a->...",
        "a b->ba",
        "ab->ba",
        "ab,ab",
        "é->a",
        "ab,cd,ef->abcdef",
        "abcdefghijklm->a",
        "a->b->c",
    ] {
        let with = |inputs: &str| {
            Model::new(
                vec![node("Einsum", inputs, "y").with("equation", Held::Text(equation.into()))],
                vec![],
                &[-1, 4],
                &[-1, -1],
            )
        };
        kinds.add(format!("axes/Einsum {equation:?} of one"), &with("x"));
        kinds.add(format!("axes/Einsum {equation:?} of two"), &with("x x"));
    }
}
