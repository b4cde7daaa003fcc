//! What the validator says; that it finds everything is the matter of `tests/hostile`.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};

use super::validate;

fn value(name: &str, sizes: &[i64]) -> ValueInfoProto {
    let size = |size: &i64| tensor_shape_proto::Dimension {
        value: Some(match size {
            -1 => tensor_shape_proto::dimension::Value::DimParam("N".into()),
            size => tensor_shape_proto::dimension::Value::DimValue(*size),
        }),
        ..tensor_shape_proto::Dimension::default()
    };
    let shape = TensorShapeProto { dim: sizes.iter().map(size).collect() };
    let tensor = type_proto::Tensor { elem_type: 1, shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn list(name: &str, numbers: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: 7,
        dims: vec![i64::try_from(numbers.len()).unwrap()],
        int64_data: numbers.to_vec(),
        ..TensorProto::default()
    }
}

fn model(nodes: Vec<NodeProto>, stored: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        initializer: stored,
        input: vec![value("x", &[-1, 4])],
        output: vec![value("y", &[-1, 4])],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// The refusal, empty if there is none.
fn says(model: &ModelProto) -> String {
    validate(model).err().map_or_else(String::new, |invalid| invalid.to_string())
}

#[test]
fn the_models_of_the_tests_pass() {
    for bytes in [
        &include_bytes!("../../../../tests/data/digits-linear.onnx")[..],
        include_bytes!("../../../../tests/data/digits-cnn.onnx"),
        include_bytes!("../../../../tests/data/digits-cnn-wide.onnx"),
        include_bytes!("../../../../tests/data/digits-cnn-int8.onnx"),
    ] {
        assert_eq!(says(&ModelProto::decode(bytes).unwrap()), "");
    }
}

#[test]
fn a_refusal_names_the_node_the_limit_and_the_mend() {
    let deep = model(vec![node("Expand", &["x", "n"], "y")], vec![list("n", &[1 << 40, 4])]);
    let text = says(&deep);
    assert!(
        text.contains("node `y` (Expand)") && text.contains("at most 33554432") && text.contains("smaller"),
        "{text}"
    );
}

#[test]
fn an_operator_counts_only_with_its_domain() {
    let mut stranger = node("Relu", &["x"], "y");
    assert_eq!(says(&model(vec![stranger.clone()], vec![])), "");
    stranger.domain = "evil".into();
    assert!(says(&model(vec![stranger], vec![])).contains("no operator Relu of domain `evil`"));
    assert!(says(&model(vec![node("Loop", &["x"], "y")], vec![])).contains("no operator Loop"));
}

#[test]
fn a_circle_and_a_name_given_twice_are_refused() {
    let circle = model(vec![node("Add", &["x", "b"], "y"), node("Relu", &["y"], "b")], vec![]);
    assert!(says(&circle).contains("circle"));
    let twice = model(vec![node("Relu", &["x"], "y"), node("Neg", &["x"], "y")], vec![]);
    assert!(says(&twice).contains("two values are named `y`"));
}

#[test]
fn data_must_be_as_long_as_the_shape() {
    let mut short = list("n", &[1, 4]);
    short.dims = vec![1 << 33, 1 << 33, 2];
    let text = says(&model(vec![node("Reshape", &["x", "n"], "y")], vec![short]));
    assert!(text.contains("initializer `n`") && text.contains("at most"), "{text}");
    let mut empty = list("n", &[1, 4]);
    empty.int64_data.clear();
    assert!(says(&model(vec![node("Reshape", &["x", "n"], "y")], vec![empty])).contains("0 raw bytes and 0 numbers"));
}

#[test]
fn what_doubles_again_and_again_is_found() {
    let name = |index: usize| if index == 0 { "x".to_owned() } else { format!("h{index}") };
    let axis = |axis: i64| AttributeProto { name: "axis".into(), r#type: 2, i: axis, ..AttributeProto::default() };
    for along in [0, 1] {
        let chain = |count: usize| {
            let mut nodes: Vec<NodeProto> = (0..count)
                .map(|index| NodeProto {
                    attribute: vec![axis(along)],
                    ..node("Concat", &[&name(index), &name(index)], &name(index + 1))
                })
                .collect();
            nodes.push(node("Relu", &[&name(count)], "y"));
            model(nodes, vec![])
        };
        assert_eq!(says(&chain(10)), "");
        assert!(says(&chain(40)).contains("elements for one row"), "along {along}");
    }
}

#[test]
fn a_kernel_wider_than_its_image_is_refused() {
    let weights = TensorProto {
        name: "w".into(),
        data_type: 1,
        dims: vec![1, 1, 9, 9],
        raw_data: vec![0; 4 * 81],
        ..TensorProto::default()
    };
    let mut small = model(vec![node("Conv", &["x", "w"], "y")], vec![weights]);
    if let Some(graph) = &mut small.graph {
        graph.input = vec![value("x", &[-1, 1, 5, 5])];
    }
    assert!(says(&small).contains("reaches over 9 slides over 5"));
}
