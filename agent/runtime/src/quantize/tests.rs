//! Networks on the digits, quantised: what comes out is scored by this runtime and held against float.

use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

use super::*;
use crate::ops::quant::lower::graph::{FLOAT, node, with_float, with_int};
use crate::{Data, npz};

const CNN: &[u8] = include_bytes!("../../../../tests/data/digits-cnn.onnx");
const DIGITS: &[u8] = include_bytes!("../../../../tests/data/digits.npz");
const AGREEMENT: f64 = 0.97;

/// All images, as the models take them, and their classes.
fn digits() -> (Sample, Vec<i64>) {
    let arrays = npz::read(DIGITS).unwrap();
    let (Data::Uint8(pixels), Data::Uint8(labels)) = (&arrays["images"].data, &arrays["labels"].data) else {
        panic!("not the digits")
    };
    let data = Data::Fp32(pixels.iter().map(|pixel| f32::from(*pixel) / 16.0).collect());
    let inputs = vec![Tensor::new("image".parse().unwrap(), vec![labels.len(), 64], data).unwrap()];
    (Sample { inputs, rows: labels.len(), names: None }, labels.iter().map(|label| i64::from(*label)).collect())
}

fn quantised(model: &[u8], options: Options) -> Quantised {
    let (sample, labels) = digits();
    let rows = Rows::of(&sample, Some(&labels), Some(200)).unwrap();
    quantize(model, &rows, options, &mut |done, all| assert!(done <= all)).unwrap()
}

/// Nodes and weights in the order in which they are written.
#[derive(Default)]
struct Net {
    nodes: Vec<NodeProto>,
    stored: Vec<TensorProto>,
    chance: u32,
}

impl Net {
    fn op(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = format!("v{}", self.nodes.len());
        let inputs = inputs.iter().map(|name| (*name).to_owned()).collect();
        self.nodes.push(NodeProto {
            attribute: attributes,
            ..node(operator, &format!("{operator}-{output}"), inputs, &output)
        });
        output
    }

    fn floats(&mut self, dims: &[i64], numbers: &[f32]) -> String {
        let raw_data = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.store(TensorProto { data_type: FLOAT, dims: dims.to_vec(), raw_data, ..TensorProto::default() })
    }

    fn sizes(&mut self, sizes: &[i64]) -> String {
        let dims = vec![i64::try_from(sizes.len()).unwrap()];
        self.store(TensorProto { data_type: 7, dims, int64_data: sizes.to_vec(), ..TensorProto::default() })
    }

    fn store(&mut self, mut tensor: TensorProto) -> String {
        tensor.name = format!("w{}", self.stored.len());
        self.stored.push(tensor);
        format!("w{}", self.stored.len() - 1)
    }

    /// Numbers from -1 to 1 by chance, the same in every run.
    fn drawn(&mut self, dims: &[i64], greatest: f32) -> String {
        let count = usize::try_from(dims.iter().product::<i64>()).unwrap();
        let numbers: Vec<f32> = (0..count)
            .map(|_| {
                self.chance = self.chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                greatest * ((self.chance >> 8) as f32 / (1 << 23) as f32 - 1.0)
            })
            .collect();
        self.floats(dims, &numbers)
    }

    fn conv(&mut self, value: &str, (made, taken): (i64, i64), kernel: i64, stride: i64, groups: i64) -> String {
        let weights = self.drawn(&[made, taken / groups, kernel, kernel], 1.5 / (taken / groups * kernel) as f32);
        let bias = self.drawn(&[made], 0.2);
        let attributes = vec![
            ints("kernel_shape", &[kernel; 2]),
            ints("strides", &[stride; 2]),
            ints("pads", &[kernel / 2; 4]),
            with_int("group", groups),
        ];
        self.op("Conv", &[value, &weights, &bias], attributes)
    }

    /// A model that takes images.
    fn model(&self, output: &str, opset: i64) -> Vec<u8> {
        let size = |value| Dimension { value: Some(value), ..Dimension::default() };
        let value = |name: &str, columns: i64| {
            let rows = size(dimension::Value::DimParam("N".to_owned()));
            let dim = vec![rows, size(dimension::Value::DimValue(columns))];
            let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
            let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
            ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
        };
        let graph = GraphProto {
            name: "net".to_owned(),
            node: self.nodes.clone(),
            initializer: self.stored.clone(),
            input: vec![value("image", 64)],
            output: vec![value(output, 10)],
            ..GraphProto::default()
        };
        let set = OperatorSetIdProto { domain: String::new(), version: opset };
        ModelProto { ir_version: 8, opset_import: vec![set], graph: Some(graph), ..ModelProto::default() }
            .encode_to_vec()
    }

    /// Columns that tell each class by its mean: weights `[features, 10]` and bias.
    fn head(&mut self, features: &str, opset: i64) -> (String, String) {
        let (sample, labels) = digits();
        let value = Probe::new(&self.model(features, opset), &[features.to_owned()]).unwrap();
        let value = { value }.values(&sample.inputs).unwrap().remove(0);
        let width = value.numbers.len() / sample.rows;
        let (mut means, mut counts) = (vec![vec![0.0_f32; width]; 11], [0.0_f32; 11]);
        for (row, label) in value.numbers.chunks(width).zip(&labels) {
            for of in [usize::try_from(*label).unwrap(), 10] {
                counts[of] += 1.0;
                means[of].iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
            }
        }
        means.iter_mut().zip(counts).for_each(|(mean, count)| mean.iter_mut().for_each(|sum| *sum /= count));
        let square = |mean: &[f32]| mean.iter().map(|number| number * number).sum::<f32>() / 2.0;
        let (all, each) = (&means[10], &means[..10]);
        let columns: Vec<f32> = (0..width).flat_map(|at| each.iter().map(move |mean| mean[at] - all[at])).collect();
        let bias: Vec<f32> = each.iter().map(|mean| square(all) - square(mean)).collect();
        (self.floats(&[i64::try_from(width).unwrap(), 10], &columns), self.floats(&[10], &bias))
    }
}

fn ints(name: &str, list: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 7, ints: list.to_vec(), ..AttributeProto::default() }
}

/// As PyTorch writes dense layers without bias folding: `MatMul`, `Add`, `Relu`.
fn mlp() -> Vec<u8> {
    let mut net = Net::default();
    let mut value = "image".to_owned();
    for (taken, made) in [(64, 96), (96, 64)] {
        let (weights, bias) = (net.drawn(&[taken, made], 0.3), net.drawn(&[made], 0.1));
        let product = net.op("MatMul", &[&value, &weights], vec![]);
        let sum = net.op("Add", &[&product, &bias], vec![]);
        value = net.op("Relu", &[&sum], vec![]);
    }
    let (weights, bias) = net.head(&value, 17);
    let product = net.op("MatMul", &[&value, &weights], vec![]);
    let sum = net.op("Add", &[&bias, &product], vec![]);
    net.model(&sum, 17)
}

/// A depthwise layer, both kinds of pools, and an activation behind one of them.
fn separable(opset: i64) -> Vec<u8> {
    let mut net = Net::default();
    let shape = net.sizes(&[-1, 1, 8, 8]);
    let image = net.op("Reshape", &["image", &shape], vec![]);
    let first = net.conv(&image, (16, 1), 3, 1, 1);
    let cut = net.op("Relu", &[&first], vec![]);
    let depth = net.conv(&cut, (16, 16), 3, 1, 16);
    let cut = if opset < 11 {
        net.op("Clip", &[&depth], vec![with_float("min", 0.0), with_float("max", 6.0)])
    } else {
        let (low, high) = (net.floats(&[], &[0.0]), net.floats(&[], &[6.0]));
        net.op("Clip", &[&depth, &low, &high], vec![])
    };
    let point = net.conv(&cut, (32, 16), 1, 1, 1);
    let greatest = net.op("MaxPool", &[&point], vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]);
    let cut = net.op("Relu", &[&greatest], vec![]);
    let mean = net.op("AveragePool", &[&cut], vec![ints("kernel_shape", &[2, 2]), ints("strides", &[1, 1])]);
    let flat = net.op("Flatten", &[&mean], vec![]);
    let (weights, bias) = net.head(&flat, opset);
    let logits = net.op("Gemm", &[&flat, &weights, &bias], vec![]);
    let answer = net.op("Softmax", &[&logits], vec![with_int("axis", 1)]);
    net.model(&answer, opset)
}

fn operators(model: &[u8]) -> BTreeMap<String, u32> {
    inspect(model).unwrap().operators
}

/// Quantises twice, and holds the answers to those of float.
fn held(model: &[u8], options: Options) -> Report {
    let made = quantised(model, options);
    assert_eq!(made.model, quantised(model, options).model, "repeatable to the byte");
    let (accuracy, agreement) = (made.report.accuracy.unwrap(), made.report.outputs[0].agreement.unwrap());
    assert!(agreement >= AGREEMENT, "{agreement} {accuracy:?}");
    assert!(accuracy.after > accuracy.before - 0.01, "{accuracy:?}");
    assert!(made.report.layers.iter().all(|layer| layer.snr_db.unwrap() > 20.0), "{:#?}", made.report.layers);
    made.report
}

#[test]
fn dense_layers_take_their_biases_over() {
    for per_tensor in [false, true] {
        let report = held(&mlp(), Options { per_tensor, ..Options::default() });
        assert_eq!(report.layers[0].operator, "MatMul+Add+Relu");
        assert_eq!(report.layers[0].weights.unwrap().scales, if per_tensor { 1 } else { 96 });
        assert_eq!((report.layers.len(), report.kept.len()), (3, 0));
        assert_eq!((report.calibration_rows, report.judged_rows), (200, 1597));
        assert_eq!(report.layers[0].output.scale.zero, -128, "what Relu makes begins at zero");
    }
    let operators = operators(&quantised(&mlp(), Options::default()).model);
    assert_eq!((operators.get("Gemm"), operators.get("MatMul"), operators.get("Add")), (Some(&3), None, None));
}

#[test]
fn convolutions_pools_and_moves_are_quantised_and_the_softmax_is_not() {
    for calibrate in [Calibrate::MinMax, Calibrate::Percentile, Calibrate::Mse] {
        let report = held(&separable(17), Options { calibrate, ..Options::default() });
        let layers: Vec<&str> = report.layers.iter().map(|layer| layer.operator.as_str()).collect();
        assert_eq!(layers, ["Conv+Relu", "Conv+Clip", "Conv+Relu", "AveragePool", "Gemm"]);
        assert_eq!((report.kept.len(), report.kept[0].operator.as_str()), (1, "Softmax"));
        // The activation behind the pool joined the convolution before it, whose scale the pool keeps.
        assert_eq!(report.layers[3].inputs[0].scale, report.layers[2].output.scale);
        assert_eq!(report.layers[2].output.range.low, 0.0);
    }
}

#[test]
fn an_older_operator_set_is_raised() {
    let (old, new) = (quantised(&separable(9), Options::default()), quantised(&separable(13), Options::default()));
    assert_eq!(inspect(&old.model).unwrap().opset, 13);
    assert_eq!(old.report.outputs, new.report.outputs);
}

#[test]
fn the_digits_keep_their_answers() {
    let report = held(CNN, Options::default());
    assert!(report.outputs[0].agreement.unwrap() > 0.995, "{:?}", report.outputs);
    assert!(report.bytes_after * 5 < report.bytes_before * 2, "{} {}", report.bytes_before, report.bytes_after);
    let model = quantised(CNN, Options::default()).model;
    assert_eq!(crate::advice::quantisation(&model), Vec::<String>::new());
}

#[test]
fn a_quantised_model_is_computed_on_integers() {
    let (sample, _) = digits();
    let row = [sample.inputs[0].row_range(0..1).unwrap()];
    let nodes = crate::profile(&quantised(CNN, Options::default()).model, &row, 1).unwrap();
    let names: Vec<&str> = nodes.iter().map(|node| node.operator.as_str()).collect();
    let between = ["QuantisedToLast", "FusedConv", "QuantisedMaxPool", "IntoShape", "FusedGemm"];
    assert_eq!(names[1..], [&["Quantize", "IntoShape"], &between[..], &["Dequantize", "Softmax"]].concat());
}

#[test]
fn normalisations_join_the_product_before_them() {
    let mut net = Net::default();
    let shape = net.sizes(&[-1, 1, 8, 8]);
    let image = net.op("Reshape", &["image", &shape], vec![]);
    let first = net.conv(&image, (8, 1), 3, 2, 1);
    let parts = [[1.5, 0.5], [0.1, -0.1], [0.2, -0.3], [0.5, 2.0]];
    let parts = parts.map(|pair: [f32; 2]| net.floats(&[8], &pair.repeat(4)));
    let [scale, shift, mean, variance] = &parts;
    let normal = net.op("BatchNormalization", &[&first, scale, shift, mean, variance], vec![]);
    let same = net.op("Identity", &[&normal], vec![]);
    let cut = net.op("Relu", &[&same], vec![]);
    let flat = net.op("Flatten", &[&cut], vec![]);
    let (weights, bias) = net.head(&flat, 15);
    let weights = [weights, bias];
    let turned = vec![with_float("alpha", 0.5), with_float("beta", 0.5)];
    let logits = net.op("Gemm", &[&flat, &weights[0], &weights[1]], turned);
    let model = net.model(&logits, 15);
    let report = held(&model, Options::default());
    assert_eq!(report.layers.iter().map(|layer| layer.operator.as_str()).collect::<Vec<_>>(), ["Conv+Relu", "Gemm"]);
    assert!(report.kept.is_empty());
}

#[test]
fn what_is_strange_stays_float_between_layers_and_is_named() {
    let mut net = Net::default();
    let (weights, bias) = (net.drawn(&[64, 48], 0.3), net.drawn(&[48], 0.1));
    let product = net.op("Gemm", &["image", &weights, &bias], vec![]);
    let strange = net.op("Softsign", &[&product], vec![]);
    let (weights, bias) = net.head(&strange, 17);
    let logits = net.op("Gemm", &[&strange, &weights, &bias], vec![]);
    let report = held(&net.model(&logits, 17), Options::default());
    assert_eq!((report.layers.len(), report.kept.len()), (2, 1));
    assert!(report.kept[0].why.contains("not among"), "{:?}", report.kept);
}

#[test]
fn what_cannot_be_quantised_says_why() {
    let (sample, labels) = digits();
    let rows = Rows::of(&sample, None, None).unwrap();
    let says = |model: &[u8]| quantize(model, &rows, Options::default(), &mut |_, _| {}).unwrap_err().to_string();
    let done = quantised(CNN, Options::default()).model;
    assert!(says(&done).contains("quantised already: node `image~quantize` is QuantizeLinear"));
    let mut net = Net::default();
    let weights = net.drawn(&[10, 64], 0.1);
    let turned = net.op("Transpose", &[&weights], vec![]);
    let product = net.op("MatMul", &["image", &turned], vec![]);
    assert!(says(&net.model(&product, 17)).contains("its weights are computed"), "{}", says(&net.model(&product, 17)));
    let mut net = Net::default();
    let weights = net.floats(&[64, 10], &[f32::INFINITY; 640]);
    let product = net.op("MatMul", &["image", &weights], vec![]);
    let said = says(&net.model(&product, 17));
    assert!(said.contains("infinite"), "{said}");
    assert!(says(b"no model").contains("not an ONNX model"));

    let wrong = |labels: Option<&[i64]>, count| Rows::of(&sample, labels, count).unwrap_err().to_string();
    assert!(wrong(Some(&labels[1..]), None).contains("1796 labels for 1797 rows"));
    assert!(wrong(None, Some(1797)).contains("left to judge by"));
    let one = Sample { inputs: vec![sample.inputs[0].row_range(0..1).unwrap()], rows: 1, names: None };
    assert!(Rows::of(&one, None, None).unwrap_err().to_string().contains("give more rows"));
    let mut numbers = vec![0.5; 128];
    numbers[70] = f32::NAN;
    let inputs = vec![Tensor::new("image".parse().unwrap(), vec![2, 64], Data::Fp32(numbers)).unwrap()];
    let unlawful = Rows::of(&Sample { inputs, rows: 2, names: None }, None, None).unwrap_err().to_string();
    assert!(unlawful.contains("`image`, row 1 holds a number that is infinite or none"), "{unlawful}");
}

#[test]
fn values_that_are_always_the_same_are_lawful() {
    let data = Data::Fp32(vec![0.0; 64 * 8]);
    let inputs = vec![Tensor::new("image".parse().unwrap(), vec![8, 64], data).unwrap()];
    let rows = Rows::of(&Sample { inputs, rows: 8, names: None }, None, None).unwrap();
    let made = quantize(CNN, &rows, Options::default(), &mut |_, _| {}).unwrap();
    assert_eq!(made.report.outputs[0].agreement, Some(1.0));
}

#[test]
fn both_parts_are_taken_evenly() {
    let (sample, labels) = digits();
    let rows = Rows::of(&sample, Some(&labels), Some(599)).unwrap();
    assert_eq!((rows_of(&rows.calibration), rows_of(&rows.judged)), (599, 1198));
    let kept = rows.labels.unwrap();
    assert_eq!((kept.len(), &kept[..4]), (1198, &[0, 1, 3, 4][..]));
}
