//! Owned tensors: a name, a shape and numbers. The types of the runtime below stop at [`crate::cpu`].

use bellwether_protocol::id::TensorName;
use bellwether_protocol::manifest::DataType;

/// The elements of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the type of the same name")]
pub enum Data {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Int8(Vec<i8>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Int16(Vec<i16>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
}

/// Runs the same expression whatever the type of the elements is.
#[macro_export]
macro_rules! each_type {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            $crate::Data::Bool($values) => $body,
            $crate::Data::Uint8($values) => $body,
            $crate::Data::Int8($values) => $body,
            $crate::Data::Int32($values) => $body,
            $crate::Data::Int64($values) => $body,
            $crate::Data::Fp32($values) => $body,
            $crate::Data::Fp64($values) => $body,
            $crate::Data::Int16($values) => $body,
            $crate::Data::Uint16($values) => $body,
            $crate::Data::Uint32($values) => $body,
            $crate::Data::Uint64($values) => $body,
        }
    };
}

impl Data {
    /// The type of the elements.
    #[must_use]
    pub const fn datatype(&self) -> DataType {
        match self {
            Self::Bool(_) => DataType::Bool,
            Self::Uint8(_) => DataType::Uint8,
            Self::Int8(_) => DataType::Int8,
            Self::Int32(_) => DataType::Int32,
            Self::Int64(_) => DataType::Int64,
            Self::Fp32(_) => DataType::Fp32,
            Self::Fp64(_) => DataType::Fp64,
            Self::Int16(_) => DataType::Int16,
            Self::Uint16(_) => DataType::Uint16,
            Self::Uint32(_) => DataType::Uint32,
            Self::Uint64(_) => DataType::Uint64,
        }
    }

    /// How many elements there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        each_type!(self, values => values.len())
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `index` as a number, `true` being 1; whole numbers beyond 2⁵³ lose their last bits.
    #[must_use]
    pub fn number(&self, index: usize) -> Option<f64> {
        match self {
            Self::Bool(values) => values.get(index).map(|value| f64::from(u8::from(*value))),
            Self::Uint8(values) => values.get(index).copied().map(f64::from),
            Self::Int8(values) => values.get(index).copied().map(f64::from),
            Self::Int32(values) => values.get(index).copied().map(f64::from),
            Self::Int64(values) => values.get(index).map(|value| *value as f64),
            Self::Fp32(values) => values.get(index).copied().map(f64::from),
            Self::Fp64(values) => values.get(index).copied(),
            Self::Int16(values) => values.get(index).copied().map(f64::from),
            Self::Uint16(values) => values.get(index).copied().map(f64::from),
            Self::Uint32(values) => values.get(index).copied().map(f64::from),
            Self::Uint64(values) => values.get(index).map(|value| *value as f64),
        }
    }

    /// The elements `range`; `None` if some are missing.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Option<Self> {
        Some(match self {
            Self::Bool(values) => Self::Bool(values.get(range)?.to_vec()),
            Self::Uint8(values) => Self::Uint8(values.get(range)?.to_vec()),
            Self::Int8(values) => Self::Int8(values.get(range)?.to_vec()),
            Self::Int32(values) => Self::Int32(values.get(range)?.to_vec()),
            Self::Int64(values) => Self::Int64(values.get(range)?.to_vec()),
            Self::Fp32(values) => Self::Fp32(values.get(range)?.to_vec()),
            Self::Fp64(values) => Self::Fp64(values.get(range)?.to_vec()),
            Self::Int16(values) => Self::Int16(values.get(range)?.to_vec()),
            Self::Uint16(values) => Self::Uint16(values.get(range)?.to_vec()),
            Self::Uint32(values) => Self::Uint32(values.get(range)?.to_vec()),
            Self::Uint64(values) => Self::Uint64(values.get(range)?.to_vec()),
        })
    }

    /// Reads elements from little-endian bytes, one byte for a `BOOL`; `None` if the bytes are no
    /// whole number of elements.
    #[must_use]
    pub fn from_le_bytes(datatype: DataType, bytes: &[u8]) -> Option<Self> {
        macro_rules! read {
            ($variant:ident, $type:ty) => {{
                let (elements, rest) = bytes.as_chunks::<{ size_of::<$type>() }>();
                if !rest.is_empty() {
                    return None;
                }
                Self::$variant(elements.iter().map(|element| <$type>::from_le_bytes(*element)).collect())
            }};
        }
        Some(match datatype {
            DataType::Bool => Self::Bool(bytes.iter().map(|byte| *byte != 0).collect()),
            DataType::Uint8 => Self::Uint8(bytes.to_vec()),
            DataType::Int8 => read!(Int8, i8),
            DataType::Int32 => read!(Int32, i32),
            DataType::Int64 => read!(Int64, i64),
            DataType::Fp32 => read!(Fp32, f32),
            DataType::Fp64 => read!(Fp64, f64),
            DataType::Int16 => read!(Int16, i16),
            DataType::Uint16 => read!(Uint16, u16),
            DataType::Uint32 => read!(Uint32, u32),
            DataType::Uint64 => read!(Uint64, u64),
        })
    }

    /// Appends the elements as little-endian bytes.
    pub fn extend_le_bytes(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Bool(values) => bytes.extend(values.iter().map(|value| u8::from(*value))),
            Self::Uint8(values) => bytes.extend_from_slice(values),
            Self::Int8(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Int32(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Int64(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Fp32(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Fp64(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Int16(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Uint16(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Uint32(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Uint64(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        }
    }
}

/// A named tensor whose number of elements is the product of its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// As the model names it.
    pub name: TensorName,
    shape: Vec<usize>,
    data: Data,
}

/// More or fewer elements than the shape holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tensor `{name}` of shape {shape:?} has {got} elements: expected {expected}")]
pub struct BadLength {
    /// The tensor.
    pub name: TensorName,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How many elements came.
    pub got: usize,
    /// How many the shape holds.
    pub expected: usize,
}

impl Tensor {
    /// A tensor, row-major.
    ///
    /// # Errors
    ///
    /// [`BadLength`] if shape and elements do not agree.
    pub fn new(name: TensorName, shape: Vec<usize>, data: Data) -> Result<Self, BadLength> {
        let expected = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        if expected == Some(data.len()) {
            return Ok(Self { name, shape, data });
        }
        Err(BadLength { name, shape, got: data.len(), expected: expected.unwrap_or(usize::MAX) })
    }

    /// The sizes of its dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements.
    #[must_use]
    pub const fn data(&self) -> &Data {
        &self.data
    }

    /// The type of its elements.
    #[must_use]
    pub const fn datatype(&self) -> DataType {
        self.data.datatype()
    }

    /// Its first dimension: how many rows it holds; 1 for a scalar.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Appends the rows of another tensor of the same type and width; others are left out.
    pub(crate) fn extend_rows(&mut self, other: &Self) {
        macro_rules! extend {
            ($($variant:ident),+) => {
                match (&mut self.data, &other.data) {
                    $((Data::$variant(to), Data::$variant(from)) => to.extend(from),)+
                    _ => return,
                }
            };
        }
        extend!(Bool, Uint8, Int8, Int32, Int64, Fp32, Fp64, Int16, Uint16, Uint32, Uint64);
        if let Some(rows) = self.shape.first_mut() {
            *rows += other.rows();
        }
    }

    /// Rows `range` of it; `None` for a scalar or beyond the end.
    #[must_use]
    pub fn row_range(&self, range: std::ops::Range<usize>) -> Option<Self> {
        let (rows, rest) = self.shape.split_first()?;
        if range.start > range.end || range.end > *rows {
            return None;
        }
        let width: usize = rest.iter().product();
        let data = self.data.slice(range.start * width..range.end * width)?;
        let shape = std::iter::once(range.len()).chain(rest.iter().copied()).collect();
        Some(Self { name: self.name.clone(), shape, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_read_back_from_their_bytes() {
        let data = Data::Int64(vec![-1, i64::MAX]);
        let mut bytes = Vec::new();
        data.extend_le_bytes(&mut bytes);
        assert_eq!(Data::from_le_bytes(DataType::Int64, &bytes), Some(data));
        assert_eq!(Data::from_le_bytes(DataType::Int64, &bytes[1..]), None);
    }

    #[test]
    fn shape_and_elements_must_agree() {
        let name: TensorName = "x".parse().unwrap();
        assert!(Tensor::new(name.clone(), vec![2, 2], Data::Uint8(vec![0; 3])).is_err());
        assert!(Tensor::new(name.clone(), vec![usize::MAX, 2], Data::Uint8(vec![])).is_err());
        let tensor = Tensor::new(name, vec![3, 2], Data::Uint8(vec![1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!(tensor.row_range(1..3).unwrap().data(), &Data::Uint8(vec![3, 4, 5, 6]));
        assert!(tensor.row_range(2..4).is_none());
    }
}
