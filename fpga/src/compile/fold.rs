//! The first layer's window, put into channels by the host.
//!
//! A word is eight channels, and an input of one or three channels leaves most of it empty. So the host puts
//! several rows and columns of what comes in into the channels of one pixel:
//!
//! ```text
//!   4 x 4 pixels of 1 channel                      2 x 2 pixels of 4 channels
//!   kernel 4 x 4, two apart      a b | c d         kernel 2 x 2, one apart
//!                                e f | g h         abef  cdgh
//!                                ----+----         ijmn  klop
//!                                i j | k l
//!                                m n | o p
//! ```
//!
//! A part of the stride can be folded, or the whole kernel. Padding of an axis that is folded comes from the
//! host as well. It changes where a product is made, and no sum.

use std::vec::Vec;

use super::network::{Network, Operation, Shape, Weights, What, Window};
use super::turn;

/// What comes in, and how it is arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// As it comes: rows, columns, channels.
    pub shape: Shape,
    pub(super) fold: Fold,
}

impl Input {
    /// The first image for `values`, `[rows, columns, channels]`.
    #[must_use]
    pub fn arrange(&self, values: &[i8]) -> Vec<i8> {
        if self.fold.is_plain() { values.to_vec() } else { self.fold.values(self.shape, values) }
    }
}

/// How much of an axis goes into a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    /// Rows or columns of a pixel.
    size: u16,
    /// From a pixel's first to the next one's.
    apart: u16,
    /// Padding before the first.
    before: u16,
    /// Pixels.
    count: u16,
}

impl Axis {
    /// One by one, padded by the engine.
    const fn plain(count: u16) -> Self {
        Self { size: 1, apart: 1, before: 0, count }
    }

    const fn is_plain(&self) -> bool {
        self.size == 1 && self.apart == 1
    }

    /// All ways to fold an axis of `count`.
    fn all(window: &Window, axis: usize, count: u16) -> Vec<Self> {
        let [kernel, stride, before, after] = window.along(axis);
        let steps = (before + count + after - kernel) / stride;
        let mut all = Vec::from([Self::plain(count)]);
        let parts = (2..=stride).filter(|size| stride.is_multiple_of(*size)).map(|size| (size, size));
        for (size, apart) in parts.chain([(kernel, stride)]) {
            let count = steps * (stride / apart) + kernel.div_ceil(size);
            let folded = Self { size, apart, before, count };
            if !folded.is_plain() && !all.contains(&folded) {
                all.push(folded);
            }
        }
        all
    }

    /// Pixels that follow each other without a gap: so the weights of a kernel are folded.
    const fn of_kernel(&self, kernel: u16) -> Self {
        Self { size: self.size, apart: self.size, before: 0, count: kernel.div_ceil(self.size) }
    }

    /// What is part of a pixel, of `count` that came; `None` if that is padding.
    fn came(&self, pixel: u16, part: u16, count: u16) -> Option<usize> {
        let at = usize::from(pixel) * usize::from(self.apart) + usize::from(part);
        at.checked_sub(self.before.into()).filter(|at| *at < count.into())
    }
}

/// How an input is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fold {
    axes: [Axis; 2],
    /// What stands for padding.
    zero_point: i8,
    /// Rows and columns change places first.
    turned: bool,
}

impl Fold {
    /// As it comes.
    pub(super) const fn plain(network: &Network) -> Self {
        let Shape { rows, columns, .. } = network.input;
        Self { axes: [Axis::plain(rows), Axis::plain(columns)], zero_point: network.zero_point, turned: false }
    }

    /// All ways to fold the input of a network, which may have been turned before.
    pub(super) fn all(network: &Network, turned: bool) -> Vec<Self> {
        let plain = Self { turned, ..Self::plain(network) };
        let Some(Operation { window, what: What::Convolution(_), .. }) = network.layers.first() else {
            return Vec::from([plain]);
        };
        let Shape { rows, columns, .. } = network.input;
        let columns = Axis::all(window, 1, columns);
        let rows = Axis::all(window, 0, rows);
        rows.iter().flat_map(|rows| columns.iter().map(|columns| Self { axes: [*rows, *columns], ..plain })).collect()
    }

    fn is_plain(&self) -> bool {
        self.axes.iter().all(Axis::is_plain) && !self.turned
    }

    /// The network for an input that is folded so; `None` if there is none.
    pub(super) fn network(&self, network: &Network) -> Option<Network> {
        let (first, others) = network.layers.split_first()?;
        let What::Convolution(weights) = &first.what else { return Some(network.clone()) };
        let [rows, columns] = &self.axes;
        let channels = network.input.channels.checked_mul(rows.size)?.checked_mul(columns.size)?;
        let input = Shape { rows: rows.count, columns: columns.count, channels };
        let what = What::Convolution(self.weights(weights, first.window.kernel, network.input.channels)?);
        let mut window = first.window;
        for (number, axis) in self.axes.iter().enumerate().filter(|(_, axis)| !axis.is_plain()) {
            let [kernel, stride, ..] = first.window.along(number);
            *window.kernel.get_mut(number)? = kernel.div_ceil(axis.size);
            *window.strides.get_mut(number)? = u8::try_from(stride / axis.apart).ok()?;
            *window.before.get_mut(number)? = 0;
            *window.after.get_mut(number)? = 0;
        }
        let first = Operation { name: first.name.clone(), window, what, output: first.output };
        Some(Network { input, layers: [first].into_iter().chain(others.iter().cloned()).collect(), ..*network })
    }

    fn weights(&self, weights: &Weights, [height, width]: [u16; 2], channels: u16) -> Option<Weights> {
        let [rows, columns] = &self.axes;
        let kernel = Shape { rows: height, columns: width, channels };
        if weights.values.len() != weights.bias.len() * kernel.count() {
            return None;
        }
        let axes = [rows.of_kernel(height), columns.of_kernel(width)];
        let values = weights.values.chunks(kernel.count()).flat_map(|values| folded(axes, kernel, values, 0)).collect();
        Some(Weights { values, bias: weights.bias.clone(), scales: weights.scales.clone() })
    }

    /// An input as it lies.
    fn values(&self, shape: Shape, values: &[i8]) -> Vec<i8> {
        if self.turned {
            return folded(self.axes, turn::shape(shape), &turn::values(shape, values), self.zero_point);
        }
        folded(self.axes, shape, values, self.zero_point)
    }
}

/// An image of folded pixels, `outside` where it has none.
fn folded([rows, columns]: [Axis; 2], shape: Shape, values: &[i8], outside: i8) -> Vec<i8> {
    let channels = usize::from(shape.channels);
    let size = usize::from(rows.size) * usize::from(columns.size) * channels;
    let mut folded = Vec::with_capacity(usize::from(rows.count) * usize::from(columns.count) * size);
    let places = (0..rows.count).flat_map(|y| (0..columns.count).map(move |x| (y, x)));
    for (y, x) in places {
        for part_y in 0..rows.size {
            for part_x in 0..columns.size {
                let (row, column) = (rows.came(y, part_y, shape.rows), columns.came(x, part_x, shape.columns));
                let at = row.zip(column).map(|(row, column)| (row * usize::from(shape.columns) + column) * channels);
                match at.and_then(|at| values.get(at..at + channels)) {
                    Some(pixel) => folded.extend_from_slice(pixel),
                    None => folded.extend((0..channels).map(|_| outside)),
                }
            }
        }
    }
    folded
}
