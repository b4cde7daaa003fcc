//! Operators over images whose channels come last, `[batch, (height,) width, channels]`, and dense
//! layers: what [`super::fast`] puts in the place of several of tract's.

use std::sync::Arc;

use tract_onnx::prelude::{Datum as _, TValue, TVec, Tensor, TractResult, TypedFact, tvec};
use tract_onnx::tract_core::internal::{
    DatumExt as _, EvalContext, EvalOp, IntoTValue as _, Op, StaticName, TypedOp, anyhow, as_op, ensure,
    op_as_typed_op, op_out_of_plan,
};

use super::kernels::depthwise::{Depthwise, Slide};
use super::kernels::space::{self, Pooling};
use super::kernels::{Linear, Source, Starts, count};

/// A convolution of all channels with each other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conv {
    slide: Slide,
    linear: Linear,
    /// Where windows begin in the framed image.
    starts: Vec<usize>,
    /// Where the numbers of a window are, from there.
    offsets: Vec<usize>,
}

impl Conv {
    /// `linear` has a row of `[kernel height, kernel width, channels]`.
    pub(super) fn new(slide: Slide, linear: Linear, size: [usize; 2], channels: usize) -> Self {
        let wide = slide.frame(size)[1];
        let grid = |[rows, columns]: [usize; 2], [down, across]: [usize; 2]| {
            let pixels = (0..rows).flat_map(move |row| (0..columns).map(move |column| [row, column]));
            pixels.map(move |[row, column]| (row * down * wide + column * across) * channels)
        };
        let starts = grid([slide.places(0, size[0]), slide.places(1, size[1])], slide.strides).collect();
        let pixels = grid(slide.kernel, slide.dilations);
        let offsets = pixels.flat_map(|pixel| (0..channels).map(move |channel| pixel + channel)).collect();
        Self { slide, linear, starts, offsets }
    }

    /// Slides over one image in its frame.
    fn apply(&self, data: &[f32], out: &mut [f32]) -> TractResult<()> {
        let starts = Starts::At(&self.starts);
        let source = Source { data, rows: self.starts.len(), starts, offsets: Some(&self.offsets) };
        self.linear.apply(&source, false, out)
    }
}

/// What is done to each image.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    /// A convolution.
    Conv(Conv),
    /// One kernel for each channel.
    Depthwise(Slide, Depthwise),
    /// A pool.
    Pool(Slide, Pooling),
}

/// Work on images of one size.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OnImages {
    /// What is done.
    pub(super) work: Arc<Work>,
    /// Height and width.
    pub(super) size: [usize; 2],
    /// Numbers of a pixel.
    pub(super) channels: usize,
    /// Whether there is no height.
    pub(super) is_line: bool,
}

impl Eq for OnImages {}

impl OnImages {
    fn slide(&self) -> &Slide {
        match self.work.as_ref() {
            Work::Conv(conv) => &conv.slide,
            Work::Depthwise(slide, _) | Work::Pool(slide, _) => slide,
        }
    }

    /// Height, width and channels of what comes out.
    fn made(&self) -> [usize; 3] {
        let slide = self.slide();
        let channels = match self.work.as_ref() {
            Work::Conv(conv) => conv.linear.width(),
            Work::Depthwise(..) | Work::Pool(..) => self.channels,
        };
        [slide.places(0, self.size[0]), slide.places(1, self.size[1]), channels]
    }

    /// Whether this takes an image of so many planes in the place of channels last.
    pub(super) fn takes_planes(&self, planes: usize) -> bool {
        matches!(self.work.as_ref(), Work::Conv(_)) && planes <= space::PLANES_MAX
    }

    /// Works on images, one after another; `frame` is room for one.
    ///
    /// # Errors
    ///
    /// Lengths that do not agree.
    pub(super) fn each(&self, data: &[f32], is_planar: bool, out: &mut [f32], frame: &mut Vec<f32>) -> TractResult<()> {
        let (taken, made) = (count(&[self.size[0], self.size[1], self.channels])?, count(&self.made())?);
        ensure!(taken > 0 && made > 0 && data.len() / taken == out.len() / made, "images of other sizes");
        let wide = self.slide().frame(self.size);
        let is_framed = is_planar || wide != self.size && matches!(self.work.as_ref(), Work::Conv(_));
        let size = if is_framed { count(&[wide[0], wide[1], self.channels])? } else { 0 };
        if frame.len() < size {
            frame.resize(size, 0.0);
        }
        let frame = frame.get_mut(..size).unwrap_or_default();
        for (image, out) in data.chunks_exact(taken).zip(out.chunks_exact_mut(made)) {
            if is_framed {
                space::framed(image, self.size, self.channels, is_planar, self.slide(), frame)?;
            }
            let image = if is_framed { &*frame } else { image };
            match self.work.as_ref() {
                Work::Conv(conv) => conv.apply(image, out)?,
                Work::Depthwise(_, depthwise) => depthwise.apply(image, self.size, out)?,
                Work::Pool(slide, how) => space::pool(*how, slide, image, self.size, self.channels, out)?,
            }
        }
        Ok(())
    }
}

impl Op for OnImages {
    fn name(&self) -> StaticName {
        match self.work.as_ref() {
            Work::Conv(_) => "ImageConv".into(),
            Work::Depthwise(..) => "ImageDepthwiseConv".into(),
            Work::Pool(..) => "ImagePool".into(),
        }
    }

    op_as_typed_op!();
}

impl EvalOp for OnImages {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = first(&inputs)?;
        let [height, width, channels] = self.made();
        let batch = input.shape().first().copied().unwrap_or(1);
        let shape = if self.is_line { tvec![batch, width, channels] } else { tvec![batch, height, width, channels] };
        filled(&shape, |out| self.each(input.try_as_plain_ram()?.as_slice()?, false, out, &mut Vec::new()))
    }
}

impl TypedOp for OnImages {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = *first(inputs)?;
        ensure!(input.datum_type == f32::datum_type() && input.rank() == if self.is_line { 3 } else { 4 });
        let mut fact = input.without_value();
        let made = self.made().into_iter().skip(usize::from(self.is_line));
        made.enumerate().for_each(|(axis, size)| fact.shape.set(axis + 1, size.into()));
        Ok(tvec![fact])
    }
}

/// Rows multiplied with fixed weights.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dense {
    /// The weights.
    pub(super) linear: Arc<Linear>,
    /// How many of the last axes make up a row.
    pub(super) taken: usize,
}

impl Eq for Dense {}

impl Op for Dense {
    fn name(&self) -> StaticName {
        "Dense".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Dense {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = first(&inputs)?;
        let kept = input.rank().saturating_sub(self.taken);
        let mut shape: TVec<usize> = input.shape().iter().copied().take(kept).collect();
        let rows = shape.iter().product();
        shape.push(self.linear.width());
        filled(&shape, |out| {
            let source = Source::rows(input.try_as_plain_ram()?.as_slice()?, rows, self.linear.depth());
            self.linear.apply(&source, false, out)
        })
    }
}

impl TypedOp for Dense {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = *first(inputs)?;
        ensure!(input.datum_type == f32::datum_type() && input.rank() >= self.taken);
        let kept = input.shape.iter().take(input.rank() - self.taken).cloned();
        let shape: TVec<_> = kept.chain([self.linear.width().into()]).collect();
        Ok(tvec![f32::fact(shape)])
    }
}

/// Moves channels from second to last, or back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Whether they become the last.
    pub(super) to_last: bool,
}

impl Turn {
    /// The same of any list of sizes.
    pub(super) fn sizes<T: Clone>(&self, sizes: &[T]) -> TVec<T> {
        let mut sizes: TVec<T> = sizes.into();
        if let Some(moved) = sizes.get_mut(1..) {
            if self.to_last { moved.rotate_left(1) } else { moved.rotate_right(1) }
        }
        sizes
    }
}

impl Op for Turn {
    fn name(&self) -> StaticName {
        if self.to_last { "ChannelsLast".into() } else { "ChannelsFirst".into() }
    }

    op_as_typed_op!();
}

impl EvalOp for Turn {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = first(&inputs)?;
        let [_, outer @ .., inner] = input.shape() else { return Err(anyhow!("no channels to move")) };
        let (rows, columns) = if self.to_last {
            let [channels, space @ ..] = outer else { return Ok(inputs) };
            (*channels, space.iter().product::<usize>() * inner)
        } else {
            (outer.iter().product(), *inner)
        };
        filled(&self.sizes(input.shape()), |out| {
            if out.is_empty() {
                return Ok(());
            }
            space::turn(input.try_as_plain_ram()?.as_slice()?, rows, columns, out)
        })
    }
}

impl TypedOp for Turn {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = *first(inputs)?;
        ensure!(input.datum_type == f32::datum_type() && input.rank() >= 3);
        Ok(tvec![f32::fact(self.sizes(&input.shape.to_tvec()))])
    }
}

/// The first input.
pub(super) fn first<T>(inputs: &[T]) -> TractResult<&T> {
    inputs.first().ok_or_else(|| anyhow!("an input is missing"))
}

/// A tensor that `fill` writes.
pub(super) fn filled(shape: &[usize], fill: impl FnOnce(&mut [f32]) -> TractResult<()>) -> TractResult<TVec<TValue>> {
    let mut out = Tensor::zero::<f32>(shape)?;
    fill(out.try_as_plain_ram_mut()?.as_slice_mut()?)?;
    Ok(tvec![out.into_tvalue()])
}
