//! The window of a convolution or a pool, and its way over an image.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{TDim, TractResult};
use tract_onnx::tract_core::internal::{DimLike as _, ToDim as _, bail, ensure};

/// How pads are given.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pads {
    /// Before each dimension, then after each.
    Given(Vec<usize>),
    /// As many as keep the size, the odd one after.
    SameUpper,
    /// The same, the odd one before.
    SameLower,
}

/// Strides, dilations and pads as attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Pads,
}

impl Window {
    /// Reads a node.
    ///
    /// # Errors
    ///
    /// Attributes of another type, or a way of padding that ONNX does not know.
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let list = |name: &str| -> TractResult<Vec<usize>> {
            let list = node.get_attr_opt_vec::<i64>(name)?.unwrap_or_default();
            Ok(list.into_iter().map(usize::try_from).collect::<Result<_, _>>()?)
        };
        let pads = match node.get_attr_opt::<String>("auto_pad")?.as_deref() {
            Some("SAME_UPPER") => Pads::SameUpper,
            Some("SAME_LOWER") => Pads::SameLower,
            Some("VALID") => Pads::Given(Vec::new()),
            Some("NOTSET" | "") | None => Pads::Given(list("pads")?),
            Some(other) => bail!("auto_pad {other} is not supported"),
        };
        Ok(Self { strides: list("strides")?, dilations: list("dilations")?, pads })
    }

    /// The window along one of so many dimensions of space.
    pub(super) fn axis(&self, axis: usize, space: usize) -> Axis {
        let one = |list: &[usize]| list.get(axis).copied().unwrap_or(1).max(1);
        let (before, after) = match &self.pads {
            Pads::Given(pads) => {
                let pad = |at: usize| pads.get(at).copied().unwrap_or(0);
                (pad(axis), pad(axis + space))
            }
            Pads::SameUpper | Pads::SameLower => (0, 0),
        };
        let same = match self.pads {
            Pads::Given(_) => None,
            Pads::SameUpper => Some(false),
            Pads::SameLower => Some(true),
        };
        Axis { stride: one(&self.strides), dilation: one(&self.dilations), before, after, same }
    }
}

/// A window along one dimension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
    /// Whether the size is kept, and then whether the odd pad stands before.
    same: Option<bool>,
}

impl Axis {
    fn reach(self, kernel: usize) -> usize {
        self.dilation * kernel.saturating_sub(1) + 1
    }

    /// The size that comes out.
    ///
    /// # Errors
    ///
    /// The window is wider than what it slides over.
    pub(super) fn slid(self, size: &TDim, kernel: usize) -> TractResult<TDim> {
        if self.same.is_some() {
            return Ok(size.divceil(self.stride));
        }
        let padded = size.clone() + (self.before + self.after).to_dim();
        let steps = padded - self.reach(kernel).to_dim();
        if let Ok(steps) = steps.to_i64() {
            ensure!(steps >= 0, "a window of {} is wider than what it slides over", self.reach(kernel));
        }
        Ok(steps / self.stride + 1)
    }

    /// The window over a known size.
    ///
    /// # Errors
    ///
    /// It is wider than that, or dilated.
    pub(super) fn span(self, size: usize, kernel: usize) -> TractResult<Span> {
        ensure!(self.dilation == 1, "a dilation of {}", self.dilation);
        let (out, before) = self.known(size, kernel)?;
        Ok(Span { out, stride: self.stride, before, kernel, size })
    }

    /// Outputs and pads before for a known size.
    fn known(self, size: usize, kernel: usize) -> TractResult<(usize, usize)> {
        let reach = self.reach(kernel);
        if let Some(is_before) = self.same {
            let out = size.div_ceil(self.stride);
            let pads = (out.saturating_sub(1) * self.stride + reach).saturating_sub(size);
            return Ok((out, if is_before { pads.div_ceil(2) } else { pads / 2 }));
        }
        let Some(steps) = (size + self.before + self.after).checked_sub(reach) else {
            bail!("a window of {reach} is wider than what it slides over");
        };
        Ok((steps / self.stride + 1, self.before))
    }
}

/// A window without dilation along one dimension of a known size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// How many outputs there are.
    pub(super) out: usize,
    stride: usize,
    before: usize,
    kernel: usize,
    /// How many numbers it slides over.
    pub(super) size: usize,
}

impl Span {
    /// Over a dimension that is not there.
    pub(super) const fn flat() -> Self {
        Self { out: 1, stride: 1, before: 0, kernel: 1, size: 1 }
    }

    /// The first place that the window of an output meets, and the one after its last.
    pub(super) fn reach(&self, output: usize) -> (usize, usize) {
        let start = output * self.stride;
        let end = (start + self.kernel).saturating_sub(self.before).min(self.size);
        (start.saturating_sub(self.before).min(end), end)
    }
}

/// The way of a window over images of one size. Each lies in a frame: channels last, with its pads, as far
/// as windows reach.
#[derive(Debug)]
pub(super) struct Path {
    axes: [Axis; 2],
    kernel: [usize; 2],
    channels: usize,
    /// Numbers of a frame that are counted as one, and how many of those are from one pixel to the next.
    lanes: usize,
    pitch: usize,
    /// Height and width of the image.
    size: [usize; 2],
    /// Height and width that come out.
    pub(super) out: [usize; 2],
    pads: [usize; 2],
    /// Height and width of the frame.
    wide: [usize; 2],
}

impl Path {
    /// For a window over one dimension of space or two, and the height, width and channels of an image.
    ///
    /// # Errors
    ///
    /// The window is wider than the image.
    pub(super) fn of(
        window: &Window,
        space: usize,
        [height, width, channels]: [usize; 3],
        kernel: [usize; 2],
    ) -> TractResult<Self> {
        let flat = Axis { stride: 1, dilation: 1, before: 0, after: 0, same: None };
        let axes = if space == 1 { [flat, window.axis(0, 1)] } else { [window.axis(0, 2), window.axis(1, 2)] };
        let ([vertical, horizontal], [rows, columns]) = (axes, kernel);
        let (down, top) = vertical.known(height, rows)?;
        let (across, left) = horizontal.known(width, columns)?;
        let wide = |axis: Axis, out: usize, kernel: usize| {
            out.saturating_sub(1).saturating_mul(axis.stride).saturating_add(axis.reach(kernel))
        };
        Ok(Self {
            axes,
            kernel,
            channels,
            lanes: 1,
            pitch: channels,
            size: [height, width],
            out: [down, across],
            pads: [top, left],
            wide: [wide(vertical, down, rows), wide(horizontal, across, columns)],
        })
    }

    /// The same where the pixels of a frame are vectors of so many numbers, which then are what is counted.
    pub(super) const fn in_vectors(self, lanes: usize) -> Self {
        Self { lanes, pitch: self.channels.div_ceil(lanes), ..self }
    }

    /// Numbers of a frame.
    pub(super) fn frame(&self) -> usize {
        self.wide.into_iter().fold(self.pitch * self.lanes, usize::saturating_mul)
    }

    /// Numbers of an image.
    pub(super) fn image(&self) -> usize {
        self.size.iter().product::<usize>() * self.channels
    }

    /// Places that the window comes to.
    pub(super) fn places(&self) -> usize {
        self.out.iter().product()
    }

    /// Whether each pixel is looked at by itself, and all of them are.
    pub(super) fn is_pixels(&self) -> bool {
        self.kernel == [1, 1] && self.out == self.size && self.wide == self.size && self.pads == [0, 0]
    }

    /// Where in the frame the window begins at each place.
    pub(super) fn starts(&self) -> Vec<usize> {
        let ([rows, columns], [vertical, horizontal]) = (self.out, self.axes);
        self.at(rows, vertical.stride, columns, horizontal.stride)
    }

    /// Where the pixels lie that the kernel meets, from the beginning of a window.
    pub(super) fn taps(&self) -> Vec<usize> {
        let ([rows, columns], [vertical, horizontal]) = (self.kernel, self.axes);
        self.at(rows, vertical.dilation, columns, horizontal.dilation)
    }

    fn at(&self, rows: usize, down: usize, columns: usize, across: usize) -> Vec<usize> {
        let [_, wide] = self.wide;
        let mut places = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            let first = row * down * wide;
            places.extend((0..columns).map(|column| (first + column * across) * self.pitch));
        }
        places
    }

    /// How many pixels that the kernel meets lie side by side.
    pub(super) const fn together(&self) -> usize {
        let ([_, columns], [_, horizontal]) = (self.kernel, self.axes);
        if horizontal.dilation == 1 { columns } else { 1 }
    }

    /// Lays an image into its frame, which is 0 elsewhere.
    #[inline(always)]
    pub(super) fn lay<Q: Copy>(&self, image: &[Q], frame: &mut [i16], convert: impl Fn(Q) -> i16) {
        let ([_, width], [top, left], [_, wide]) = (self.size, self.pads, self.wide);
        let pitch = self.pitch * self.lanes;
        let (line, wide) = ((width * self.channels).max(1), (wide * pitch).max(1));
        let left = (left * pitch).min(wide);
        for (to, from) in frame.chunks_exact_mut(wide).skip(top).zip(image.chunks_exact(line)) {
            let to = to.get_mut(left..).unwrap_or_default();
            if pitch == self.channels {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = convert(*from));
                continue;
            }
            for (to, from) in to.chunks_exact_mut(pitch).zip(from.chunks_exact(self.channels)) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = convert(*from));
            }
        }
    }
}
