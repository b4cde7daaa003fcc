//! Quantised numbers: `real = (stored - zero point) * scale`, rounded half to even, saturated.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers are clamped to their type before they are narrowed, and bits are reinterpreted"
)]

use tract_onnx::prelude::{DatumType, Tensor, TractResult};
use tract_onnx::tract_core::internal::{Datum, bail};

/// An element type of quantised tensors.
pub(super) trait Quantised: Datum + Copy + Default {
    /// The least value.
    const LOW: i32;
    /// The greatest value.
    const HIGH: i32;

    /// The same number in 32 bits.
    fn wide(self) -> i32;

    /// A number that lies within the type.
    fn narrow(number: i32) -> Self;
}

macro_rules! quantised {
    ($($kind:ty),*) => {$(
        impl Quantised for $kind {
            const LOW: i32 = <$kind>::MIN as i32;
            const HIGH: i32 = <$kind>::MAX as i32;

            #[inline(always)]
            fn wide(self) -> i32 {
                i32::from(self)
            }

            #[inline(always)]
            fn narrow(number: i32) -> Self {
                number as Self
            }
        }
    )*};
}

quantised!(u8, i8, u16, i16);

/// Runs the same expression with the type behind an element type of 8 bits, or of 8 and 16.
macro_rules! with_type {
    ($kind:expr, $name:ident => $body:expr) => {
        match $kind.unquantized() {
            tract_onnx::prelude::DatumType::U8 => {
                type $name = u8;
                $body
            }
            tract_onnx::prelude::DatumType::I8 => {
                type $name = i8;
                $body
            }
            other => tract_onnx::tract_core::internal::bail!("{other:?} is no integer of 8 bits"),
        }
    };
    ($kind:expr, wide $name:ident => $body:expr) => {
        match $kind.unquantized() {
            tract_onnx::prelude::DatumType::U16 => {
                type $name = u16;
                $body
            }
            tract_onnx::prelude::DatumType::I16 => {
                type $name = i16;
                $body
            }
            narrow => $crate::ops::quant::number::with_type!(narrow, $name => $body),
        }
    };
}
pub(super) use with_type;

/// Adding it to a number of at most 22 bits leaves the rounded one in the lowest bits: every
/// processor does that on whole vectors, which is not so for rounding itself.
const SHIFT: f32 = 12_582_912.0;

/// Rounds half to even and clamps; what is no number becomes the least one. The bounds are whole
/// numbers of at most 22 bits.
#[inline(always)]
pub(super) fn rounded(number: f32, low: f32, high: f32) -> i32 {
    let above = if number > low { number } else { low };
    let within = if above < high { above } else { high };
    ((within + SHIFT).to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32)
}

/// How reals become numbers of a type: their inverse scale is known elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Target {
    /// The number that stands for 0.
    pub(super) zero: i32,
    /// Least number, less the zero point.
    pub(super) low: f32,
    /// Greatest number, less the zero point.
    pub(super) high: f32,
}

impl Target {
    /// The whole range of a type.
    pub(super) fn of<Q: Quantised>(zero: i32) -> Self {
        Self::within::<Q>(zero, None, None)
    }

    /// A part of the range of a type.
    pub(super) fn within<Q: Quantised>(zero: i32, low: Option<i32>, high: Option<i32>) -> Self {
        let zero = zero.clamp(Q::LOW, Q::HIGH);
        let low = low.unwrap_or(Q::LOW).clamp(Q::LOW, Q::HIGH);
        let high = high.unwrap_or(Q::HIGH).clamp(low, Q::HIGH);
        Self { zero, low: (low - zero) as f32, high: (high - zero) as f32 }
    }

    /// The number for a real that is divided by the scale already.
    #[inline(always)]
    pub(super) fn number<Q: Quantised>(self, scaled: f32) -> Q {
        Q::narrow(rounded(scaled, self.low, self.high).wrapping_add(self.zero))
    }
}

/// The positive scales of an input.
///
/// # Errors
///
/// They are no floats, or one is not positive.
pub(super) fn scales(tensor: &Tensor) -> TractResult<Vec<f32>> {
    let scales = floats(tensor)?;
    if scales.is_empty() || scales.iter().any(|scale| scale.is_nan() || *scale < 0.0) {
        bail!("a scale is missing or not positive");
    }
    Ok(scales)
}

/// Floats of 32 bits.
///
/// # Errors
///
/// They are of another type.
pub(super) fn floats(tensor: &Tensor) -> TractResult<Vec<f32>> {
    Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

/// The only number of an input.
///
/// # Errors
///
/// There are none or several.
pub(super) fn only<T: Copy>(list: &[T]) -> TractResult<T> {
    match list {
        [one] => Ok(*one),
        _ => bail!("{} numbers where one is needed", list.len()),
    }
}

/// The zero points of an input, which is absent where they are 0.
///
/// # Errors
///
/// Their type.
pub(super) fn zeros(tensor: Option<&Tensor>) -> TractResult<Vec<i32>> {
    let Some(tensor) = tensor else { return Ok(vec![0]) };
    let view = tensor.try_as_plain_ram()?;
    let kind = tensor.datum_type().unquantized();
    if kind == DatumType::I32 {
        return Ok(view.as_slice::<i32>()?.to_vec());
    }
    Ok(with_type!(kind, wide Q => view.as_slice::<Q>()?.iter().map(|zero| zero.wide()).collect()))
}

/// Numbers less their zero point, which lie within -255 to 255.
///
/// # Errors
///
/// Their type is not one of 8 bits.
pub(super) fn centred(tensor: &Tensor, zero: i32) -> TractResult<Vec<i16>> {
    let zero = zero.clamp(-128, 255) as i16;
    let view = tensor.try_as_plain_ram()?;
    Ok(with_type!(tensor.datum_type(), Q => {
        view.as_slice::<Q>()?.iter().map(|number| i16::from(*number) - zero).collect()
    }))
}

/// A tensor that `fill` writes, if there is something to write.
///
/// # Errors
///
/// Those of `fill`.
pub(super) fn filled<T: Datum>(shape: &[usize], fill: impl FnOnce(&mut [T]) -> TractResult<()>) -> TractResult<Tensor> {
    let mut tensor = Tensor::zero_dt(T::datum_type(), shape)?;
    if tensor.len() > 0 {
        fill(tensor.try_as_plain_ram_mut()?.as_slice_mut::<T>()?)?;
    }
    Ok(tensor)
}

/// One value for each of `count` channels: as many as there are, or the same for all.
///
/// # Errors
///
/// There are neither.
pub(super) fn spread<T: Copy>(list: &[T], count: usize) -> TractResult<Vec<T>> {
    match list {
        [one] => Ok(vec![*one; count]),
        _ if list.len() == count => Ok(list.to_vec()),
        _ => bail!("{} numbers for {count} channels", list.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbour_and_the_rest_saturates() {
        let byte = Target::of::<u8>(10);
        let numbers = [-30.0, -0.5, 0.5, 1.5, 2.5, 2.500_01, 300.0, f32::NAN, f32::INFINITY];
        let got: Vec<u8> = numbers.iter().map(|number| byte.number(*number)).collect();
        assert_eq!(got, [0, 10, 10, 12, 12, 13, 255, 0, 255]);
        let signed = Target::within::<i8>(-5, Some(-5), Some(20));
        let got: Vec<i8> = [-9.0, 3.0, 30.0].iter().map(|number| signed.number(*number)).collect();
        assert_eq!(got, [-5, -2, 20]);
        let wide = Target::of::<i16>(0);
        assert_eq!([-40_000.0, 32_766.5].map(|number| wide.number::<i16>(number)), [-32_768, 32_766]);
    }
}
