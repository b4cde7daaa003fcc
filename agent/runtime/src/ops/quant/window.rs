//! The window of a convolution, and how an image lies so that it slides over neighbours.

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
    size: usize,
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

/// How an image of a size lies: rows and columns sorted by their remainder of the stride.
#[derive(Debug)]
pub(super) struct Laid {
    axes: [Axis; 2],
    kernel: [usize; 2],
    /// Height and width of the image.
    pub(super) size: [usize; 2],
    /// Height and width that come out.
    pub(super) out: [usize; 2],
    pads: [usize; 2],
    /// Rows and columns of each remainder.
    sorted: [usize; 2],
}

impl Laid {
    /// For a window over one dimension of space or two, an image and a kernel of these heights and widths.
    ///
    /// # Errors
    ///
    /// The window is wider than the image.
    pub(super) fn of(window: &Window, space: usize, size: [usize; 2], kernel: [usize; 2]) -> TractResult<Self> {
        let flat = Axis { stride: 1, dilation: 1, before: 0, after: 0, same: None };
        let axes = if space == 1 { [flat, window.axis(0, 1)] } else { [window.axis(0, 2), window.axis(1, 2)] };
        let ([vertical, horizontal], [height, width], [rows, columns]) = (axes, size, kernel);
        let (down, top) = vertical.known(height, rows)?;
        let (across, left) = horizontal.known(width, columns)?;
        let sorted = |axis: Axis, out: usize, kernel: usize| out + (axis.reach(kernel) - 1) / axis.stride;
        Ok(Self {
            axes,
            kernel,
            size,
            out: [down, across],
            pads: [top, left],
            sorted: [sorted(vertical, down, rows), sorted(horizontal, across, columns)],
        })
    }

    /// Numbers between one row of outputs and the next.
    pub(super) const fn pitch(&self) -> usize {
        let [_, columns] = self.sorted;
        if columns == 0 { 1 } else { columns }
    }

    /// Numbers of a channel.
    pub(super) fn plane(&self) -> usize {
        let ([rows, columns], [vertical, horizontal]) = (self.sorted, self.axes);
        [columns, vertical.stride, horizontal.stride].into_iter().fold(rows, usize::saturating_mul)
    }

    /// From the first output to the last, those between rows included.
    pub(super) const fn positions(&self) -> usize {
        let [rows, columns] = self.out;
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * self.pitch() + columns }
    }

    /// Where the numbers lie that each tap of a kernel over so many channels meets at the first output.
    pub(super) fn taps(&self, channels: usize) -> Vec<usize> {
        let ([rows, columns], [vertical, horizontal]) = (self.kernel, self.axes);
        let mut taps = Vec::with_capacity(channels * rows * columns);
        for channel in 0..channels {
            for row in (0..rows).map(|row| row * vertical.dilation) {
                for column in (0..columns).map(|column| column * horizontal.dilation) {
                    let start = self.start(row % vertical.stride, column % horizontal.stride);
                    let within = row / vertical.stride * self.pitch() + column / horizontal.stride;
                    taps.push(channel * self.plane() + start + within);
                }
            }
        }
        taps
    }

    /// Where rows and columns of these remainders begin.
    fn start(&self, row: usize, column: usize) -> usize {
        let ([rows, _], [_, horizontal]) = (self.sorted, self.axes);
        (row * horizontal.stride + column) * rows * self.pitch()
    }

    /// Lays one channel of an image. What is not written stays.
    #[inline(always)]
    pub(super) fn lay<Q: Copy>(&self, image: &[Q], to: &mut [i16], convert: impl Fn(Q) -> i16) {
        let ([_, width], [top, left]) = (self.size, self.pads);
        let ([rows, columns], [vertical, horizontal]) = (self.sorted, self.axes);
        if (vertical.stride, horizontal.stride, top, left) == (1, 1, 0, 0) && self.sorted == self.size {
            to.iter_mut().zip(image).for_each(|(to, from)| *to = convert(*from));
            return;
        }
        for (y, line) in image.chunks_exact(width.max(1)).enumerate() {
            let y = y + top;
            if y / vertical.stride >= rows {
                break;
            }
            for phase in 0..horizontal.stride {
                // The first of the line whose place has this remainder.
                let skipped = (phase + horizontal.stride - left % horizontal.stride) % horizontal.stride;
                let first = (skipped + left) / horizontal.stride;
                let start = self.start(y % vertical.stride, phase) + y / vertical.stride * self.pitch();
                let Some(to) = to.get_mut(start + first.min(columns)..start + columns) else { continue };
                let from = line.get(skipped..).unwrap_or_default();
                match horizontal.stride {
                    1 => to.iter_mut().zip(from).for_each(|(to, from)| *to = convert(*from)),
                    2 => {
                        let (pairs, rest) = from.as_chunks::<2>();
                        let (whole, last) = to.split_at_mut(pairs.len().min(to.len()));
                        whole.iter_mut().zip(pairs).for_each(|(to, [from, _])| *to = convert(*from));
                        last.iter_mut().zip(rest).for_each(|(to, from)| *to = convert(*from));
                    }
                    stride => {
                        to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = convert(*from));
                    }
                }
            }
        }
    }
}
