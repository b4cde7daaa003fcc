//! What a model file is, read from its bytes without running it.

use std::collections::BTreeMap;

use bellwether_protocol::id::TensorName;
use bellwether_protocol::limit::{RANK_MAX, TENSORS_MAX};
use bellwether_protocol::manifest::{DataType, TensorSignature, TensorSpec};
use prost::Message as _;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, ValueInfoProto, tensor_proto, type_proto};

use crate::lower;
use crate::validate::{Effort, Invalid, validate};

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// What it takes and gives.
    pub signature: TensorSignature,
    /// Version of the default operator set it uses.
    pub opset: u16,
    /// How often each operator occurs; with `domain::` in front where it is not the default one.
    pub operators: BTreeMap<String, u32>,
    /// How many trained numbers it has.
    pub parameters: u64,
    /// What one row costs.
    pub effort: Effort,
    /// The program that wrote it, as it says.
    pub producer: String,
    /// Memory it may take when loaded, in KiB: weights as parsed and as packed, and some more. An
    /// estimate from its size, not a measurement.
    pub memory_kib: u32,
}

/// Why a file is not a model that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InspectError {
    #[error("not an ONNX model: {0}")]
    NotOnnx(&'static str),
    #[error("the ONNX file is cut short or damaged: {0}")]
    Damaged(String),
    #[error("{got} {side}: at most {TENSORS_MAX} are supported")]
    TooManyTensors { side: &'static str, got: usize },
    #[error("the graph has no {0}")]
    NoTensors(&'static str),
    #[error("tensor name `{name}` is not supported ({rule}): rename it")]
    Name { name: String, rule: &'static str },
    #[error(
        "`{name}` is a map or a sequence, no tensor: preparing replaces ZipMap; for others convert with \
         options={{'zipmap': False}}"
    )]
    NotATensor { name: String },
    #[error(
        "input `{input}` holds texts, and devices have numbers only: encode it as numbers before scoring, and \
         convert the model that takes those"
    )]
    Texts { input: String },
    #[error("`{name}` has element type {got}: supported are BOOL, FP32, FP64 and integers of 8 to 64 bits")]
    ElementType { name: String, got: String },
    #[error("`{name}` has no shape or more than {RANK_MAX} dimensions: declare its shape (onnx.shape_inference helps)")]
    NoShape { name: String },
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Reads what a model says about itself, once it is rewritten as [`crate::prepare`] does.
///
/// # Errors
///
/// [`InspectError`].
pub fn inspect(bytes: &[u8]) -> Result<ModelFacts, InspectError> {
    read(&lower::lowered(bytes)?.0).map(|(_, facts)| facts)
}

/// Reads a model as it is, with the parsed file.
///
/// # Errors
///
/// [`InspectError`].
pub(crate) fn read(bytes: &[u8]) -> Result<(ModelProto, ModelFacts), InspectError> {
    let proto = match ModelProto::decode(bytes) {
        Ok(proto) => proto,
        // Field 1 (ir_version) is a small number in every ONNX file ever written.
        Err(why) if matches!(bytes, [0x08, 1..=20, ..]) => {
            return Err(InspectError::Damaged(why.to_string()));
        }
        Err(_) => return Err(InspectError::NotOnnx("the bytes are no protobuf")),
    };
    let graph = match &proto.graph {
        Some(graph) if proto.ir_version > 0 => graph,
        _ => return Err(InspectError::NotOnnx("it has no IR version and graph")),
    };
    let effort = validate(&proto)?;
    let mut survey = Survey::default();
    survey.graph(graph);
    let default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let opset = proto.opset_import.iter().filter(|import| default(&import.domain)).map(|import| import.version).max();
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let facts = ModelFacts {
        signature: signature(graph)?,
        opset: u16::try_from(opset.unwrap_or(1)).unwrap_or(u16::MAX),
        operators: survey.operators,
        parameters: survey.parameters,
        effort,
        producer: proto.producer_name.chars().filter(|c| !c.is_control()).take(64).collect(),
        memory_kib: u32::try_from(size.saturating_mul(3) / 1024 + 1024).unwrap_or(u32::MAX),
    };
    Ok((proto, facts))
}

#[derive(Default)]
struct Survey {
    operators: BTreeMap<String, u32>,
    parameters: u64,
}

impl Survey {
    /// Counts; how deep graphs are nested was checked.
    fn graph(&mut self, graph: &GraphProto) {
        graph.initializer.iter().for_each(|tensor| self.tensor(tensor));
        for node in &graph.node {
            let domain = node.domain.as_str();
            let name = if domain.is_empty() || domain == "ai.onnx" {
                node.op_type.clone()
            } else {
                format!("{domain}::{}", node.op_type)
            };
            *self.operators.entry(name).or_default() += 1;
            for attribute in &node.attribute {
                attribute.t.iter().for_each(|tensor| self.tensor(tensor));
                attribute.g.iter().for_each(|inner| self.graph(inner));
            }
        }
    }

    fn tensor(&mut self, tensor: &TensorProto) {
        let size = tensor.dims.iter().map(|size| u64::try_from(*size).unwrap_or(0)).fold(1, u64::saturating_mul);
        self.parameters = self.parameters.saturating_add(size);
    }
}

fn signature(graph: &GraphProto) -> Result<TensorSignature, InspectError> {
    let is_weight = |info: &&ValueInfoProto| graph.initializer.iter().any(|weight| weight.name == info.name);
    let inputs: Vec<_> = graph.input.iter().filter(|info| !is_weight(info)).collect();
    let outputs: Vec<_> = graph.output.iter().collect();
    for (side, list) in [("inputs", &inputs), ("outputs", &outputs)] {
        if list.is_empty() {
            return Err(InspectError::NoTensors(side));
        }
        if list.len() > TENSORS_MAX {
            return Err(InspectError::TooManyTensors { side, got: list.len() });
        }
    }
    Ok(TensorSignature {
        inputs: inputs.into_iter().map(spec).collect::<Result<_, _>>()?,
        outputs: outputs.into_iter().map(spec).collect::<Result<_, _>>()?,
    })
}

fn spec(info: &ValueInfoProto) -> Result<TensorSpec, InspectError> {
    let name = || info.name.clone();
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Err(InspectError::NotATensor { name: name() });
    };
    let shape = tensor.shape.as_ref().ok_or_else(|| InspectError::NoShape { name: name() })?;
    if shape.dim.len() > RANK_MAX {
        return Err(InspectError::NoShape { name: name() });
    }
    let size = |value: &Option<dimension::Value>| match value {
        Some(dimension::Value::DimValue(size)) if *size > 0 => u32::try_from(*size).ok(),
        Some(dimension::Value::DimValue(_) | dimension::Value::DimParam(_)) | None => None,
    };
    Ok(TensorSpec {
        name: TensorName::parse(&info.name).map_err(|bad| InspectError::Name { name: name(), rule: bad.rule })?,
        datatype: datatype(tensor.elem_type)
            .ok_or_else(|| InspectError::ElementType { name: name(), got: element_name(tensor.elem_type) })?,
        shape: shape.dim.iter().map(|dim| size(&dim.value)).collect(),
    })
}

/// `TensorProto.DataType` of the ONNX specification.
const fn datatype(code: i32) -> Option<DataType> {
    Some(match code {
        1 => DataType::Fp32,
        2 => DataType::Uint8,
        3 => DataType::Int8,
        4 => DataType::Uint16,
        5 => DataType::Int16,
        6 => DataType::Int32,
        7 => DataType::Int64,
        9 => DataType::Bool,
        11 => DataType::Fp64,
        12 => DataType::Uint32,
        13 => DataType::Uint64,
        _ => return None,
    })
}

fn element_name(code: i32) -> String {
    tensor_proto::DataType::try_from(code)
        .map_or_else(|_| format!("number {code}"), |kind| kind.as_str_name().to_owned())
}

/// How to turn a file that is not ONNX into one that is; `None` for what looks like ONNX.
#[must_use]
pub fn advice(file_name: &str, bytes: &[u8]) -> Option<&'static str> {
    const PICKLE: &str = "a pickle runs code when it is opened and needs Python on the device. Convert it: \
        from skl2onnx import to_onnx; open('model.onnx', 'wb').write(to_onnx(model, X[:1], options={'zipmap': False})\
        .SerializeToString())";
    const TORCH: &str = "PyTorch weights need the program that defines them. Convert: torch.onnx.export(model, \
        example_input, 'model.onnx', dynamic_axes={'input': {0: 'batch'}})";
    const KERAS: &str = "Keras and TensorFlow files are converted with: python -m tf2onnx.convert --keras model.keras \
        --output model.onnx (or --saved-model DIRECTORY)";
    const TFLITE: &str = "convert with: python -m tf2onnx.convert --tflite model.tflite --output model.onnx";
    const BOOST: &str = "boosted trees are converted with onnxmltools: convert_xgboost or convert_lightgbm, then save \
        with onnxmltools.utils.save_model(model, 'model.onnx')";
    const OTHER: &str = "export the model as ONNX (skl2onnx, torch.onnx.export, tf2onnx or onnxmltools)";

    let lower = file_name.to_ascii_lowercase();
    let is = |endings: &[&str]| endings.iter().any(|ending| lower.ends_with(ending));
    let is_zip = bytes.starts_with(b"PK\x03\x04");
    if inspect(bytes).is_ok() || matches!(bytes, [0x08, 1..=20, ..]) {
        return None;
    }
    Some(match bytes {
        _ if is(&[".pt", ".pth", ".safetensors", ".ckpt"]) => TORCH,
        _ if is(&[".h5", ".hdf5", ".keras", ".pb"]) || bytes.starts_with(b"\x89HDF\r\n\x1a\n") => KERAS,
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => TFLITE,
        _ if is(&[".tflite"]) => TFLITE,
        _ if is(&[".xgb", ".ubj", ".lgb", ".cbm"]) || (is(&[".json", ".txt"]) && !is_zip) => BOOST,
        _ if is(&[".pkl", ".pickle", ".joblib", ".sav"]) => PICKLE,
        [0x80, 2..=5, ..] => PICKLE,
        _ if is_zip => TORCH,
        // It says that it is ONNX and is not: a damaged file is refused, not kept.
        _ if is(&[".onnx"]) => return None,
        _ => OTHER,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_the_digits_model_are_read() {
        let facts = inspect(include_bytes!("../../../tests/data/digits-linear.onnx")).unwrap();
        assert_eq!(facts.opset, 17);
        assert_eq!(facts.parameters, 650);
        assert_eq!((facts.effort.nodes, facts.effort.work), (2, 640 + 10 + 10));
        assert_eq!(facts.operators.keys().collect::<Vec<_>>(), ["Gemm", "Softmax"]);
        assert_eq!(crate::shape_text(&facts.signature.inputs[0]), "[-1, 64]");
        assert_eq!(crate::shape_text(&facts.signature.outputs[0]), "[-1, 10]");
    }

    #[test]
    fn what_is_not_onnx_comes_with_the_way_to_convert_it() {
        let pickle = include_bytes!("../../../tests/data/digits.pkl");
        assert!(matches!(inspect(pickle), Err(InspectError::NotOnnx(_))));
        assert!(advice("digits.pkl", pickle).unwrap().contains("skl2onnx"));
        assert!(advice("model", pickle).unwrap().contains("skl2onnx"));
        assert!(advice("m.pt", b"PK\x03\x04").unwrap().contains("torch.onnx.export"));
        assert!(advice("m.h5", b"").unwrap().contains("tf2onnx"));
        assert!(advice("m", b"\x1c\0\0\0TFL3").unwrap().contains("tflite"));
        assert!(advice("m.json", b"{}").unwrap().contains("xgboost"));
        assert_eq!(advice("m.onnx", b"renamed"), None);
        assert_eq!(advice("m.onnx", include_bytes!("../../../tests/data/digits-linear.onnx")), None);
        assert!(inspect(include_bytes!("../../../tests/data/bad/not-onnx.onnx")).is_err());
        assert!(inspect(b"").is_err());
    }

    #[test]
    fn a_truncated_model_is_called_damaged() {
        let cut = include_bytes!("../../../tests/data/bad/truncated.onnx");
        assert!(matches!(inspect(cut), Err(InspectError::Damaged(_))));
    }
}
