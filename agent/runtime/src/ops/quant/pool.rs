//! The greatest of each window of bytes: MaxPool over one dimension of space or two, without dilation,
//! channels last.
//!
//! The rows of a window are compared as whole rows first, their columns afterwards.

use fearless_simd::{Level, Simd, dispatch};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{IntoTValue as _, TDim, TValue, TVec, TractResult, tvec};
use tract_onnx::tract_core::internal::{bail, ensure};

use super::kernel::LANES;
use super::node::{Fact, Kernel, Slots};
use super::number::{Quantised, filled, with_type};
use super::window::{Span, Window};

/// `MaxPool` of `[rows, height, width, channels]`, or without height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MaxPool {
    window: Window,
    kernel: Vec<usize>,
}

impl MaxPool {
    /// Reads the attributes.
    ///
    /// # Errors
    ///
    /// There is no kernel, or one over more than two dimensions.
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        let kernel = node.get_attr_vec::<i64>("kernel_shape")?;
        let kernel = kernel.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>()?;
        ensure!(matches!(kernel.len(), 1 | 2), "a pool over {} dimensions", kernel.len());
        Ok(Self { window: Window::read(node)?, kernel })
    }

    /// Windows over height and width.
    fn spans(&self, space: &[usize]) -> TractResult<[Span; 2]> {
        Ok(match (space, self.kernel.as_slice()) {
            ([width], [columns]) => [Span::flat(), self.window.axis(0, 1).span(*width, *columns)?],
            ([height, width], [rows, columns]) => {
                [self.window.axis(0, 2).span(*height, *rows)?, self.window.axis(1, 2).span(*width, *columns)?]
            }
            _ => bail!("a pool of {:?} over {space:?}", self.kernel),
        })
    }
}

impl Kernel for MaxPool {
    fn name(&self) -> &'static str {
        "QuantisedMaxPool"
    }

    fn facts(&self, inputs: Slots<'_, Fact>) -> TractResult<TVec<Fact>> {
        let (kind, shape) = inputs.need(0)?;
        let [rows, space @ .., channels] = shape.as_slice() else { bail!("a pool over {shape:?}") };
        ensure!(space.len() == self.kernel.len(), "a pool of {:?} over {shape:?}", self.kernel);
        let mut out: TVec<TDim> = tvec![rows.clone()];
        for (axis, (size, kernel)) in space.iter().zip(&self.kernel).enumerate() {
            out.push(self.window.axis(axis, space.len()).slid(size, *kernel)?);
        }
        out.push(channels.clone());
        Ok(tvec![(*kind, out)])
    }

    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>> {
        let input = inputs.need(0)?;
        let [rows, space @ .., channels] = input.shape() else { bail!("a pool over {:?}", input.shape()) };
        let spans = self.spans(space)?;
        let [down, across] = &spans;
        let mut shape: TVec<usize> = tvec![*rows];
        shape.extend([down.out, across.out].into_iter().skip(2 - space.len()));
        shape.push(*channels);
        let view = input.try_as_plain_ram()?;
        let output = with_type!(input.datum_type(), Q => {
            let from = view.as_slice::<Q>()?;
            filled::<Q>(&shape, |out| {
                dispatch!(Level::new(), simd => pooled(simd, from, &spans, *channels, out));
                Ok(())
            })?
        });
        Ok(tvec![output.into_tvalue()])
    }
}

/// Keeps the greater numbers: in steps of a vector, since pixels have few channels.
#[inline(always)]
fn greatest<Q: Quantised + Ord>(to: &mut [Q], from: &[Q]) {
    let ((to, last), (from, rest)) = (to.as_chunks_mut::<LANES>(), from.as_chunks::<LANES>());
    let greater = |(to, from): (&mut Q, &Q)| *to = (*to).max(*from);
    to.iter_mut().zip(from).for_each(|(to, from)| to.iter_mut().zip(from).for_each(greater));
    last.iter_mut().zip(rest).for_each(greater);
}

#[inline(always)]
fn pooled<S: Simd, Q: Quantised + Ord>(simd: S, from: &[Q], [down, across]: &[Span; 2], channels: usize, to: &mut [Q]) {
    simd.vectorize(
        #[inline(always)]
        || {
            let least = Q::narrow(Q::LOW);
            let width = (across.size * channels).max(1);
            let mut line = vec![least; width];
            let (image, row) = ((down.size * width).max(1), across.out * channels);
            for (image, to) in from.chunks_exact(image).zip(to.chunks_exact_mut(down.out * row)) {
                for (y, to) in to.chunks_exact_mut(row).enumerate() {
                    line.fill(least);
                    let (first, last) = down.reach(y);
                    for row in image.chunks_exact(width).take(last).skip(first) {
                        greatest(&mut line, row);
                    }
                    for (x, to) in to.chunks_exact_mut(channels).enumerate() {
                        to.fill(least);
                        let (first, last) = across.reach(x);
                        for pixel in line.chunks_exact(channels).take(last).skip(first) {
                            greatest(to, pixel);
                        }
                    }
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::AttributeProto;
    use tract_onnx::prelude::Tensor;

    use super::*;

    fn pool(lists: &[(&str, &[i64])]) -> MaxPool {
        let attribute = lists.iter().map(|(name, ints)| AttributeProto {
            name: (*name).to_owned(),
            r#type: 7,
            ints: ints.to_vec(),
            ..AttributeProto::default()
        });
        MaxPool::read(&NodeProto { attribute: attribute.collect(), ..NodeProto::default() }).unwrap()
    }

    #[test]
    fn pads_are_less_than_any_number() {
        let numbers: Vec<i8> = (0..25).map(|index| index - 100).collect();
        let input = [Some(Tensor::from_shape(&[1, 5, 5, 1], &numbers).unwrap().into_tvalue())];
        let pool = pool(&[("kernel_shape", &[3, 2]), ("strides", &[2, 2]), ("pads", &[1, 1, 1, 0])]);
        let out = pool.compute(Slots(&input)).unwrap();
        assert_eq!(out[0].shape(), [1, 3, 3, 1]);
        let got = out[0].try_as_plain_ram().unwrap().as_slice::<i8>().unwrap().to_vec();
        assert_eq!(got, [-95, -93, -91, -85, -83, -81, -80, -78, -76]);
    }

    #[test]
    fn one_dimension_of_space_is_pooled_too() {
        let input = [Some(Tensor::from_shape(&[1, 4, 2], &[1_u8, 9, 5, 0, 2, 7, 3, 8]).unwrap().into_tvalue())];
        let out = pool(&[("kernel_shape", &[2])]).compute(Slots(&input)).unwrap();
        assert_eq!(out[0].shape(), [1, 3, 2]);
        assert_eq!(out[0].try_as_plain_ram().unwrap().as_slice::<u8>().unwrap(), [5, 9, 5, 7, 3, 8]);
    }
}
