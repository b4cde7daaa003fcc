//! Numbers of stored tensors, whose types and lengths were validated.

use tract_onnx::pb::TensorProto;

use super::model::{FLOAT, INT8, UINT8};

const INT32: i32 = 6;

/// Floats; `None` for other types.
pub(super) fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != FLOAT {
        return None;
    }
    let raw = tensor.raw_data.chunks_exact(4).filter_map(|bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?)));
    Some(raw.chain(tensor.float_data.iter().copied()).collect())
}

/// Integers of 32 bits; `None` for other types.
pub(super) fn integers(tensor: &TensorProto) -> Option<Vec<i32>> {
    if tensor.data_type != INT32 {
        return None;
    }
    let raw = tensor.raw_data.chunks_exact(4).filter_map(|bytes| Some(i32::from_le_bytes(bytes.try_into().ok()?)));
    Some(raw.chain(tensor.int32_data.iter().copied()).collect())
}

/// Bytes as int8: of unsigned ones, 128 less. `None` for other types.
pub(super) fn bytes(tensor: &TensorProto) -> Option<Vec<i8>> {
    let fields = tensor.int32_data.iter();
    match tensor.data_type {
        INT8 => {
            let raw = tensor.raw_data.iter().map(|byte| Some(byte.cast_signed()));
            raw.chain(fields.map(|number| i8::try_from(*number).ok())).collect()
        }
        UINT8 => {
            let raw = tensor.raw_data.iter().map(|byte| Some(signed(*byte)));
            raw.chain(fields.map(|number| u8::try_from(*number).ok().map(signed))).collect()
        }
        _ => None,
    }
}

/// 128 less.
pub(super) const fn signed(byte: u8) -> i8 {
    (byte ^ 0x80).cast_signed()
}

/// 128 more.
pub(super) const fn unsigned(value: i8) -> u8 {
    value.cast_unsigned() ^ 0x80
}
