//! Reads tract's `EinSum` as rows multiplied with stored weights, if it is that.

use tract_onnx::prelude::{Tensor, TractResult};
use tract_onnx::tract_core::ops::einsum::EinSum;

use super::image::Turn;

/// The letters of an `EinSum` of one value with stored weights.
pub(super) struct Axes {
    value: Vec<char>,
    weights: Vec<char>,
    made: Vec<char>,
    /// Whether each letter names one axis of an operand at most.
    is_plain: bool,
}

/// Weights for [`super::kernels::Linear`].
pub(super) struct Plan {
    /// `[depth, width]`.
    pub(super) weights: Vec<f32>,
    /// How many numbers come out for a row.
    pub(super) width: usize,
    /// How many of the last axes make up a row.
    pub(super) taken: usize,
}

impl Axes {
    /// With the weights at input `stored`.
    pub(super) fn read(einsum: &EinSum, stored: usize) -> Self {
        let mut axes = Self { value: Vec::new(), weights: Vec::new(), made: Vec::new(), is_plain: true };
        let mut places: [Vec<(usize, char)>; 3] = Default::default();
        for axis in einsum.axes.iter_all_axes() {
            let of = |list: Option<&tract_onnx::prelude::TVec<usize>>| list.map(|at| at.to_vec()).unwrap_or_default();
            let found = [of(axis.inputs.get(1 - stored)), of(axis.inputs.get(stored)), of(axis.outputs.first())];
            for (place, at) in places.iter_mut().zip(found) {
                axes.is_plain &= at.len() <= 1;
                place.extend(at.into_iter().map(|at| (at, axis.repr)));
            }
        }
        places.iter_mut().for_each(|place| place.sort_unstable());
        let letters = |place: &Vec<(usize, char)>| place.iter().map(|(_, letter)| *letter).collect();
        let [value, weights, made] = &places;
        Self { value: letters(value), weights: letters(weights), made: letters(made), ..axes }
    }

    /// How many axes come out.
    pub(super) fn made(&self) -> usize {
        self.made.len()
    }

    /// Whether the second axis of three or more is multiplied: a convolution of single pixels.
    pub(super) fn is_image(&self) -> bool {
        self.value.len() >= 3 && self.value.get(1).is_some_and(|letter| !self.made.contains(letter))
    }

    /// The weights in our order, where rows are the last axes of the value and outputs the last axis of
    /// what is made; with channels last on either side if so said.
    pub(super) fn fit(&self, weights: &Tensor, last_in: bool, last_out: bool) -> TractResult<Option<Plan>> {
        if !self.is_plain || (last_in && self.value.len() < 3) || (last_out && self.made.len() < 3) {
            return Ok(None);
        }
        let turn = Turn { to_last: true };
        let value = if last_in { turn.sizes(&self.value) } else { self.value.as_slice().into() };
        let made = if last_out { turn.sizes(&self.made) } else { self.made.as_slice().into() };
        let Some((output, kept)) = made.split_last() else { return Ok(None) };
        let Some((rows, taken)) = value.split_at_checked(kept.len()) else { return Ok(None) };
        // An axis of a single number is there for broadcasting only.
        let weighted: Vec<char> = self
            .weights
            .iter()
            .zip(weights.shape())
            .filter(|(letter, size)| **size != 1 || taken.contains(letter) || *letter == output)
            .map(|(letter, _)| *letter)
            .collect();
        let is_fitting = rows == kept
            && !value.contains(output)
            && self.weights.contains(output)
            && taken.iter().all(|letter| self.weights.contains(letter))
            && weighted.len() == taken.len() + 1
            && !taken.is_empty();
        if !is_fitting {
            return Ok(None);
        }
        let order: Option<Vec<usize>> = taken
            .iter()
            .chain([output])
            .chain(self.weights.iter().filter(|letter| !weighted.contains(letter)))
            .map(|letter| self.weights.iter().position(|weight| weight == letter))
            .collect();
        let Some(order) = order else { return Ok(None) };
        let turned = weights.clone().permute_axes(&order)?;
        let width = turned.shape().get(taken.len()).copied().unwrap_or(0);
        if width == 0 || turned.len() == 0 {
            return Ok(None);
        }
        let weights = turned.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        Ok(Some(Plan { weights, width, taken: taken.len() }))
    }
}
