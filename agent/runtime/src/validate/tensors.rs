//! Stored tensors: their element type, their size, and that the data is as long as it must be.

use tract_onnx::pb::{TensorProto, tensor_proto};

use super::{ELEMENTS_MAX, Fault, RANK_MAX, product};

/// Most numbers that are read out of a tensor that describes a shape or a scale.
const READ_MAX: usize = 4_096;
const DATA: &str = "save the model anew in one file, with raw data";

/// Element types that tract stores: the code in `TensorProto.DataType`, bytes in `raw_data`, and
/// whether the field for this type is read as well (for UINT32 and UINT64 tract reads another one
/// than the format says).
const KINDS: [(i32, u64, bool); 13] = [
    (FLOAT, 4, true),
    (2, 1, true),
    (3, 1, true),
    (4, 2, true),
    (5, 2, true),
    (INT32, 4, true),
    (INT64, 8, true),
    (STRING, 0, true),
    (9, 1, true),
    (10, 2, true),
    (11, 8, true),
    (12, 4, false),
    (13, 8, false),
];
pub(super) const FLOAT: i32 = 1;
pub(super) const INT32: i32 = 6;
pub(super) const INT64: i32 = 7;
pub(super) const STRING: i32 = 8;

/// Whether tract has elements of this type.
pub(super) fn is_kind(code: i64) -> bool {
    KINDS.iter().any(|(kind, _, _)| i64::from(*kind) == code)
}

/// The sizes of a stored tensor's dimensions.
pub(super) fn check(tensor: &TensorProto) -> Result<Vec<u64>, Fault> {
    let is_external = tensor.data_location == Some(tensor_proto::DataLocation::External as i32);
    if is_external || !tensor.external_data.is_empty() {
        return Err(Fault::new("its data lies in a second file", DATA));
    }
    if tensor.segment.is_some() {
        return Err(Fault::new("it is stored in segments", DATA));
    }
    let kind = KINDS.iter().find(|(kind, _, _)| *kind == tensor.data_type);
    let Some((_, bytes, is_field_read)) = kind else {
        return Err(Fault::new(
            format!("element type {} is not supported", tensor.data_type),
            "use float, double, or integers of 8 to 64 bits",
        ));
    };
    let shape = sizes(&tensor.dims)?;
    let elements = product(shape.iter().copied());
    let (raw, fields) = (tensor.raw_data.len() as u64, field_length(tensor));
    let is_right = match (raw, fields) {
        (0, fields) => fields == elements && (*is_field_read || elements == 0),
        (raw, 0) => *bytes > 0 && elements.checked_mul(*bytes) == Some(raw),
        _ => false,
    };
    if is_right {
        return Ok(shape);
    }
    Err(Fault::new(
        format!(
            "its shape {:?} holds {elements} elements of type {}, its data is {raw} raw bytes and {fields} numbers",
            tensor.dims, tensor.data_type
        ),
        DATA,
    ))
}

/// Sizes that are not negative, of a tensor that is not too large.
pub(super) fn sizes(dims: &[i64]) -> Result<Vec<u64>, Fault> {
    if dims.len() > RANK_MAX {
        return Err(Fault::broken(format!("{} dimensions: at most {RANK_MAX} are supported", dims.len())));
    }
    let shape = dims.iter().map(|size| {
        u64::try_from(*size).map_err(|_| Fault::broken(format!("{size} is no size of a dimension in {dims:?}")))
    });
    let shape = shape.collect::<Result<Vec<u64>, Fault>>()?;
    // A zero hides the sizes beside it from a product, and tract multiplies them one by one.
    let elements = product(shape.iter().map(|size| (*size).max(1)));
    if elements > ELEMENTS_MAX {
        return Err(Fault::large(format!("a tensor of shape {dims:?}: at most {ELEMENTS_MAX} elements are supported")));
    }
    Ok(shape)
}

/// How many elements the typed fields hold.
fn field_length(tensor: &TensorProto) -> u64 {
    let lengths = [
        tensor.float_data.len(),
        tensor.int32_data.len(),
        tensor.string_data.len(),
        tensor.int64_data.len(),
        tensor.double_data.len(),
        tensor.uint64_data.len(),
    ];
    lengths.iter().map(|length| *length as u64).sum()
}

/// The integers of a small tensor that was checked; `None` for other types and longer ones.
pub(super) fn ints(tensor: &TensorProto) -> Option<Vec<i64>> {
    let raw = &tensor.raw_data;
    let found: Vec<i64> = match tensor.data_type {
        INT64 if raw.is_empty() => tensor.int64_data.iter().take(READ_MAX + 1).copied().collect(),
        INT64 => raw
            .chunks_exact(8)
            .take(READ_MAX + 1)
            .filter_map(|n| Some(i64::from_le_bytes(n.try_into().ok()?)))
            .collect(),
        INT32 if raw.is_empty() => tensor.int32_data.iter().take(READ_MAX + 1).map(|n| i64::from(*n)).collect(),
        INT32 => raw
            .chunks_exact(4)
            .take(READ_MAX + 1)
            .filter_map(|n| Some(i64::from(i32::from_le_bytes(n.try_into().ok()?))))
            .collect(),
        _ => return None,
    };
    (found.len() <= READ_MAX).then_some(found)
}

/// The integers of a small tensor of any integer type, as far as they fit; `None` for other types.
pub(super) fn whole(tensor: &TensorProto) -> Option<Vec<i64>> {
    let width = usize::try_from(bits(tensor.data_type) / 8).ok()?;
    let is_integer = matches!(tensor.data_type, 2..=7 | 12 | 13);
    if !is_integer || tensor.dims.iter().product::<i64>() > READ_MAX.cast_signed() as i64 {
        return None;
    }
    if tensor.raw_data.is_empty() {
        return Some(
            tensor.int32_data.iter().map(|n| i64::from(*n)).chain(tensor.int64_data.iter().copied()).collect(),
        );
    }
    let is_signed = matches!(tensor.data_type, 3 | 5 | INT32 | INT64);
    let read = |bytes: &[u8]| {
        let is_negative = is_signed && bytes.last().is_some_and(|last| *last >= 0x80);
        let mut wide = [if is_negative { 0xff } else { 0 }; 8];
        wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        i64::from_le_bytes(wide)
    };
    Some(tensor.raw_data.chunks_exact(width.max(1)).map(read).collect())
}

/// Bits of an element of this type.
pub(super) fn bits(kind: i32) -> i64 {
    KINDS
        .iter()
        .find(|(known, _, _)| *known == kind)
        .and_then(|(_, bytes, _)| i64::try_from(bytes * 8).ok())
        .unwrap_or(0)
}

/// The floats of a small tensor that was checked; `None` for other types and longer ones.
pub(super) fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != FLOAT {
        return None;
    }
    let raw = tensor.raw_data.chunks_exact(4).filter_map(|n| Some(f32::from_le_bytes(n.try_into().ok()?)));
    let found: Vec<f32> = tensor.float_data.iter().copied().chain(raw).take(READ_MAX + 1).collect();
    (found.len() <= READ_MAX).then_some(found)
}

/// The floats or doubles of a tensor that was checked, exactly; `None` for other types.
pub(super) fn reals(tensor: &TensorProto) -> Option<Vec<f64>> {
    const DOUBLE: i32 = 11;
    let raw = &tensor.raw_data;
    Some(match tensor.data_type {
        FLOAT if raw.is_empty() => tensor.float_data.iter().copied().map(f64::from).collect(),
        FLOAT => raw.chunks_exact(4).filter_map(|n| Some(f64::from(f32::from_le_bytes(n.try_into().ok()?)))).collect(),
        DOUBLE if raw.is_empty() => tensor.double_data.clone(),
        DOUBLE => raw.chunks_exact(8).filter_map(|n| Some(f64::from_le_bytes(n.try_into().ok()?))).collect(),
        _ => return None,
    })
}

/// The bytes of a tensor of UINT8 that was checked; `None` for other types.
pub(super) fn bytes(tensor: &TensorProto) -> Option<Vec<u8>> {
    const UINT8: i32 = 2;
    if tensor.data_type != UINT8 {
        return None;
    }
    if tensor.raw_data.is_empty() {
        return tensor.int32_data.iter().map(|number| u8::try_from(*number).ok()).collect();
    }
    Some(tensor.raw_data.clone())
}
