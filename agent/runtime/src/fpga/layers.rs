//! What an operator of ONNX is for the engine.

use bellwether_fpga::compile::network::{Shape, Weights, What, Window};
use bellwether_fpga::requant::is_scale;
use tract_onnx::pb::NodeProto;

use super::quantised::{Parameter, Quantised};
use super::view::{self, View};
use super::window::{Slide, slide};
use crate::validate::{find, int};

/// What the engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Convolution,
    /// A matrix product; of `Gemm` with its attributes.
    Dense,
    Greatest,
    Mean,
}

impl Work {
    /// Of an operator on floats or on quantised values.
    pub(super) fn of(operator: &str) -> Option<Self> {
        Some(match operator {
            "Conv" | "QLinearConv" => Self::Convolution,
            "Gemm" | "MatMul" | "QGemm" | "QLinearMatMul" => Self::Dense,
            "MaxPool" | "GlobalMaxPool" => Self::Greatest,
            "AveragePool" | "GlobalAveragePool" | "QLinearAveragePool" | "QLinearGlobalAveragePool" => Self::Mean,
            _ => return None,
        })
    }

    /// Whether it has weights.
    pub(super) const fn is_trained(self) -> bool {
        matches!(self, Self::Convolution | Self::Dense)
    }

    /// The dimension of the weights along which the outputs lie.
    pub(super) fn outputs_axis(self, node: &NodeProto) -> usize {
        usize::from(self == Self::Dense && int(node, "transB").unwrap_or(0) == 0)
    }
}

/// An operator whose output's scale is not known yet.
pub(super) struct Half {
    what: What,
    window: Window,
}

/// A bias, once the units are known in which it is counted.
pub(super) type Bias<'b> = &'b dyn Fn(&[f32]) -> Result<Vec<i32>, String>;

/// An operator with weights, and what becomes of its input.
pub(super) fn trained(
    work: Work,
    node: &NodeProto,
    view: &mut View,
    input: &Quantised,
    parameter: &Parameter,
    bias: Bias<'_>,
) -> Result<Half, String> {
    let axis = work.outputs_axis(node);
    let Some(outputs) = parameter.sizes.get(axis).copied() else {
        return Err(format!("its weights have {} dimensions", parameter.sizes.len()));
    };
    // onnxruntime multiplies these two first.
    let units: Vec<f32> = parameter.scales(axis, outputs)?.iter().map(|scale| input.scale * scale).collect();
    let bias = bias(&units)?;
    let weights = |values: Vec<i8>| Weights { values, bias, scales: units };
    match work {
        Work::Convolution => convolution(node, view, parameter, weights),
        Work::Dense | Work::Greatest | Work::Mean => dense(node, view, parameter, weights),
    }
}

fn convolution(
    node: &NodeProto,
    view: &mut View,
    parameter: &Parameter,
    weights: impl FnOnce(Vec<i8>) -> Weights,
) -> Result<Half, String> {
    let (shape, space) = view.image()?;
    let [outputs, inputs, kernel @ ..] = &parameter.sizes[..] else {
        return Err("its weights have less than three dimensions".to_owned());
    };
    let kernel = match *kernel {
        [columns] if space == 1 => [1, columns],
        [rows, columns] if space == 2 => [rows, columns],
        _ => return Err(format!("its kernel has {} dimensions in {space} of space", kernel.len())),
    };
    let channels = usize::from(shape.channels);
    let group = usize::try_from(int(node, "group").unwrap_or(1)).unwrap_or(0);
    let is_depthwise = group > 1 && group == channels && *outputs == channels && *inputs == 1;
    if !is_depthwise && (group != 1 || *inputs != channels) {
        return Err(format!(
            "{group} groups of {inputs} of {channels} channels make {outputs}: one group, or one for each channel"
        ));
    }
    let Slide { window, out: [rows, columns], .. } = slide(node, shape, space, kernel)?;
    let [height, width] = kernel;
    // [outputs, inputs, rows, columns] to [outputs, rows, columns, inputs].
    let places = (0..*outputs).flat_map(|output| {
        (0..height * width)
            .flat_map(move |place| (0..*inputs).map(move |input| (output * inputs + input) * height * width + place))
    });
    let weights = weights(gathered(parameter.symmetric()?, places)?);
    *view = view.made(view::shape(rows, columns, *outputs)?, space);
    let what = if is_depthwise { What::Depthwise(weights) } else { What::Convolution(weights) };
    Ok(Half { what, window })
}

/// A kernel of the whole image.
fn dense(
    node: &NodeProto,
    view: &mut View,
    parameter: &Parameter,
    weights: impl FnOnce(Vec<i8>) -> Weights,
) -> Result<Half, String> {
    let is_one = |name: &str| find(node, name).is_none_or(|factor| factor.f.to_bits() == 1.0_f32.to_bits());
    if int(node, "transA").unwrap_or(0) != 0 || !is_one("alpha") || !is_one("beta") {
        return Err("it transposes its input, or has factors".to_owned());
    }
    let held = view.row()?;
    let [first, second] = parameter.sizes[..] else {
        return Err(format!("its weights have {} dimensions: a matrix is needed", parameter.sizes.len()));
    };
    let is_turned = Work::Dense.outputs_axis(node) == 0;
    let (inputs, outputs) = if is_turned { (second, first) } else { (first, second) };
    if inputs != held.shape.count() {
        return Err(format!("its weights are for {inputs} inputs, {} come", held.shape.count()));
    }
    let place =
        |input: usize, output: usize| if is_turned { output * inputs + input } else { input * outputs + output };
    let places = (0..outputs).flat_map(|output| held.order.places(held.shape).map(move |input| place(input, output)));
    let weights = weights(gathered(parameter.symmetric()?, places)?);
    *view = view.made(view::shape(1, 1, outputs)?, 0);
    Ok(Half { what: What::Convolution(weights), window: Window::whole(held.shape) })
}

fn gathered(values: &[i8], places: impl Iterator<Item = usize>) -> Result<Vec<i8>, String> {
    let found: Option<Vec<i8>> = places.map(|place| values.get(place).copied()).collect();
    found.ok_or_else(|| "its weights are fewer than their sizes say".to_owned())
}

/// A pool.
pub(super) fn pool(work: Work, node: &NodeProto, view: &mut View, input: &Quantised) -> Result<Half, String> {
    if int(node, "channels_last").unwrap_or(0) != 0 {
        return Err("its channels are last".to_owned());
    }
    let (shape, space) = view.image()?;
    let Slide { window, out: [rows, columns], is_widened } = if node.op_type.contains("Global") {
        Slide { window: Window::whole(shape), out: [1, 1], is_widened: false }
    } else {
        let kernel = match find(node, "kernel_shape").map(|kernel| &kernel.ints[..]) {
            Some([columns]) => [1, *columns],
            Some([rows, columns]) => [*rows, *columns],
            _ => return Err("its kernel is not one of one or two dimensions".to_owned()),
        };
        slide(node, shape, space, kernel.map(|size| usize::try_from(size).unwrap_or(0)))?
    };
    let is_padded = [window.before, window.after] != [[0, 0]; 2];
    if work == Work::Mean && is_padded && (is_widened || int(node, "count_include_pad").unwrap_or(0) == 0) {
        return Err("its mean leaves the padding out, which the engine counts in".to_owned());
    }
    let pads = window.before.iter().chain(&window.after).zip(window.kernel.iter().cycle());
    if work == Work::Greatest && pads.into_iter().any(|(pad, kernel)| u16::from(*pad) >= *kernel) {
        return Err("a kernel may lie wholly in its padding".to_owned());
    }
    if node.output.len() > 1 {
        return Err("it says where the greatest values are".to_owned());
    }
    *view = view.made(Shape { channels: shape.channels, ..view::shape(rows, columns, 1)? }, space);
    let what = if work == Work::Mean { What::Mean { sum_scale: input.scale } } else { What::Greatest };
    Ok(Half { what, window })
}

impl Half {
    /// Adds a bias to a product that has none.
    pub(super) fn add(&mut self, bias: Bias<'_>) -> Result<(), String> {
        match &mut self.what {
            What::Convolution(weights) if weights.bias.iter().all(|bias| *bias == 0) => {
                weights.bias = bias(&weights.scales)?;
                Ok(())
            }
            What::Convolution(_) | What::Depthwise(_) | What::Mean { .. } | What::Greatest => {
                Err("there is no product before it to add it to".to_owned())
            }
        }
    }

    /// The whole of it, as it comes out quantised.
    pub(super) fn quantised(self, input: &Quantised, output: &Quantised) -> Result<(What, Window), String> {
        let Self { mut what, window } = self;
        let scales = match &mut what {
            What::Convolution(weights) | What::Depthwise(weights) => {
                weights.scales.iter_mut().for_each(|scale| *scale /= output.scale);
                weights.scales.as_slice()
            }
            What::Mean { sum_scale } => {
                let [rows, columns] = window.kernel.map(f32::from);
                *sum_scale /= output.scale * (rows * columns);
                std::slice::from_ref(sum_scale)
            }
            What::Greatest if input.is_as(output) => &[],
            What::Greatest => return Err("what comes out is quantised otherwise than what goes in".to_owned()),
        };
        match scales.iter().find(|scale| !is_scale(**scale)) {
            Some(scale) => Err(format!("it multiplies by {scale:e}, which is not positive and normal")),
            None => Ok((what, window)),
        }
    }
}
