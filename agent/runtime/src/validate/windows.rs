//! Convolutions and pools: a window for each dimension of space, none larger than what it slides
//! over.

use tract_onnx::pb::NodeProto;

use super::attributes::{int, ints, text};
use super::shapes::{Computed, Inputs, Shape, elements, quantisation, shown};
use super::{EXTENT_MAX, Fault};

/// Numbers of a window, one for each dimension of space.
struct Window {
    kernel: Vec<u64>,
    strides: Vec<u64>,
    dilations: Vec<u64>,
    /// Before and after; `None` if tract chooses them so that the size is kept.
    pads: Option<Vec<(u64, u64)>>,
    rounds_up: bool,
}

fn positive(list: &[i64]) -> Vec<u64> {
    list.iter().map(|value| u64::try_from(*value).unwrap_or(0)).collect()
}

fn window(node: &NodeProto, kernel: Vec<u64>) -> Result<Window, Fault> {
    let space = kernel.len();
    if space == 0 || kernel.iter().any(|size| !(1..=EXTENT_MAX.unsigned_abs()).contains(size)) {
        return Err(Fault::broken(format!("a kernel of {kernel:?}: 1 to {EXTENT_MAX} are supported")));
    }
    let list = |name: &str| match ints(node, name) {
        None => Ok(vec![1; space]),
        Some(list) if list.len() == space => Ok(positive(list)),
        Some(list) => {
            Err(Fault::broken(format!("`{name}` has {} entries for a kernel of {space} dimensions", list.len())))
        }
    };
    let pads = match (text(node, "auto_pad"), ints(node, "pads")) {
        ("SAME_UPPER" | "SAME_LOWER", None) => None,
        (_, None) => Some(vec![(0, 0); space]),
        (_, Some(pads)) if pads.len() == 2 * space => {
            let pads = positive(pads);
            let (before, after) = pads.split_at_checked(space).unwrap_or((&pads, &[]));
            Some(before.iter().copied().zip(after.iter().copied()).collect())
        }
        (_, Some(pads)) => {
            return Err(Fault::broken(format!(
                "`pads` has {} entries: two for each of {space} dimensions",
                pads.len()
            )));
        }
    };
    let rounds_up = int(node, "ceil_mode").unwrap_or(0) != 0;
    Ok(Window { kernel, strides: list("strides")?, dilations: list("dilations")?, pads, rounds_up })
}

impl Window {
    /// How far a kernel reaches along a dimension.
    fn reach(&self, at: usize) -> u64 {
        let kernel = self.kernel.get(at).copied().unwrap_or(1);
        self.dilations.get(at).copied().unwrap_or(1).saturating_mul(kernel.saturating_sub(1)).saturating_add(1)
    }

    /// The space that comes out.
    fn slid(&self, space: &[Option<u64>]) -> Result<Shape, Fault> {
        let mut out = Shape::new();
        for (at, size) in space.iter().enumerate() {
            let stride = self.strides.get(at).copied().unwrap_or(1).max(1);
            let Some(size) = size else {
                out.push(None);
                continue;
            };
            let Some(pads) = &self.pads else {
                out.push(Some(size.div_ceil(stride)));
                continue;
            };
            let (before, after) = pads.get(at).copied().unwrap_or_default();
            let padded = size.saturating_add(before).saturating_add(after);
            let Some(steps) = padded.checked_sub(self.reach(at)) else {
                return Err(Fault::broken(format!(
                    "a kernel that reaches over {} slides over {padded} along dimension {at} of space",
                    self.reach(at)
                )));
            };
            out.push(Some(if self.rounds_up { steps.div_ceil(stride) } else { steps / stride } + 1));
        }
        Ok(out)
    }

    /// The space that comes out of a transposed convolution.
    fn spread(&self, node: &NodeProto, space: &[Option<u64>]) -> Result<Shape, Fault> {
        let more = positive(ints(node, "output_padding").unwrap_or_default());
        if ints(node, "output_padding").is_some() && more.len() != space.len() {
            return Err(Fault::broken(format!("`output_padding` has {} entries", more.len())));
        }
        // Pads follow from the size then, not the other way around.
        if self.pads.is_none() || ints(node, "output_shape").is_some() {
            return Ok(vec![None; space.len()]);
        }
        let mut out = Shape::new();
        for (at, size) in space.iter().enumerate() {
            let stride = self.strides.get(at).copied().unwrap_or(1);
            let (before, after) = self.pads.as_ref().and_then(|pads| pads.get(at).copied()).unwrap_or_default();
            let Some(size) = size else {
                out.push(None);
                continue;
            };
            let whole = size.saturating_sub(1).saturating_mul(stride).saturating_add(self.reach(at));
            let whole = whole.saturating_add(more.get(at).copied().unwrap_or(0));
            match whole.checked_sub(before.saturating_add(after)) {
                Some(size) if size > 0 => out.push(Some(size)),
                _ => return Err(Fault::broken(format!("its pads of {before} and {after} leave nothing of {whole}"))),
            }
        }
        Ok(out)
    }
}

type Size = Option<u64>;

/// The input's rows, channels and space.
fn image(shape: &[Size]) -> Result<(Size, Size, &[Size]), Fault> {
    match shape {
        [rows, channels, space @ ..] if !space.is_empty() => Ok((*rows, *channels, space)),
        _ => Err(Fault::broken(format!("its input {} has no space", shown(shape)))),
    }
}

/// Conv, ConvInteger, QLinearConv and ConvTranspose.
pub(super) fn convolution<'m>(node: &NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let is_quantised = node.op_type == "QLinearConv";
    if is_quantised {
        scales(node, inputs)?;
    }
    let weights = if is_quantised { 3 } else { 1 };
    let is_transposed = node.op_type == "ConvTranspose";
    let (Some(input), Some(weight)) = (inputs.shape(0), inputs.shape(weights)) else { return Ok(Computed::one(None)) };
    let (rows, channels, space) = image(input)?;
    let (first, second, kernel) = image(weight)?;
    if kernel.len() != space.len() {
        return Err(Fault::broken(format!("a kernel of {} slides over {}", shown(weight), shown(input))));
    }
    let Some(kernel) = kernel.iter().copied().collect::<Option<Vec<u64>>>() else { return Ok(Computed::one(None)) };
    if ints(node, "kernel_shape").is_some_and(|shape| positive(shape) != kernel) {
        return Err(Fault::broken(format!("`kernel_shape` is not that of the weights, {}", shown(weight))));
    }
    let group = int(node, "group").and_then(|group| u64::try_from(group).ok()).unwrap_or(1).max(1);
    let (taken, made) = if is_transposed {
        (first, second.map(|made| made.saturating_mul(group)))
    } else {
        (second.map(|taken| taken.saturating_mul(group)), first)
    };
    let is_grouped = [taken, made].into_iter().flatten().all(|channels| channels > 0 && channels.is_multiple_of(group));
    if !is_grouped || taken.zip(channels).is_some_and(|(taken, channels)| taken != channels) {
        return Err(Fault::broken(format!("weights {} in {group} groups do not fit {}", shown(weight), shown(input))));
    }
    let bias = if is_quantised { 8 } else { 2 };
    let has_bias = matches!(node.op_type.as_str(), "Conv" | "QLinearConv" | "ConvTranspose");
    if let (true, Some(shape), Some(made)) = (has_bias, inputs.shape(bias), made)
        && shape != [Some(made)]
        && !shape.iter().any(Option::is_none)
    {
        return Err(Fault::broken(format!("its bias has shape {}, {made} numbers are needed", shown(shape))));
    }
    let window = window(node, kernel)?;
    let out = if is_transposed { window.spread(node, space)? } else { window.slid(space)? };
    let shape: Shape = [rows, made].into_iter().chain(out.iter().copied()).collect();
    let places = if is_transposed { elements(space) } else { elements(&out) };
    let work = elements(weight).saturating_mul(places).saturating_mul(rows.unwrap_or(1));
    Ok(Computed { work, ..Computed::one(Some(shape)) })
}

/// Scales and zero points of QLinearConv: input, weights, output.
fn scales(node: &NodeProto, inputs: Inputs<'_, '_>) -> Result<(), Fault> {
    quantisation(node, inputs, [0, 1, 2])?;
    quantisation(node, inputs, [0, 6, 7])?;
    // One scale for each output channel is lawful, and lies along axis 0 of the weights.
    let (given, made) = (inputs.shape(4), inputs.shape(3).and_then(|weight| weight.first().copied().flatten()));
    let count = given.map_or(1, elements);
    if count > 1 && made.is_some_and(|made| made != count) {
        return Err(Fault::broken(format!("{count} scales for weights with {made:?} output channels")));
    }
    if count == 1 { quantisation(node, inputs, [3, 4, 5]) } else { Ok(()) }
}

/// MaxPool and AveragePool.
pub(super) fn pool<'m>(node: &NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let Some(kernel) = ints(node, "kernel_shape") else { return Err(Fault::broken("it has no `kernel_shape`")) };
    let window = window(node, positive(kernel))?;
    let is_padded_wider = |(pads, kernel): (&(u64, u64), &u64)| pads.0 >= *kernel || pads.1 >= *kernel;
    if window.dilations.iter().all(|dilation| *dilation == 1)
        && window.pads.iter().any(|pads| pads.iter().zip(&window.kernel).any(is_padded_wider))
    {
        return Err(Fault::broken("its pads are as wide as its kernel, so that it would look at pads alone"));
    }
    let Some(input) = inputs.shape(0) else { return Ok(Computed::one(None)) };
    let (rows, channels, space) = image(input)?;
    if space.len() != window.kernel.len() {
        return Err(Fault::broken(format!("a kernel of {:?} slides over {}", window.kernel, shown(input))));
    }
    let out = window.slid(space)?;
    let shape: Shape = [rows, channels].into_iter().chain(out).collect();
    let kernel = window.kernel.iter().fold(1u64, |product, size| product.saturating_mul(*size));
    Ok(Computed { work: elements(&shape).saturating_mul(kernel), ..Computed::one(Some(shape)) })
}
