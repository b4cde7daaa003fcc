//! Reads NumPy's `.npz`: a zip of `.npy` arrays, plain or deflated, with limits on everything.
//!
//! The format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use bellwether_protocol::limit::RANK_MAX;
use bellwether_protocol::manifest::DataType;
use zip::ZipArchive;

use crate::tensor::Data;

/// Most bytes of all arrays together, unpacked: vectors of a thousand rows of a small image.
pub const NPZ_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most arrays of one file: inputs, outputs and what else belongs to them.
pub const ARRAYS_MAX: usize = 64;

/// An array of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The sizes of its dimensions.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub data: Data,
}

/// Why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NpzError {
    #[error("not a readable .npz (a zip of NumPy arrays, as numpy.savez writes): {0}")]
    Zip(String),
    #[error("{got} arrays: at most {ARRAYS_MAX} are read")]
    TooMany { got: usize },
    #[error("the arrays take more than {NPZ_BYTES_MAX} bytes")]
    TooLarge,
    #[error("array `{name}`: {why}")]
    Array { name: String, why: String },
}

/// Reads all arrays by name; `x.npy` inside the file is array `x`.
///
/// # Errors
///
/// [`NpzError`].
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, Array>, NpzError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|why| NpzError::Zip(why.to_string()))?;
    if archive.len() > ARRAYS_MAX {
        return Err(NpzError::TooMany { got: archive.len() });
    }
    let mut arrays = BTreeMap::new();
    let mut room = NPZ_BYTES_MAX;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|why| NpzError::Zip(why.to_string()))?;
        let name = entry.name().strip_suffix(".npy").unwrap_or(entry.name()).to_owned();
        let mut content = Vec::new();
        // The size that the zip claims is not believed: one byte beyond the room is enough to know.
        entry
            .take(room + 1)
            .read_to_end(&mut content)
            .map_err(|why| NpzError::Array { name: name.clone(), why: why.to_string() })?;
        room = room.checked_sub(content.len() as u64).ok_or(NpzError::TooLarge)?;
        let array = npy(&content).map_err(|why| NpzError::Array { name: name.clone(), why })?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

/// Reads a single array, as `numpy.save` writes it.
///
/// # Errors
///
/// [`NpzError`].
pub fn read_one(bytes: &[u8]) -> Result<Array, NpzError> {
    if bytes.len() as u64 > NPZ_BYTES_MAX {
        return Err(NpzError::TooLarge);
    }
    npy(bytes).map_err(|why| NpzError::Array { name: "the file".to_owned(), why })
}

fn npy(bytes: &[u8]) -> Result<Array, String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("it does not begin like a .npy")?;
    let (head, data) = match rest {
        [1, _, low, high, rest @ ..] => rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high]))),
        [2 | 3, _, a, b, c, d, rest @ ..] => rest.split_at_checked(u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        _ => None,
    }
    .ok_or("its header is cut short or of an unknown version")?;
    let head = std::str::from_utf8(head).map_err(|_| "its header is not text")?;
    if field(head, "fortran_order") == Some("True") {
        return Err("it is stored column by column: save numpy.ascontiguousarray(x)".into());
    }
    let shape =
        shape(head).ok_or_else(|| format!("its shape is not readable or has more than {RANK_MAX} dimensions"))?;
    let descr = field(head, "descr").map(|text| text.trim_matches(['\'', '"'])).ok_or("it has no descr")?;
    let data = elements(descr, data)?;
    let expected = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    if expected != Some(data.len()) {
        return Err(format!("its shape {shape:?} does not hold {} elements", data.len()));
    }
    Ok(Array { shape, data })
}

/// The value of a field of the header, a Python dictionary of literals.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let after = head.split_once(&format!("'{name}':"))?.1.trim_start();
    let end = if after.starts_with('(') { after.find(')')? + 1 } else { after.find([',', '}'])? };
    after.get(..end).map(str::trim)
}

fn shape(head: &str) -> Option<Vec<usize>> {
    let inner = field(head, "shape")?.strip_prefix('(')?.strip_suffix(')')?;
    let sizes = inner.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<usize> = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
    (shape.len() <= RANK_MAX).then_some(shape)
}

fn elements(descr: &str, bytes: &[u8]) -> Result<Data, String> {
    let datatype = match descr {
        "|b1" => DataType::Bool,
        "|u1" => DataType::Uint8,
        "|i1" => DataType::Int8,
        "<i4" => DataType::Int32,
        "<i8" => DataType::Int64,
        "<f4" => DataType::Fp32,
        "<f8" => DataType::Fp64,
        "<i2" => DataType::Int16,
        "<u2" => DataType::Uint16,
        "<u4" => DataType::Uint32,
        "<u8" => DataType::Uint64,
        _ => {
            return Err(format!(
                "its element type `{descr}` is not supported: use float32, float64, integers of 8 to 64 bits or bool"
            ));
        }
    };
    Data::from_le_bytes(datatype, bytes).ok_or_else(|| "its last element is cut short".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_read_with_their_types() {
        let arrays = read(include_bytes!("../../../tests/data/digits.npz")).unwrap();
        assert_eq!(arrays["images"].shape, [1797, 64]);
        assert_eq!(arrays["images"].data.datatype(), DataType::Uint8);
        assert_eq!(arrays["held_out"].shape, [360]);
        assert_eq!(arrays["held_out"].data.datatype(), DataType::Uint16);
    }

    #[test]
    fn damaged_arrays_say_what_is_wrong() {
        assert!(matches!(read(include_bytes!("../../../tests/data/bad/truncated.vectors.npz")), Err(NpzError::Zip(_))));
        let array = |head: &str, data: &[u8]| {
            let length = u16::try_from(head.len()).unwrap().to_le_bytes();
            npy(&[b"\x93NUMPY\x01\0", length.as_slice(), head.as_bytes(), data].concat())
        };
        let head =
            |descr: &str, shape: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        assert_eq!(array(&head("<f4", "(1,)"), &[0; 4]).unwrap().shape, [1]);
        assert_eq!(array(&head("<f4", "()"), &[0; 4]).unwrap().shape, [0usize; 0]);
        assert!(array(&head("<f4", "(2,)"), &[0; 4]).unwrap_err().contains("does not hold 1"));
        assert!(array(&head("<f4", "(1,)"), &[0; 3]).unwrap_err().contains("cut short"));
        assert!(array(&head("|O", "(1,)"), &[]).unwrap_err().contains("not supported"));
        assert!(array(&head("<f4", &format!("({0},{0},{0})", u64::MAX)), &[]).unwrap_err().contains("does not hold"));
        assert!(npy(b"\x93NUMPY\x01\0\xff\xff").is_err());
    }
}
