//! Inner loops over slices, each for the widest vectors that the processor has.
//!
//! The vectors come from `fearless_simd`: it looks once at the processor and calls the loop that was
//! compiled for it, without unsafe code here. Everything between that call and the vectors is
//! `#[inline(always)]`, or it would be compiled for the oldest processor.

pub(crate) mod curves;
pub(crate) mod depthwise;
pub(crate) mod linear;
pub(crate) mod space;

use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::anyhow;

pub(crate) use linear::{Linear, Source, Starts};

/// What follows a sum: between these bounds, a NaN stays one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Clamp {
    /// The least that comes out.
    pub(crate) low: f32,
    /// The most that comes out.
    pub(crate) high: f32,
}

impl Default for Clamp {
    fn default() -> Self {
        Self { low: f32::NEG_INFINITY, high: f32::INFINITY }
    }
}

impl Clamp {
    /// A number between the bounds.
    pub(crate) fn of(self, value: f32) -> f32 {
        let value = if value < self.low { self.low } else { value };
        if value > self.high { self.high } else { value }
    }
}

/// The product of sizes.
///
/// # Errors
///
/// More numbers than can be addressed together.
pub(crate) fn count(sizes: &[usize]) -> TractResult<usize> {
    sizes
        .iter()
        .try_fold(1usize, |product, size| product.checked_mul(*size))
        .filter(|count| *count <= usize::MAX / 16)
        .ok_or_else(|| anyhow!("{sizes:?} is too large"))
}
