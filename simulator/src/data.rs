//! The images that simulated cameras see: the UCI optical digits, 8 by 8 grey levels of 0 to 16.

use anyhow::{Context as _, bail};
use bellwether_protocol::id::TensorName;
use bellwether_runtime::{Data, Tensor, npz};

/// The images, their labels and which of them no model was trained on.
static DIGITS: &[u8] = include_bytes!("../../tests/data/digits.npz");
/// Pixels of an image.
const PIXELS: usize = SIDE * SIDE;
/// Pixels of a side.
const SIDE: usize = 8;
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

/// A degraded camera: out of focus, darker, noisy.
#[derive(Clone, Copy, Debug)]
pub struct Degraded {
    /// What brightness is multiplied by.
    pub gain: f32,
    /// Most noise added or taken, as a share of full brightness.
    pub noise: f32,
}

impl Image {
    /// The image as a degraded camera sees it: each pixel the mean of its neighbourhood of 3 by 3,
    /// times the gain, plus noise drawn from `seed`.
    #[must_use]
    pub fn degraded(&self, how: Degraded, seed: u64) -> Self {
        let Data::Fp32(pixels) = self.tensor.data() else { return self.clone() };
        let mut state = seed;
        let seen = (0..PIXELS).map(|index| {
            let blurred = neighbourhood(pixels, index / SIDE, index % SIDE);
            (blurred * how.gain + how.noise * chance(&mut state)).clamp(0.0, 1.0)
        });
        let tensor = Tensor::new(self.tensor.name.clone(), vec![1, PIXELS], Data::Fp32(seen.collect()));
        tensor.map_or_else(|_| self.clone(), |tensor| Self { tensor, label: self.label })
    }
}

/// Mean of the pixels around one, those beyond the edge left out.
fn neighbourhood(pixels: &[f32], row: usize, column: usize) -> f32 {
    let (mut sum, mut count) = (0.0, 0.0);
    for y in row.saturating_sub(1)..(row + 2).min(SIDE) {
        for x in column.saturating_sub(1)..(column + 2).min(SIDE) {
            sum += pixels.get(y * SIDE + x).copied().unwrap_or_default();
            count += 1.0;
        }
    }
    sum / count
}

/// A number from -1 to 1; splitmix64 (Steele, Lea and Flood, 2014).
#[expect(clippy::cast_precision_loss, reason = "24 bits are exact")]
fn chance(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
}

/// Rows of the set as a CSV with a header: what a team would hand in as its baseline (the rows the
/// models were trained on) and as its held-out rows.
///
/// # Errors
///
/// If the set that is built in does not read.
pub fn csv(held_out: bool) -> anyhow::Result<String> {
    let arrays = npz::read(DIGITS)?;
    let (Some(Data::Uint8(pixels)), Some(Data::Uint16(chosen))) =
        (arrays.get("images").map(|array| &array.data), arrays.get("held_out").map(|array| &array.data))
    else {
        bail!("images or held-out rows are missing");
    };
    let names: Vec<String> = (0..PIXELS).map(|pixel| format!("row {} column {}", pixel / SIDE, pixel % SIDE)).collect();
    let mut text = names.join(",") + "\n";
    for (row, image) in pixels.chunks_exact(PIXELS).enumerate() {
        let is_held_out = chosen.iter().any(|chosen| usize::from(*chosen) == row);
        if is_held_out == held_out {
            let numbers: Vec<String> = image.iter().map(|pixel| (f32::from(*pixel) / BRIGHTEST).to_string()).collect();
            text.push_str(&numbers.join(","));
            text.push('\n');
        }
    }
    Ok(text)
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
    let Data::Uint16(chosen) = array("held_out")? else { bail!("the held-out rows are not 16-bit numbers") };
    let name: TensorName = "image".parse()?;
    let image = |row: &u16| -> Option<Image> {
        let row = usize::from(*row);
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
    fn a_degraded_image_is_dimmer_and_the_same_for_the_same_seed() {
        let images = held_out().expect("the set is built in");
        let image = images.first().expect("there are images");
        let how = Degraded { gain: 0.5, noise: 0.1 };
        let sum = |image: &Image| -> f32 {
            if let Data::Fp32(pixels) = image.tensor.data() { pixels.iter().sum() } else { 0.0 }
        };
        let seen = image.degraded(how, 7);
        assert!(sum(&seen) < sum(image) * 0.9);
        assert_eq!(seen.tensor, image.degraded(how, 7).tensor);
        assert_ne!(seen.tensor, image.degraded(how, 8).tensor);
    }

    #[test]
    fn the_set_is_handed_in_as_csv() {
        let (training, held_out) = (csv(false).expect("it reads"), csv(true).expect("it reads"));
        assert_eq!((training.lines().count(), held_out.lines().count()), (1 + 1437, 1 + 360));
    }

    #[test]
    fn the_held_out_digits_are_all_there() {
        let images = held_out().expect("the set is built in");
        assert_eq!(images.len(), 360);
        assert!((0..10).all(|digit| images.iter().any(|image| image.label == digit)));
    }
}
