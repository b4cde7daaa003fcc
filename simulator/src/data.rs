//! The images that simulated cameras see: the UCI optical digits, 8 by 8 grey levels of 0 to 16.

use anyhow::{Context as _, bail};
use bellwether_protocol::id::TensorName;
use bellwether_runtime::{Data, Tensor, npz};

/// The images, their labels and which of them no model was trained on.
static DIGITS: &[u8] = include_bytes!("../../tests/data/digits.npz");
/// Pixels of an image.
const PIXELS: usize = 64;
/// Brightest grey level.
const BRIGHTEST: f32 = 16.0;

/// One image as a model takes it.
#[derive(Clone, Debug)]
pub struct Image {
    /// `image`, `[1, 64]`, 0 to 1.
    pub tensor: Tensor,
    /// The digit a person saw.
    pub label: u8,
}

/// The images that no model was trained on, in the order of the set.
///
/// # Errors
///
/// If the set that is built in does not read.
pub fn held_out() -> anyhow::Result<Vec<Image>> {
    let arrays = npz::read(DIGITS)?;
    let array =
        |name: &str| arrays.get(name).map(|array| &array.data).with_context(|| format!("the digits have no `{name}`"));
    let (Data::Uint8(pixels), Data::Uint8(labels)) = (array("images")?, array("labels")?) else {
        bail!("images and labels are not bytes");
    };
    let Data::Int32(chosen) = array("held_out")? else { bail!("the held-out rows are not 16-bit numbers") };
    let name: TensorName = "image".parse()?;
    let image = |row: &i32| -> Option<Image> {
        let row = usize::try_from(*row).ok()?;
        let pixels = pixels.chunks_exact(PIXELS).nth(row)?;
        let data = Data::Fp32(pixels.iter().map(|pixel| f32::from(*pixel) / BRIGHTEST).collect());
        let tensor = Tensor::new(name.clone(), vec![1, PIXELS], data).ok()?;
        Some(Image { tensor, label: *labels.get(row)? })
    };
    chosen.iter().map(image).collect::<Option<Vec<_>>>().context("a held-out row is not in the set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_held_out_digits_are_all_there() {
        let images = held_out().expect("the set is built in");
        assert_eq!(images.len(), 360);
        assert!((0..10).all(|digit| images.iter().any(|image| image.label == digit)));
    }
}
