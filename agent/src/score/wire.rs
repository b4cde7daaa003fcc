//! The body of an inference request and of its answer: JSON, and behind it raw tensors where the
//! binary tensor extension is used.
//! <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md>

use bellwether_protocol::id::TensorName;
use bellwether_protocol::limit::{RANK_MAX, TENSORS_MAX};
use bellwether_protocol::manifest::DataType;
use bellwether_runtime::{Data, Tensor};

use super::Active;
use super::json::{Answer, Elements, Input, Request, Response, Size};

/// A request, read.
#[derive(Debug)]
pub(super) struct Asked {
    id: Option<String>,
    pub(super) inputs: Vec<Tensor>,
    /// Outputs wanted, each raw or not; empty for all.
    outputs: Vec<(String, bool)>,
    all_raw: bool,
}

/// Reads a body; `header` is the length of its JSON part if raw tensors follow. An error is a
/// sentence for the caller.
pub(super) fn read(body: &[u8], header: Option<&str>) -> Result<Asked, String> {
    let (json, mut raw) = match header {
        None => (body, &[][..]),
        Some(text) => {
            let bad = || {
                format!(
                    "Inference-Header-Content-Length is `{text}`: expected the length of the JSON part, at most {}",
                    body.len()
                )
            };
            let length: usize = text.trim().parse().map_err(|_| bad())?;
            body.split_at_checked(length).ok_or_else(bad)?
        }
    };
    let request: Request = serde_json::from_slice(json).map_err(|why| {
        format!("the request is not the JSON of an inference request: {why}; expected {{\"inputs\": [{{\"name\", \"shape\", \"datatype\", \"data\"}}]}}")
    })?;
    if request.inputs.len() > TENSORS_MAX || request.outputs.len() > TENSORS_MAX {
        return Err(format!("too many tensors: at most {TENSORS_MAX} inputs and {TENSORS_MAX} outputs"));
    }
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for input in request.inputs {
        inputs.push(tensor(input, &mut raw)?);
    }
    if !raw.is_empty() {
        return Err(format!(
            "{} bytes follow the last tensor: the binary_data_size of the inputs must add up",
            raw.len()
        ));
    }
    let all_raw = request.parameters.binary_data_output.unwrap_or(false);
    let outputs =
        request.outputs.into_iter().map(|output| (output.name, output.parameters.binary_data.unwrap_or(all_raw)));
    Ok(Asked { id: request.id, inputs, outputs: outputs.collect(), all_raw })
}

fn tensor(input: Input, raw: &mut &[u8]) -> Result<Tensor, String> {
    let Input { name, shape, datatype, parameters, data } = input;
    let shown: String = name.chars().take(64).collect();
    let name = TensorName::parse(&name).map_err(|bad| format!("input `{shown}`: {bad}"))?;
    if shape.len() > RANK_MAX {
        return Err(format!("input `{name}` has {} dimensions: at most {RANK_MAX} are supported", shape.len()));
    }
    let datatype = DataType::from_name(&datatype).ok_or_else(|| {
        let names: Vec<_> = DataType::ALL.iter().map(|datatype| datatype.name()).collect();
        format!(
            "input `{name}` has datatype `{}`: expected one of {}",
            datatype.chars().take(16).collect::<String>(),
            names.join(", ")
        )
    })?;
    let data = match (data, parameters.binary_data_size) {
        (Some(flat), None) => flat
            .into_data(datatype)
            .map_err(|index| format!("input `{name}`: element {index} of `data` is no {}", datatype.name()))?,
        (None, Some(size)) => {
            let (bytes, rest) = raw.split_at_checked(size).ok_or_else(|| {
                format!("input `{name}` has a binary_data_size of {size}: only {} bytes follow", raw.len())
            })?;
            *raw = rest;
            Data::from_le_bytes(datatype, bytes)
                .ok_or_else(|| format!("input `{name}`: {size} bytes are no whole number of {}", datatype.name()))?
        }
        (Some(_), Some(_)) => {
            return Err(format!("input `{name}` has both `data` and `binary_data_size`: send one"));
        }
        (None, None) => {
            return Err(format!("input `{name}` has neither `data` nor `binary_data_size`"));
        }
    };
    Tensor::new(name, shape, data).map_err(|why| why.to_string())
}

/// The bytes of an answer, and the length of its JSON part if raw tensors follow.
pub(super) fn write(active: &Active, asked: &Asked, outputs: &[Tensor]) -> Result<(Vec<u8>, Option<usize>), String> {
    let mut wanted: Vec<(&Tensor, bool)> = Vec::with_capacity(outputs.len());
    if asked.outputs.is_empty() {
        wanted.extend(outputs.iter().map(|output| (output, asked.all_raw)));
    }
    for (name, is_raw) in &asked.outputs {
        let output = outputs.iter().find(|output| output.name.as_str() == name).ok_or_else(|| {
            let names: Vec<_> = outputs.iter().map(|output| format!("`{}`", output.name)).collect();
            format!(
                "there is no output `{}`: the model gives {}",
                name.chars().take(64).collect::<String>(),
                names.join(", ")
            )
        })?;
        wanted.push((output, *is_raw));
    }
    let mut raw = Vec::new();
    let mut answers = Vec::with_capacity(wanted.len());
    for (output, is_raw) in wanted {
        let before = raw.len();
        if is_raw {
            output.data().extend_le_bytes(&mut raw);
        }
        answers.push(Answer {
            name: output.name.as_str(),
            datatype: output.datatype().name(),
            shape: output.shape(),
            parameters: is_raw.then(|| Size { binary_data_size: raw.len() - before }),
            data: (!is_raw).then(|| Elements(output.data())),
        });
    }
    let has_raw = answers.iter().any(|answer| answer.data.is_none());
    let response = Response {
        model_name: active.name.as_str(),
        model_version: active.running.version.to_string(),
        id: asked.id.as_deref(),
        outputs: answers,
    };
    let mut body = serde_json::to_vec(&response).map_err(|why| why.to_string())?;
    let header = has_raw.then_some(body.len());
    body.append(&mut raw);
    Ok((body, header))
}
