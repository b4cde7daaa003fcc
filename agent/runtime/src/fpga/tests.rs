//! What is lifted of small models, and what is refused.

use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};

use bellwether_fpga::compile::network::{What, Window};

use super::*;
use crate::npz;
use crate::tensor::Data;

const DIGITS: &[u8] = include_bytes!("../../../../tests/data/digits-cnn-int8.onnx");

/// A model under construction: an image `[N, 2, 1, 2]` goes in, its steps are worth 0.5, zero is 3.
struct Net {
    nodes: Vec<NodeProto>,
    stored: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    is_unsigned: bool,
    /// The value that was made last.
    last: String,
}

impl Net {
    fn new(sizes: &[i64]) -> Self {
        Self::of(sizes, false)
    }

    /// Of bytes with a sign, or of the same without.
    fn of(sizes: &[i64], is_unsigned: bool) -> Self {
        let (nodes, stored, inputs) = (Vec::new(), Vec::new(), vec![value("x", 1, sizes)]);
        Self { nodes, stored, inputs, is_unsigned, last: "x".to_owned() }
    }

    fn name(&self) -> String {
        format!("v{}", self.nodes.len() + self.stored.len())
    }

    fn tensor(&mut self, kind: i32, sizes: &[i64], raw_data: Vec<u8>) -> String {
        let name = self.name();
        let tensor = TensorProto {
            name: name.clone(),
            data_type: kind,
            dims: sizes.to_vec(),
            raw_data,
            ..TensorProto::default()
        };
        self.stored.push(tensor);
        name
    }

    fn floats(&mut self, values: &[f32]) -> String {
        let sizes = if values.len() == 1 { vec![] } else { vec![i64::try_from(values.len()).unwrap()] };
        self.tensor(1, &sizes, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn bytes(&mut self, sizes: &[i64], values: &[i8]) -> String {
        let (kind, flip) = if self.is_unsigned { (2, 0x80) } else { (3, 0) };
        self.tensor(kind, sizes, values.iter().map(|value| value.cast_unsigned() ^ flip).collect())
    }

    fn node(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.name();
        self.nodes.push(NodeProto {
            op_type: operator.to_owned(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.clone()],
            attribute: attributes,
            ..NodeProto::default()
        });
        self.last.clone_from(&output);
        output
    }

    /// An operator on what was made last.
    fn then(&mut self, operator: &str, more: &[&str], attributes: Vec<AttributeProto>) -> &mut Self {
        let last = self.last.clone();
        let inputs: Vec<&str> = std::iter::once(last.as_str()).chain(more.iter().copied()).collect();
        self.node(operator, &inputs, attributes);
        self
    }

    /// Quantises, and turns it back.
    fn quantised(&mut self, scale: f32, zero_point: i8) -> &mut Self {
        let (scale, zero) = (self.floats(&[scale]), self.bytes(&[], &[zero_point]));
        self.then("QuantizeLinear", &[&scale, &zero], vec![]).then("DequantizeLinear", &[&scale, &zero], vec![])
    }

    /// Weights of a convolution or a dense layer, worth 0.25.
    fn weights(&mut self, sizes: &[i64], values: &[i8], zero_point: i8) -> String {
        let (values, scale, zero) = (self.bytes(sizes, values), self.floats(&[0.25]), self.bytes(&[], &[zero_point]));
        let last = self.last.clone();
        let made = self.node("DequantizeLinear", &[&values, &scale, &zero], vec![]);
        self.last = last;
        made
    }

    fn bias(&mut self, values: &[i32], scale: f32) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (values, scale) = (self.tensor(6, &[i64::try_from(values.len()).unwrap()], raw), self.floats(&[scale]));
        let last = self.last.clone();
        let made = self.node("DequantizeLinear", &[&values, &scale], vec![]);
        self.last = last;
        made
    }

    fn dense(&mut self, sizes: &[i64], values: &[i8]) -> &mut Self {
        let weights = self.weights(sizes, values, 0);
        self.then("Gemm", &[&weights], vec![])
    }

    fn model(&self) -> Vec<u8> {
        let graph = GraphProto {
            node: self.nodes.clone(),
            initializer: self.stored.clone(),
            input: self.inputs.clone(),
            output: vec![value(&self.last, 1, &[])],
            ..GraphProto::default()
        };
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
            graph: Some(graph),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    fn lifted(&self) -> Lifted {
        lift(&self.model()).unwrap()
    }

    fn refusal(&self) -> String {
        lift(&self.model()).unwrap_err().to_string()
    }
}

fn value(name: &str, kind: i32, sizes: &[i64]) -> ValueInfoProto {
    let size = |size: &i64| tensor_shape_proto::Dimension {
        value: Some(match size {
            -1 => tensor_shape_proto::dimension::Value::DimParam("N".into()),
            size => tensor_shape_proto::dimension::Value::DimValue(*size),
        }),
        ..tensor_shape_proto::Dimension::default()
    };
    let shape = (!sizes.is_empty()).then(|| TensorShapeProto { dim: sizes.iter().map(size).collect() });
    let tensor = type_proto::Tensor { elem_type: kind, shape };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 7, ints: ints.to_vec(), ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 2, i, ..AttributeProto::default() }
}

fn text(name: &str, text: &str) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 3, s: text.into(), ..AttributeProto::default() }
}

/// An image of two channels, one row and two columns, its mean over columns, and a dense layer.
fn small(is_unsigned: bool) -> Net {
    let mut net = Net::of(&[-1, 2, 1, 2], is_unsigned);
    net.quantised(0.5, 3);
    let (weights, bias) = (net.weights(&[2, 2, 1, 1], &[1, 2, 3, 4], 0), net.bias(&[10, -20], 0.125));
    net.then("Conv", &[&weights, &bias], vec![]).then("Relu", &[], vec![]).quantised(0.25, -128);
    net.then("Flatten", &[], vec![]).dense(&[4, 1], &[1, 2, 3, 4]).quantised(1.0, 7);
    net
}

fn weights(lifted: &Lifted, layer: usize) -> &bellwether_fpga::compile::network::Weights {
    match &lifted.network.layers[layer].what {
        What::Convolution(weights) | What::Depthwise(weights) => weights,
        What::Mean { .. } | What::Greatest => panic!("it has no weights"),
    }
}

fn left(list: &[Left]) -> Vec<&str> {
    list.iter().map(|left| left.operator.as_str()).collect()
}

#[test]
fn a_quantised_model_is_taken_whole() {
    let lifted = small(false).lifted();
    assert_eq!(
        (lifted.input.shape, lifted.input.order),
        (Shape { rows: 1, columns: 2, channels: 2 }, Order::ChannelsFirst)
    );
    assert_eq!(lifted.input.quantised, Quantised { scale: 0.5, zero_point: 3, is_unsigned: false });
    assert_eq!(lifted.network.zero_point, 3);
    assert_eq!((left(&lifted.before), left(&lifted.after)), (vec!["QuantizeLinear"], vec!["DequantizeLinear"]));
    assert_eq!((lifted.output.shape, lifted.output.sizes.as_slice()), (Shape::row(1), &[1][..]));
    let convolution = weights(&lifted, 0);
    assert_eq!((&convolution.values[..], &convolution.bias[..]), (&[1, 2, 3, 4][..], &[10, -20][..]));
    assert_eq!(convolution.scales, [0.5 * 0.25 / 0.25; 2]);
    assert_eq!((lifted.network.layers[0].output.lowest, lifted.network.layers[0].output.highest), (-128, 127));
}

#[test]
fn a_dense_layer_takes_its_weights_in_the_order_of_the_engine() {
    let lifted = small(false).lifted();
    // ONNX has [channel 0: column 0, 1; channel 1: column 0, 1], the engine channels side by side.
    assert_eq!(weights(&lifted, 1).values, [1, 3, 2, 4]);
    assert_eq!(lifted.network.layers[1].window, Window::whole(Shape { rows: 1, columns: 2, channels: 2 }));
}

#[test]
fn unsigned_bytes_are_carried_as_signed_ones() {
    let (signed, unsigned) = (small(false).lifted(), small(true).lifted());
    assert_eq!(signed.network, unsigned.network);
    assert!(unsigned.input.quantised.is_unsigned && unsigned.output.quantised.is_unsigned);
    assert_eq!(unsigned.input.quantised.byte(3), 131);
}

#[test]
fn reference_computes_the_small_model() {
    let lifted = small(false).lifted();
    // Real values [[1, 2], [3, 4]], channels first; weights are worth 0.25 a step, biases 1.25 and -2.5.
    let bytes: Vec<i8> = [1.0, 2.0, 3.0, 4.0].map(|real| lifted.input.quantised.quantise(real)).to_vec();
    let answer = bellwether_fpga::compile::reference::run(&lifted.network, &lifted.input.to_engine(&bytes).unwrap());
    // Channel 0: 0.25 x + 0.5 y + 1.25 = 3, 3.75; channel 1: 0.75 x + y - 2.5 = 1.25, 3. Dense: a quarter of
    // 1 * 3 + 2 * 3.75 + 3 * 1.25 + 4 * 3 = 26.25, which is 6.5625.
    assert_eq!(answer, [7 + 7]);
    assert_eq!(lifted.output.quantised.real(answer[0]), 7.0);
}

#[test]
fn digits_are_read_as_onnxruntime_reads_them() {
    let lifted = lift(DIGITS).unwrap();
    assert_eq!(lifted.network.layers.len(), 3);
    assert_eq!(left(&lifted.before), ["Reshape", "QuantizeLinear"]);
    assert_eq!(left(&lifted.after), ["DequantizeLinear", "Softmax", "QuantizeLinear", "DequantizeLinear"]);
    assert_eq!(lifted.after[1].why, "the engine has no such operator");
    let vectors = npz::read(include_bytes!("../../../../tests/data/digits-cnn-int8.vectors.npz")).unwrap();
    let floats = |name: &str| {
        let Data::Fp32(values) = &vectors[name].data else { panic!("`{name}` has no floats") };
        values.clone()
    };
    let greatest = |row: &[f32]| (0..10).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    for (image, expected) in floats("in/image").chunks(64).zip(floats("out/probabilities").chunks(10)) {
        let bytes: Vec<i8> = image.iter().map(|pixel| lifted.input.quantised.quantise(*pixel)).collect();
        let answer =
            bellwether_fpga::compile::reference::run(&lifted.network, &lifted.input.to_engine(&bytes).unwrap());
        let logits: Vec<f32> = answer.iter().map(|value| lifted.output.quantised.real(*value)).collect();
        assert_eq!(greatest(&logits), greatest(expected));
    }
}

#[test]
fn bounds_are_those_of_the_layer_before() {
    let mut net = Net::new(&[-1, 2]);
    net.quantised(1.0, 0).dense(&[2, 1], &[1, 1]);
    let (low, high) = (net.floats(&[-3.0]), net.floats(&[6.0]));
    net.then("Clip", &[&low, &high], vec![]).quantised(0.5, 1);
    let output = net.lifted().network.layers[0].output;
    assert_eq!((output.zero_point, output.lowest, output.highest), (1, -5, 13));
    net.then("Relu", &[], vec![]).quantised(0.5, 1);
    assert_eq!(net.lifted().network.layers[0].output.lowest, 1);
    // What is bounded on a step of the value before is bounded there.
    net.then("Relu", &[], vec![]).dense(&[1, 1], &[1]).quantised(1.0, 0);
    assert_eq!(net.lifted().network.layers.len(), 2);
    let (low, high) = (net.floats(&[1.0]), net.floats(&[0.0]));
    net.then("Clip", &[&low, &high], vec![]).quantised(1.0, 0);
    assert_eq!(net.lifted().after[1].why, "its bounds leave nothing between them");
}

#[test]
fn a_window_is_padded_and_rounded_as_onnx_says() {
    let window = |operator: &str, attributes: Vec<AttributeProto>| {
        let mut net = Net::new(&[-1, 1, 6, 6]);
        net.quantised(1.0, 0).then(operator, &[], attributes).quantised(1.0, 0);
        lift(&net.model()).map(|lifted| (lifted.network.layers[0].window, lifted.output.sizes))
    };
    let kernel = ints("kernel_shape", &[3, 3]);
    let (same, sizes) =
        window("MaxPool", vec![kernel.clone(), text("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2])]).unwrap();
    assert_eq!((same.before, same.after, &sizes[..]), ([0, 0], [1, 1], &[1, 3, 3][..]));
    let wide = vec![kernel.clone(), ints("strides", &[2, 2]), int("ceil_mode", 1)];
    let (up, sizes) = window("MaxPool", wide.clone()).unwrap();
    assert_eq!((up.before, up.after, &sizes[..]), ([0, 0], [1, 1], &[1, 3, 3][..]));
    let why = |operator: &str, attributes| window(operator, attributes).unwrap_err().to_string();
    assert!(why("AveragePool", wide).contains("leaves the padding out"));
    let padded = vec![kernel.clone(), ints("pads", &[1, 1, 1, 1])];
    assert!(why("AveragePool", padded.clone()).contains("leaves the padding out"));
    let counted = padded.into_iter().chain([int("count_include_pad", 1)]).collect();
    assert_eq!(window("AveragePool", counted).unwrap().0.before, [1, 1]);
    assert!(why("MaxPool", vec![kernel, ints("dilations", &[2, 2])]).contains("dilated"));
}

#[test]
fn bytes_may_come_in_as_they_are() {
    let mut net = small(true);
    // The first node quantises; without it the input is of bytes.
    let made = net.nodes.remove(0).output[0].clone();
    net.nodes[0].input[0] = "x".to_owned();
    net.inputs[0] = value("x", 2, &[-1, 2, 1, 2]);
    let lifted = net.lifted();
    assert_eq!((lifted.input.value.as_str(), lifted.before.len()), ("x", 0), "{made} is gone");
    assert_eq!(lifted.network, small(true).lifted().network);
}

#[test]
fn channels_that_come_last_go_in_as_they_are() {
    let mut net = Net::new(&[-1, 1, 2, 3]);
    net.quantised(1.0, 0).then("Transpose", &[], vec![ints("perm", &[0, 3, 1, 2])]);
    let weights = net.weights(&[1, 3, 1, 1], &[1, 2, 3], 0);
    net.then("Conv", &[&weights], vec![]).quantised(1.0, 0);
    let lifted = net.lifted();
    assert_eq!(lifted.input.order, Order::ChannelsLast);
    assert_eq!(lifted.input.shape, Shape { rows: 1, columns: 2, channels: 3 });
    assert_eq!(lifted.input.to_engine(&[1, 2, 3, 4, 5, 6]), Some(vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn the_order_of_an_image_goes_both_ways() {
    let port = small(false).lifted().input;
    assert_eq!(port.to_engine(&[1, 2, 3, 4]), Some(vec![1, 3, 2, 4]));
    assert_eq!(port.from_engine(&[1, 3, 2, 4]), [1, 2, 3, 4]);
    assert_eq!(port.to_engine(&[1, 2, 3]), None);
}

#[test]
fn a_chain_ends_where_the_engine_cannot() {
    let mut net = Net::new(&[-1, 2]);
    net.quantised(1.0, 0).dense(&[2, 3], &[1; 6]).quantised(1.0, 0);
    net.then("Sigmoid", &[], vec![]).quantised(1.0, 0).dense(&[3, 1], &[1; 3]).quantised(1.0, 0);
    let lifted = net.lifted();
    assert_eq!(lifted.network.layers.len(), 1);
    assert_eq!(left(&lifted.after)[..3], ["DequantizeLinear", "Sigmoid", "QuantizeLinear"]);
    assert_eq!(lifted.after[1].why, "the engine has no such operator");
    assert!(lifted.after[2].why.contains("behind"));
    let mut open = Net::new(&[-1, 2]);
    open.quantised(1.0, 0).dense(&[2, 3], &[1; 6]).quantised(1.0, 0).dense(&[3, 1], &[1; 3]);
    assert_eq!(open.lifted().after[1].why, "what it gives is not quantised");
}

#[test]
fn weights_and_biases_are_refused_that_the_engine_has_not() {
    let mut lopsided = Net::new(&[-1, 2]);
    lopsided.quantised(1.0, 0);
    let weights = lopsided.weights(&[2, 1], &[1, 1], 5);
    lopsided.then("Gemm", &[&weights], vec![]).quantised(1.0, 0);
    assert!(lopsided.refusal().contains("zero point 5: quantise them symmetrically"));
    for (scale, message) in [(Some(0.3), "not input scale times weight scale, 2.5e-1"), (None, "is not quantised")] {
        let mut net = Net::new(&[-1, 2]);
        net.quantised(1.0, 0);
        let weights = net.weights(&[2, 1], &[1, 1], 0);
        let bias = match scale {
            Some(scale) => net.bias(&[4], scale),
            None => net.floats(&[1.0]),
        };
        net.then("Gemm", &[&weights, &bias], vec![]).quantised(1.0, 0);
        assert!(net.refusal().contains(message), "{}", net.refusal());
    }
}

#[test]
fn models_are_refused_with_what_to_do() {
    let floats = include_bytes!("../../../../tests/data/digits-cnn.onnx");
    assert!(lift(floats).unwrap_err().to_string().contains("bellwether model quantize"));
    assert!(matches!(lift(b"no model"), Err(LiftError::Inspect(_))));
    let mut two = small(false);
    two.inputs.push(value("y", 1, &[-1, 4]));
    assert_eq!(two.refusal(), "2 inputs: the engine takes models of one");
    let mut half = small(false);
    half.inputs[0] = value("x", 10, &[-1, 2, 1, 2]);
    assert!(half.refusal().contains("16-bit floats"));
    let mut dynamic = small(false);
    dynamic.then("DynamicQuantizeLinear", &[], vec![]);
    dynamic.nodes.last_mut().unwrap().output.extend(["scale".to_owned(), "zero".to_owned()]);
    assert!(dynamic.refusal().contains("static quantisation"));
    let mut open = small(false);
    open.inputs[0] = value("x", 1, &[-1, 2, 1, -1]);
    assert_eq!(
        open.refusal(),
        "the shape of `v2` is not known: declare that of the model's input (onnx.shape_inference helps)"
    );
    let mut branch = small(false);
    branch.node("Relu", &["x"], vec![]);
    assert!(branch.refusal().contains("a branch"));
}

#[test]
fn damaged_models_are_refused_and_nothing_more() {
    for cut in (0..DIGITS.len()).step_by(61) {
        let _refused = lift(&DIGITS[..cut]);
        let mut flipped = DIGITS.to_vec();
        flipped[cut] ^= 0xff;
        let _answered = lift(&flipped);
    }
}
