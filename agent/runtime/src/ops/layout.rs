//! Operators that move elements, or add up what overlaps: `SpaceToDepth` in both orders (tract knows
//! one), `CenterCropPad`, `Col2Im`; and `Swish` with its factor, which tract takes for 1.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, SpecialOps as _, TDim, TVec, Tensor, TractResult, TypedModel, tvec};
use tract_onnx::tract_core::internal::{AxisOp, DimLike as _, StaticName, bail};
use tract_onnx::tract_core::prelude::OutletId;
use tract_onnx::tract_hir::infer::{InferenceOp, InferenceResult, ShapeFactoid, Solver, TensorProxy};
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

use super::kernel::{Kernel, Known, Made, input, operator};

/// As many elements as a tensor may have.
#[expect(clippy::cast_possible_truncation, reason = "2²⁵")]
const ELEMENTS: usize = crate::validate::ELEMENTS_MAX as usize;

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("CenterCropPad", center_crop_pad);
    operators.insert("Col2Im", col2im);
    operators.insert("Swish", swish);
    operators.insert("SpaceToDepth", space_to_depth);
}

fn space_to_depth(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let block = node.get_attr_opt::<usize>("blocksize")?.unwrap_or(1);
    let is_columns_first = match node.get_attr_opt::<&str>("mode")?.unwrap_or("DCR") {
        "DCR" => false,
        "CRD" => true,
        other => bail!("mode `{other}` is none of DCR, CRD"),
    };
    Ok((expand(SpaceToDepth { block, is_columns_first }), vec![]))
}

fn center_crop_pad(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let axes = node.get_attr_opt_vec::<i64>("axes")?;
    Ok((operator(CenterCropPad { axes }), vec![]))
}

fn col2im(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let list = |name: &str| -> TractResult<Vec<usize>> { Ok(node.get_attr_opt_vec(name)?.unwrap_or_default()) };
    let (strides, pads, dilations) = (list("strides")?, list("pads")?, list("dilations")?);
    Ok((operator(Col2Im { strides, pads, dilations }), vec![]))
}

fn swish(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let factor = node.get_attr_opt::<f32>("alpha")?.unwrap_or(1.0);
    Ok((operator(Swish { factor: factor.to_bits() }), vec![]))
}

/// Blocks of an image `[N, C, H, W]` to channels.
#[derive(Clone, Debug)]
struct SpaceToDepth {
    block: usize,
    /// Whether the channels of one old channel lie side by side.
    is_columns_first: bool,
}

impl SpaceToDepth {
    fn shape(&self, of: &[TDim]) -> TractResult<TVec<TDim>> {
        let ([rows, channels, height, width], 1..) = (of, self.block) else {
            bail!("{of:?} is no image, or {} no size of a block", self.block);
        };
        let block = self.block;
        Ok(tvec!(rows.clone(), channels.clone() * (block * block), height.clone() / block, width.clone() / block))
    }
}

impl Expansion for SpaceToDepth {
    fn name(&self) -> StaticName {
        "SpaceToDepth".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let ([of], [made]) = (inputs, outputs) else { bail!("{} inputs, {} outputs", inputs.len(), outputs.len()) };
        solver.equals(&of.datum_type, &made.datum_type)?;
        solver
            .given(&of.shape, move |solver, shape| solver.equals(&made.shape, ShapeFactoid::from(self.shape(&shape)?)))
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let shape = model.outlet_fact(input(inputs, 0)?)?.shape.to_tvec();
        let [_, channels, height, width] = shape.as_slice() else { bail!("{shape:?} is no image") };
        let block = TDim::from(self.block);
        let (high, wide) = (height.clone() / self.block, width.clone() / self.block);
        if high.clone() * self.block != *height || wide.clone() * self.block != *width {
            bail!("an image of {height} by {width} does not split into blocks of {}", self.block);
        }
        // [N, C, H/b, b, W/b, b]
        let split =
            AxisOp::Reshape(2, tvec!(height.clone(), width.clone()), tvec!(high, block.clone(), wide, block.clone()));
        let merged = tvec!(channels.clone() * (self.block * self.block));
        let steps = if self.is_columns_first {
            let apart = tvec!(channels.clone(), block.clone(), block);
            [split, AxisOp::Move(3, 2), AxisOp::Move(5, 3), AxisOp::Reshape(1, apart, merged)]
        } else {
            let apart = tvec!(block.clone(), block, channels.clone());
            [split, AxisOp::Move(3, 1), AxisOp::Move(5, 2), AxisOp::Reshape(1, apart, merged)]
        };
        let mut wire: TVec<OutletId> = inputs.into();
        for (index, step) in steps.into_iter().enumerate() {
            wire = model.wire_node(format!("{prefix}.{index}"), step, &wire)?;
        }
        Ok(wire)
    }
}

/// The numbers of a stored input.
fn stored(known: Known<'_>) -> TractResult<TVec<usize>> {
    let Some(value) = known.value else { bail!("sizes must be stored in the model") };
    numbers(value)
}

fn numbers(tensor: &Tensor) -> TractResult<TVec<usize>> {
    let wide = tensor.cast_to::<i64>()?;
    wide.try_as_plain_ram()?.as_slice::<i64>()?.iter().map(|size| Ok(usize::try_from(*size)?)).collect()
}

/// How many elements sizes hold.
fn product(sizes: &[usize]) -> TractResult<usize> {
    let product = sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
    match product.filter(|product| *product <= ELEMENTS) {
        Some(product) => Ok(product),
        None => bail!("more than {ELEMENTS} elements"),
    }
}

/// Cuts or fills around the middle so that axes have the sizes of the second input.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CenterCropPad {
    axes: Option<Vec<i64>>,
}

impl CenterCropPad {
    /// Each axis that changes, with its new size.
    fn targets(&self, rank: usize, sizes: &[usize]) -> TractResult<Vec<(usize, usize)>> {
        let axis = |axis: &i64| -> TractResult<usize> {
            let axis = if *axis < 0 { *axis + i64::try_from(rank)? } else { *axis };
            Ok(usize::try_from(axis)?)
        };
        let axes: Vec<usize> = match &self.axes {
            Some(axes) => axes.iter().map(axis).collect::<TractResult<_>>()?,
            None => (0..rank).collect(),
        };
        if axes.len() != sizes.len() || axes.iter().any(|axis| *axis >= rank) {
            bail!("{} sizes for the axes {axes:?} of {rank}", sizes.len());
        }
        Ok(axes.into_iter().zip(sizes.iter().copied()).collect())
    }
}

impl Kernel for CenterCropPad {
    const NAME: &'static str = "CenterCropPad";
    const STORED: &'static [usize] = &[1];

    fn facts(&self, inputs: &[Known<'_>]) -> TractResult<TVec<Made>> {
        let of = input(inputs, 0)?;
        let mut shape: TVec<TDim> = of.shape.into();
        for (axis, size) in self.targets(shape.len(), &stored(input(inputs, 1)?)?)? {
            if let Some(old) = shape.get_mut(axis) {
                *old = size.into();
            }
        }
        Ok(tvec!((of.datum_type, shape)))
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let mut made = input(inputs, 0)?.clone();
        for (axis, size) in self.targets(made.rank(), &numbers(input(inputs, 1)?)?)? {
            let old = made.shape().get(axis).copied().unwrap_or(0);
            if size < old {
                let start = (old - size) / 2;
                made = made.slice(axis, start, start + size)?;
            } else if size > old {
                let mut shape: TVec<usize> = made.shape().into();
                shape.iter_mut().skip(axis).take(1).for_each(|old| *old = size);
                let start = (size - old) / 2;
                let mut wider = Tensor::zero_dt(made.datum_type(), &shape)?;
                wider.assign_slice(start..start + old, &made, 0..old, axis)?;
                made = wider;
            }
        }
        Ok(tvec!(made))
    }
}

/// Puts windows back into an image; where they overlap they are added.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Col2Im {
    strides: Vec<usize>,
    pads: Vec<usize>,
    dilations: Vec<usize>,
}

impl Col2Im {
    /// For each axis of the image: stride, pad before, dilation.
    fn steps(&self, axis: usize) -> (usize, usize, usize) {
        let at = |list: &[usize], default| list.get(axis).copied().unwrap_or(default);
        (at(&self.strides, 1), at(&self.pads, 0), at(&self.dilations, 1))
    }

    /// How many windows lie along an axis.
    fn windows(&self, axis: usize, image: usize, block: usize, rank: usize) -> Option<usize> {
        let (stride, before, dilation) = self.steps(axis);
        let after = self.pads.get(rank + axis).copied().unwrap_or(0);
        let reach = dilation.checked_mul(block.checked_sub(1)?)?.checked_add(1)?;
        Some(image.checked_add(before)?.checked_add(after)?.checked_sub(reach)?.checked_div(stride)? + 1)
    }
}

impl Kernel for Col2Im {
    const NAME: &'static str = "Col2Im";
    const STORED: &'static [usize] = &[1, 2];

    fn facts(&self, inputs: &[Known<'_>]) -> TractResult<TVec<Made>> {
        let (of, image, block) = (input(inputs, 0)?, stored(input(inputs, 1)?)?, stored(input(inputs, 2)?)?);
        let [rows, columns, _] = of.shape else { bail!("windows of {:?} are no rows, elements, windows", of.shape) };
        let size = product(&block)?;
        if image.len() != block.len() || size == 0 {
            bail!("an image of {} dimensions of blocks of {}", image.len(), block.len());
        }
        let channels = columns.to_usize()? / size;
        let shape = [rows.clone(), channels.into()].into_iter().chain(image.into_iter().map(TDim::from)).collect();
        Ok(tvec!((of.datum_type, shape)))
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (of, image, block) = (input(inputs, 0)?, numbers(input(inputs, 1)?)?, numbers(input(inputs, 2)?)?);
        let rank = image.len();
        let size = product(&block)?;
        let counts: Option<Vec<usize>> = (image.iter().zip(&block).enumerate())
            .map(|(axis, (image, block))| self.windows(axis, *image, *block, rank))
            .collect();
        let (&[rows, columns, windows], Some(counts), true) = (of.shape(), counts, rank == block.len() && size > 0)
        else {
            bail!("an image {image:?} of blocks {block:?} from {:?}", of.shape());
        };
        if product(&counts)? != windows || !columns.is_multiple_of(size) {
            bail!("{columns} elements of {windows} windows for {counts:?} windows of {block:?}");
        }
        let channels = columns / size;
        let area = product(&image)?;
        let mut sums = vec![0.0; product(&[rows, channels, area])?];
        let wide = of.cast_to::<f64>()?;
        let wide = wide.try_as_plain_ram()?;
        for (place, value) in wide.as_slice::<f64>()?.iter().enumerate() {
            let (window, element) = (place % windows, place / windows % columns);
            let (within, plane) = (element % size, place / windows / columns * channels + element / size);
            if let Some(at) = self.target((window, &counts), (within, &block), &image)
                && let Some(sum) = sums.get_mut(plane * area + at)
            {
                *sum += value;
            }
        }
        let shape: TVec<usize> = [rows, channels].into_iter().chain(image).collect();
        Ok(tvec!(Tensor::from_shape(&shape, &sums)?.cast_to_dt(of.datum_type())?.into_owned()))
    }
}

impl Col2Im {
    /// Where in the image an element of a window belongs; `None` in the padding.
    fn target(
        &self,
        (mut window, counts): (usize, &[usize]),
        (mut within, block): (usize, &[usize]),
        image: &[usize],
    ) -> Option<usize> {
        let (mut at, mut width) = (0, 1);
        for axis in (0..image.len()).rev() {
            let (count, block, image) = (*counts.get(axis)?, *block.get(axis)?, *image.get(axis)?);
            let (stride, before, dilation) = self.steps(axis);
            let place = ((window % count) * stride + (within % block) * dilation).checked_sub(before)?;
            if place >= image {
                return None;
            }
            (window, within) = (window / count, within / block);
            at += place * width;
            width *= image;
        }
        Some(at)
    }
}

/// `x * sigmoid(factor * x)`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Swish {
    /// The bits of an `f32`, which have an equality.
    factor: u32,
}

impl Kernel for Swish {
    const NAME: &'static str = "Swish";

    fn facts(&self, inputs: &[Known<'_>]) -> TractResult<TVec<Made>> {
        let of = input(inputs, 0)?;
        Ok(tvec!((of.datum_type, of.shape.into())))
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let of = input(inputs, 0)?;
        let factor = f32::from_bits(self.factor);
        let made = if of.datum_type() == DatumType::F64 {
            let numbers = of.try_as_plain_ram()?;
            let swish = |x: &f64| x / (1.0 + (-f64::from(factor) * x).exp());
            Tensor::from_shape(of.shape(), &numbers.as_slice::<f64>()?.iter().map(swish).collect::<Vec<f64>>())?
        } else {
            let single = of.cast_to::<f32>()?;
            let numbers = single.try_as_plain_ram()?;
            let swish = |x: &f32| x / (1.0 + (-factor * x).exp());
            Tensor::from_shape(of.shape(), &numbers.as_slice::<f32>()?.iter().map(swish).collect::<Vec<f32>>())?
        };
        Ok(tvec!(made.cast_to_dt(of.datum_type())?.into_owned()))
    }
}
