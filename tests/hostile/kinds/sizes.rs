//! Sizes: zero, negative, overflowing, growing from node to node.

use super::{Kinds, SHARP, dense};
use crate::onnx::{FLOAT, Held, Message, Model, Node, Size, Tensor, floats, integers, list, node, weights};

pub(crate) fn add(kinds: &mut Kinds) {
    kinds.sound("sizes/dense", &dense());
    declared(kinds);
    varying(kinds);
    stored(kinds);
    lengths(kinds);
    made(kinds);
    growing(kinds);
}

/// Sizes of inputs and outputs.
fn declared(kinds: &mut Kinds) {
    for size in SHARP {
        for (place, name) in ["rows", "columns"].into_iter().enumerate() {
            kinds.add(
                format!("sizes/input {name} {size}"),
                &dense().but(|model| {
                    if let Some(sizes) = &mut model.graph.inputs[0].sizes {
                        sizes[place] = Size::Fixed(size);
                    }
                }),
            );
        }
        kinds.add(
            format!("sizes/output {size}"),
            &dense().but(|model| model.graph.outputs[0].sizes = Some(vec![Size::Fixed(size); 2])),
        );
    }
    for rank in [0, 7, 9, 64, 1000] {
        kinds.add(
            format!("sizes/input of rank {rank}"),
            &dense().but(|model| model.graph.inputs[0].sizes = Some(vec![Size::Fixed(1); rank])),
        );
        kinds.add(
            format!("sizes/weights of rank {rank}"),
            &dense().but(|model| model.graph.stored[0].dims = vec![1; rank]),
        );
    }
    let names = [
        "?",
        "N*N",
        "N/0",
        "-N",
        "N+N",
        "floor(N/2)",
        "99999999999999999999",
        "N*999999999999*999999999999",
        "é",
        "\u{0}",
        ")",
        "max(N,N",
        "1",
        "0",
        "-1",
    ];
    for name in names {
        kinds.add(
            format!("sizes/named {name:?}"),
            &dense().but(|model| {
                if let Some(sizes) = &mut model.graph.inputs[0].sizes {
                    sizes[0] = Size::Named(name.into());
                }
            }),
        );
    }
    for depth in [32, 1000, 100_000] {
        let name = format!("{}N{}", "(".repeat(depth), ")".repeat(depth));
        kinds.add(
            format!("sizes/named in {depth} brackets"),
            &dense().but(|model| {
                if let Some(sizes) = &mut model.graph.inputs[0].sizes {
                    sizes[0] = Size::Named(name);
                }
            }),
        );
    }
    kinds.add("sizes/input without a shape", &dense().but(|model| model.graph.inputs[0].sizes = None));
}

/// Sizes that vary where they must be equal to others: known only once somebody scores.
fn varying(kinds: &mut Kinds) {
    let over = |operator: &str, inputs: &str, x: &[i64], w: &[i64]| {
        Model::new(vec![node(operator, inputs, "y")], vec![weights("w", w)], x, &[-1, -1])
    };
    for width in [2, 4, 64] {
        kinds.add(format!("varying/x times {width} rows"), &over("MatMul", "x w", &[-1, -1], &[width, 3]));
        kinds.add(format!("varying/{width} columns times x"), &over("MatMul", "w x", &[-1, -1], &[3, width]));
        kinds.add(format!("varying/x in Gemm with {width}"), &over("Gemm", "x w", &[-1, -1], &[width, 3]));
        kinds.add(format!("varying/x plus {width}"), &over("Add", "x w", &[-1, -1], &[width]));
        kinds.add(format!("varying/channels of {width}"), &over("Conv", "x w", &[-1, -1, 5, 5], &[3, width, 2, 2]));
        kinds.add(format!("varying/space under {width}"), &over("Conv", "x w", &[1, 2, -1, -1], &[3, 2, width, width]));
        kinds.add(
            format!("varying/joined with {width}"),
            &over("Concat", "x w", &[-1, -1], &[1, width])
                .but(|model| model.graph.nodes[0] = node("Concat", "x w", "y").int("axis", 0)),
        );
        let einsum = node("Einsum", "x w", "y").with("equation", Held::Text("ab,bc->ac".into()));
        kinds.add(
            format!("varying/Einsum over {width}"),
            &Model::new(vec![einsum], vec![weights("w", &[width, 3])], &[-1, -1], &[-1, 3]),
        );
        let halved = vec![node("Slice", "x a b", "h"), node("MatMul", "h w", "y")];
        kinds.add(
            format!("varying/cut to {width} and multiplied"),
            &Model::new(
                halved,
                vec![list("a", &[0, 0]), list("b", &[1 << 30, width]), weights("w", &[width, 3])],
                &[-1, -1],
                &[-1, 3],
            ),
        );
        let shaped = vec![node("Reshape", "x n", "h"), node("MatMul", "h w", "y")];
        kinds.add(
            format!("varying/reshaped to {width} and multiplied"),
            &Model::new(shaped, vec![list("n", &[-1, width]), weights("w", &[width, 3])], &[-1, 4], &[-1, 3]),
        );
        let shaped = vec![node("Reshape", "x n", "h"), node("MatMul", "h w", "y")];
        kinds.add(
            format!("varying/reshaped by {width} and multiplied"),
            &Model::new(shaped, vec![list("n", &[width, -1]), weights("w", &[4, 3])], &[-1, 4], &[-1, 3]),
        );
    }
    for side in [1, 2, 64] {
        let cut = vec![node("Slice", "x a b c", "h"), node("Conv", "h w", "y")];
        let stored =
            vec![list("a", &[0, 0]), list("b", &[side, side]), list("c", &[2, 3]), weights("w", &[3, 2, 9, 9])];
        kinds.add(
            format!("varying/cut to {side} under 9"),
            &Model::new(cut, stored, &[-1, 2, 64, 64], &[-1, 3, -1, -1]),
        );
        for operator in ["MaxPool", "AveragePool"] {
            let pool = node(operator, "x", "y").ints("kernel_shape", &[side, side]);
            kinds.add(
                format!("varying/space under {operator} of {side}"),
                &Model::new(vec![pool], vec![], &[1, 2, -1, -1], &[1, 2, -1, -1]),
            );
        }
        let depthwise = node("Conv", "x w", "y").int("group", 2);
        kinds.add(
            format!("varying/space in groups under {side}"),
            &Model::new(vec![depthwise], vec![weights("w", &[2, 1, side, side])], &[1, 2, -1, -1], &[1, 2, -1, -1]),
        );
        kinds.add(
            format!("varying/space spread by {side}"),
            &over("ConvTranspose", "x w", &[1, 2, -1, -1], &[2, 3, side, side]),
        );
        kinds.add(format!("varying/line under {side}"), &over("Conv", "x w", &[1, 2, -1], &[3, 2, side]));
    }
    kinds.add("varying/rows times rows", &over("MatMul", "x x", &[-1, 4], &[1]));
    kinds.add("varying/rows times one", &over("MatMul", "w x", &[-1, 4], &[3, 1]));
    let turned = vec![node("Transpose", "x", "t"), node("MatMul", "t x", "y")];
    kinds.sound("varying/turned rows times rows", &Model::new(turned, vec![], &[-1, 4], &[4, 4]));
}

/// Sizes of stored tensors.
fn stored(kinds: &mut Kinds) {
    for size in SHARP {
        kinds.add(format!("sizes/weights [{size}, 3]"), &dense().but(|model| model.graph.stored[0].dims[0] = size));
        kinds.add(
            format!("sizes/weights [{size}, 0] without data"),
            &dense().but(|model| {
                model.graph.stored[0].dims = vec![size, 0];
                model.graph.stored[0].raw.clear();
            }),
        );
    }
    kinds.add(
        "sizes/weights whose product wraps to 12",
        &dense().but(|model| model.graph.stored[0].dims = vec![1 << 33, 1 << 33, 12]),
    );
    kinds.add(
        "sizes/weights whose bytes wrap to 48",
        &dense().but(|model| model.graph.stored[0].dims = vec![(1 << 62) + 12]),
    );
}

/// Data of another length or type than the shape says.
fn lengths(kinds: &mut Kinds) {
    for kind in -1..=24 {
        for (name, bytes) in [
            ("no", 0),
            ("one byte too few", 47),
            ("one byte too many", 49),
            ("12 bytes", 12),
            ("24 bytes", 24),
            ("48 bytes", 48),
            ("96 bytes", 96),
        ] {
            kinds.add(
                format!("lengths/type {kind} with {name}"),
                &dense().but(|model| {
                    model.graph.stored[0].kind = kind;
                    model.graph.stored[0].raw = vec![1; bytes];
                }),
            );
        }
    }
    for (name, field) in [("float", 4), ("int32", 5), ("int64", 7), ("double", 10), ("uint64", 11)] {
        for kind in [1, 2, 3, 6, 7, 9, 10, 11, 12, 13] {
            kinds.add(
                format!("lengths/type {kind} in {name} fields"),
                &dense().but(|model| {
                    let tensor = &mut model.graph.stored[0];
                    tensor.kind = kind;
                    tensor.raw.clear();
                    for _ in 0..12 {
                        match field {
                            4 => tensor.more.float(4, 1.0),
                            10 => {
                                tensor.more.key(10, 1);
                                tensor.more.0.extend(1f64.to_le_bytes());
                            }
                            _ => tensor.more.int(field, -1),
                        }
                    }
                }),
            );
        }
    }
    kinds.add("lengths/raw data and numbers", &dense().but(|model| model.graph.stored[0].more.float(4, 1.0)));
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE / 2.0] {
        kinds.add(
            format!("lengths/weights of {value:e}"),
            &dense().but(|model| model.graph.stored[0] = floats("w", &[4, 3], &[value; 12])),
        );
    }
}

/// An operator whose output's size is a number in the file.
fn sized(number: i64) -> Vec<(&'static str, Model)> {
    let from = |nodes: Vec<Node>, stored: Vec<Tensor>| Model::new(nodes, stored, &[-1, 4], &[-1, 4]);
    let zero = || floats("zero", &[], &[0.0]);
    vec![
        (
            "ConstantOfShape",
            from(vec![node("ConstantOfShape", "n", "c"), node("Add", "x c", "y")], vec![list("n", &[number, 4])]),
        ),
        ("Reshape", from(vec![node("Reshape", "x n", "y")], vec![list("n", &[number, 4])])),
        ("Expand", from(vec![node("Expand", "x n", "y")], vec![list("n", &[number, 1, 4])])),
        ("Tile", from(vec![node("Tile", "x n", "y")], vec![list("n", &[1, number])])),
        ("Tile of rows", from(vec![node("Tile", "x n", "y")], vec![list("n", &[number, 1])])),
        (
            "Range",
            from(
                vec![
                    node("Range", "a n b", "r"),
                    node("Cast", "r", "f").int("to", 1),
                    node("ReduceSum", "f", "s"),
                    node("Add", "x s", "y"),
                ],
                vec![integers("a", &[], &[0]), integers("n", &[], &[number]), integers("b", &[], &[1])],
            ),
        ),
        (
            "Range by steps",
            from(
                vec![
                    node("Range", "a n b", "r"),
                    node("Cast", "r", "f").int("to", 1),
                    node("ReduceSum", "f", "s"),
                    node("Add", "x s", "y"),
                ],
                vec![integers("a", &[], &[0]), integers("n", &[], &[10]), integers("b", &[], &[number])],
            ),
        ),
        (
            "OneHot",
            from(
                vec![node("Cast", "x", "i").int("to", 7), node("OneHot", "i d v", "y")],
                vec![integers("d", &[], &[number]), floats("v", &[2], &[0.0, 1.0])],
            ),
        ),
        ("Pad", from(vec![node("Pad", "x n zero", "y")], vec![list("n", &[0, number, 0, 0]), zero()])),
        ("Pad of rows", from(vec![node("Pad", "x n zero", "y")], vec![list("n", &[number, 0, 0, 0]), zero()])),
        (
            "RandomNormal",
            from(vec![node("RandomNormal", "", "r").ints("shape", &[number, 4]), node("Add", "x r", "y")], vec![]),
        ),
        ("Slice", from(vec![node("Slice", "x a n", "y")], vec![list("a", &[0]), list("n", &[number])])),
        (
            "Slice by steps",
            from(
                vec![node("Slice", "x a b c n", "y")],
                vec![list("a", &[0]), list("b", &[4]), list("c", &[1]), list("n", &[number])],
            ),
        ),
        (
            "Slice of axis",
            from(vec![node("Slice", "x a b n", "y")], vec![list("a", &[0]), list("b", &[1]), list("n", &[number])]),
        ),
        ("Gather", from(vec![node("Gather", "x n", "y").int("axis", 1)], vec![list("n", &[0, number])])),
        (
            "GatherElements",
            from(
                vec![node("GatherElements", "w n", "g"), node("Add", "x g", "y")],
                vec![weights("w", &[2, 4]), integers("n", &[1, 4], &[0, number, 0, 0])],
            ),
        ),
        (
            "GatherND",
            from(
                vec![node("GatherND", "w n", "g"), node("Add", "x g", "y")],
                vec![weights("w", &[2, 4]), integers("n", &[1, 1], &[number])],
            ),
        ),
        (
            "ScatterElements",
            from(
                vec![node("ScatterElements", "w n u", "s"), node("Add", "x s", "y")],
                vec![weights("w", &[1, 4]), integers("n", &[1, 1], &[number]), weights("u", &[1, 1])],
            ),
        ),
        (
            "ScatterND",
            from(
                vec![node("ScatterND", "w n u", "s"), node("Add", "x s", "y")],
                vec![weights("w", &[2, 4]), integers("n", &[1, 1], &[number]), weights("u", &[1, 4])],
            ),
        ),
        ("Split", from(vec![node("Split", "x n", "y z").int("axis", 1)], vec![list("n", &[number, 4])])),
        ("TopK", from(vec![node("TopK", "x n", "y i")], vec![list("n", &[number])])),
        ("Trilu", from(vec![node("Trilu", "x n", "y")], vec![integers("n", &[], &[number])])),
        (
            "HannWindow",
            from(
                vec![node("HannWindow", "n", "h"), node("ReduceSum", "h", "s"), node("Add", "x s", "y")],
                vec![integers("n", &[], &[number])],
            ),
        ),
        (
            "EyeLike",
            from(vec![node("EyeLike", "x", "e").int("k", number).int("dtype", 1), node("Add", "x e", "y")], vec![]),
        ),
        ("CumSum", from(vec![node("CumSum", "x n", "y")], vec![integers("n", &[], &[number])])),
        (
            "BitShift",
            from(
                vec![
                    node("Cast", "x", "i").int("to", 2),
                    node("BitShift", "i n", "s").with("direction", Held::Text("LEFT".into())),
                    node("Cast", "s", "y").int("to", 1),
                ],
                vec![Tensor {
                    name: "n".into(),
                    kind: 2,
                    dims: vec![],
                    raw: vec![number.to_le_bytes()[0]],
                    more: Message::default(),
                }],
            ),
        ),
        (
            "Div",
            from(
                vec![node("Cast", "x", "i").int("to", 7), node("Div", "i n", "d"), node("Cast", "d", "y").int("to", 1)],
                vec![list("n", &[number])],
            ),
        ),
        (
            "Mod",
            from(
                vec![node("Cast", "x", "i").int("to", 7), node("Mod", "i n", "d"), node("Cast", "d", "y").int("to", 1)],
                vec![list("n", &[number])],
            ),
        ),
        (
            "Pow",
            from(
                vec![
                    node("Cast", "x", "i").int("to", 7),
                    node("Pow", "n n", "p"),
                    node("Add", "i p", "d"),
                    node("Cast", "d", "y").int("to", 1),
                ],
                vec![list("n", &[number])],
            ),
        ),
        (
            "Mul",
            from(
                vec![
                    node("Cast", "x", "i").int("to", 7),
                    node("Mul", "n n", "p"),
                    node("Add", "i p", "d"),
                    node("Cast", "d", "y").int("to", 1),
                ],
                vec![list("n", &[number])],
            ),
        ),
        (
            "Neg",
            from(
                vec![
                    node("Cast", "x", "i").int("to", 7),
                    node("Neg", "n", "p"),
                    node("Abs", "p", "q"),
                    node("Add", "i q", "d"),
                    node("Cast", "d", "y").int("to", 1),
                ],
                vec![list("n", &[number])],
            ),
        ),
    ]
}

fn made(kinds: &mut Kinds) {
    for number in SHARP {
        for (operator, model) in sized(number) {
            kinds.add(format!("made/{operator} {number}"), &model);
        }
    }
    for scale in [0.0, -1.0, 1e9, 1e38, f32::NAN, f32::INFINITY, 1e-30] {
        let image = Model::new(
            vec![node("Resize", "x - s", "y")],
            vec![floats("s", &[4], &[1.0, 1.0, scale, scale])],
            &[-1, 1, 4, 4],
            &[-1, 1, -1, -1],
        );
        kinds.add(format!("made/Resize by {scale:e}"), &image);
    }
    for (name, count) in [("too few", 2), ("too many", 6)] {
        kinds.add(
            format!("made/Resize with {name} scales"),
            &Model::new(
                vec![node("Resize", "x - s", "y")],
                vec![weights("s", &[count])],
                &[-1, 1, 4, 4],
                &[-1, 1, -1, -1],
            ),
        );
    }
    for number in SHARP {
        kinds.add(
            format!("made/Resize to {number}"),
            &Model::new(
                vec![node("Resize", "x - - s", "y")],
                vec![list("s", &[1, 1, number, number])],
                &[-1, 1, 4, 4],
                &[-1, 1, -1, -1],
            ),
        );
    }
}

/// What doubles with every node.
fn growing(kinds: &mut Kinds) {
    let chain = |count: usize, one: &dyn Fn(&str, &str) -> Node, stored: Vec<Tensor>, x: &[i64]| {
        let name = |index: usize| if index == 0 { "x".to_owned() } else { format!("h{index}") };
        let mut nodes: Vec<Node> = (0..count).map(|index| one(&name(index), &name(index + 1))).collect();
        nodes.push(node("ReduceSum", &name(count), "y"));
        Model::new(nodes, stored, x, &[-1, -1])
    };
    for count in [4, 12, 24, 40, 100] {
        let doubling: [(&str, &dyn Fn(&str, &str) -> Node); 5] = [
            ("Concat", &|from, to| node("Concat", &format!("{from} {from}"), to).int("axis", 1)),
            ("Concat of rows", &|from, to| node("Concat", &format!("{from} {from}"), to).int("axis", 0)),
            ("Tile", &|from, to| node("Tile", &format!("{from} two"), to)),
            ("Pad", &|from, to| node("Pad", &format!("{from} pads"), to)),
            ("Add", &|from, to| node("Add", &format!("{from} {from}"), to)),
        ];
        for (name, one) in doubling {
            let stored = vec![list("two", &[1, 2]), list("pads", &[0, 1 << 20, 0, 0])];
            kinds.add(format!("growing/{name} {count} times"), &chain(count, one, stored, &[-1, 4]));
        }
        let one = |from: &str, to: &str| node("Resize", &format!("{from} - two"), to);
        kinds.add(
            format!("growing/Resize {count} times"),
            &chain(count, &one, vec![floats("two", &[4], &[1.0, 1.0, 2.0, 2.0])], &[-1, 1, 2, 2]),
        );
        let one = |from: &str, to: &str| node("Unsqueeze", &format!("{from} zero"), to);
        kinds.add(format!("growing/Unsqueeze {count} times"), &chain(count, &one, vec![list("zero", &[0])], &[-1, 4]));
        let one = |from: &str, to: &str| {
            node("Einsum", &format!("{from} {from}"), to).with("equation", Held::Text("ab,cd->ad".into()))
        };
        kinds.add(format!("growing/Einsum {count} times"), &chain(count, &one, vec![], &[-1, 4]));
        let one = |from: &str, to: &str| node("MatMul", &format!("{from} w"), to);
        kinds.add(
            format!("growing/MatMul {count} times"),
            &chain(count, &one, vec![weights("w", &[512, 512])], &[-1, 512]),
        );
        let one = |from: &str, to: &str| node("Reshape", &format!("{from} n"), to);
        kinds.add(format!("growing/Reshape {count} times"), &chain(count, &one, vec![list("n", &[-1, 2])], &[-1, 4]));
    }
    for side in [64, 1024, 4096, 8192] {
        let square = || node("ConstantOfShape", "n", "c");
        let nodes = vec![
            square(),
            node("MatMul", "c c", "d"),
            node("MatMul", "d d", "e"),
            node("ReduceSum", "e", "s"),
            node("Add", "x s", "y"),
        ];
        kinds.add(
            format!("growing/product of constant squares of {side}"),
            &Model::new(nodes, vec![list("n", &[side, side])], &[-1, 4], &[-1, 4]),
        );
    }
    for count in [3, 20, 200] {
        let mut nodes: Vec<Node> = (0..count).map(|index| node("ConstantOfShape", "n", &format!("c{index}"))).collect();
        nodes.extend((0..count).map(|index| node("ReduceSum", &format!("c{index}"), &format!("s{index}"))));
        let sums: Vec<String> = (0..count).map(|index| format!("s{index}")).collect();
        nodes.push(node("Sum", &format!("x {}", sums.join(" ")), "y"));
        kinds.add(
            format!("growing/{count} constants of 16 million"),
            &Model::new(nodes, vec![list("n", &[1 << 12, 1 << 12])], &[-1, 4], &[-1, 4]),
        );
    }
    let constant = |name: &str, held: Held| {
        Model::new(
            vec![node("Constant", "", "c").with(name, held), node("Add", "x c", "y")],
            vec![],
            &[-1, 4],
            &[-1, 4],
        )
    };
    kinds.sound("growing/Constant of a float", &constant("value_float", Held::Float(1.0)));
    kinds.add("growing/Constant of a million floats", &constant("value_floats", Held::Floats(vec![1.0; 1 << 20])));
    kinds.add("growing/Constant of no floats", &constant("value_floats", Held::Floats(vec![])));
    kinds.add("growing/Constant of texts", &constant("value_strings", Held::Texts(vec!["a".into(); 4])));
    kinds.add(
        "growing/Constant of a tensor that says it is huge",
        &constant("value", Held::Tensor(Tensor { kind: FLOAT, dims: vec![1 << 40], ..Tensor::default() })),
    );
    kinds.add(
        "growing/Constant of nothing",
        &Model::new(vec![node("Constant", "", "c"), node("Add", "x c", "y")], vec![], &[-1, 4], &[-1, 4]),
    );
}
