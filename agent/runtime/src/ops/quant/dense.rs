//! Matrix products of quantised numbers: MatMulInteger, QLinearMatMul, and of `com.microsoft` QGemm,
//! MatMulIntegerToFloat and DynamicQuantizeMatMul.

use std::ops::{Deref, Range};
use std::sync::Arc;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, IntoTValue as _, TDim, TValue, TVec, Tensor, TractResult, tvec};
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::internal::{Datum, bail, ensure, format_err};

use super::finish::{Cut, Parameters, Places};
use super::kernel::{Finish, Kept, Matrix, centre, pitch};
use super::linear::{dynamic, quantise};
use super::node::{Fact, Kernel, Slots};
use super::number::{Target, centred, filled, only, spread, with_type, zeros};

/// A product of `[.., rows, depth]` and `[.., depth, columns]`.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    name: &'static str,
    places: Places,
    cut: Cut,
    is_dynamic: bool,
    /// Whether the weights are `[columns, depth]`.
    is_turned: bool,
    alpha: f32,
    /// Which inputs there are.
    present: Vec<bool>,
    weights: Option<Arc<Weights>>,
    finish: Option<Arc<Finish>>,
}

/// What is prepared follows from the inputs, which are compared elsewhere.
impl PartialEq for Dense {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.places, self.cut, self.is_turned, self.alpha.to_bits())
            == (other.name, other.places, other.cut, other.is_turned, other.alpha.to_bits())
    }
}

impl Eq for Dense {}

/// Matrices of `[depth, columns]`.
#[derive(Debug)]
struct Weights {
    /// Sizes before the last two.
    many: Vec<usize>,
    depth: usize,
    columns: usize,
    matrices: Vec<Matrix>,
}

impl Weights {
    fn of(tensor: &Tensor, zero: Option<&Tensor>, is_turned: bool) -> TractResult<Self> {
        let [many @ .., first, second] = tensor.shape() else { bail!("weights of shape {:?}", tensor.shape()) };
        let (depth, columns) = if is_turned { (*second, *first) } else { (*first, *second) };
        let zeros = spread(&zeros(zero)?, columns)?;
        let numbers = centred(tensor, 0)?;
        let zeros: Vec<i16> =
            zeros.into_iter().map(|zero| i16::try_from(zero.clamp(-128, 255))).collect::<Result<_, _>>()?;
        let matrix = |numbers: &[i16]| {
            Matrix::of(depth, columns, |row, column| {
                let at = if is_turned { column * depth + row } else { row * columns + column };
                numbers.get(at).copied().unwrap_or(0) - zeros.get(column).copied().unwrap_or(0)
            })
        };
        let matrices = numbers.chunks_exact((depth * columns).max(1)).map(matrix).collect();
        Ok(Self { many: many.to_vec(), depth, columns, matrices })
    }

    fn matrix(&self, index: usize) -> TractResult<&Matrix> {
        self.matrices.get(index).ok_or_else(|| format_err!("there is no matrix {index}"))
    }
}

impl Dense {
    /// Reads a node.
    ///
    /// # Errors
    ///
    /// Attributes that are not supported.
    pub(super) fn read(node: &NodeProto, name: &'static str, places: Places, is_dynamic: bool) -> TractResult<Self> {
        ensure!(node.get_attr_opt::<i64>("transA")?.unwrap_or(0) == 0, "a transposed first matrix is not supported");
        Ok(Self {
            name,
            places,
            cut: Cut::read(node)?,
            is_dynamic,
            is_turned: node.get_attr_opt::<i64>("transB")?.unwrap_or(0) != 0,
            alpha: node.get_attr_opt("alpha")?.unwrap_or(1.0),
            present: node.input.iter().map(|name| !name.is_empty()).collect(),
            weights: None,
            finish: None,
        })
    }

    fn finish<T: Deref<Target = Tensor>>(
        &self,
        inputs: Slots<'_, T>,
        channels: usize,
        data_scale: Option<f32>,
    ) -> TractResult<Arc<Finish>> {
        let (places, alpha, cut) = (self.places, self.alpha, self.cut);
        let all = Parameters { places, data_scale, alpha, cut, channels, inputs }.finish()?;
        Ok(Arc::new(all.part(&(0..channels))))
    }
}

impl Kernel for Dense {
    fn name(&self) -> &'static str {
        self.name
    }

    fn facts(&self, inputs: Slots<'_, Fact>) -> TractResult<TVec<Fact>> {
        let kind = self.places.kind(inputs, self.is_dynamic, |fact| fact.0)?;
        let (data, weight) = (&inputs.need(self.places.data)?.1, &inputs.need(self.places.weight)?.1);
        let ([many @ .., inner], [others @ .., first, second]) = (data.as_slice(), weight.as_slice()) else {
            bail!("a product of {data:?} and {weight:?}");
        };
        let (depth, columns) = if self.is_turned { (second, first) } else { (first, second) };
        ensure!(inner == depth, "a product of {data:?} and {weight:?}");
        let mut shape: TVec<TDim> = many.iter().cloned().collect();
        if !others.is_empty() {
            let (rows, many) = many.split_last().ok_or_else(|| format_err!("a product of {data:?} and {weight:?}"))?;
            shape = multi_broadcast(&[many, others])?;
            shape.push(rows.clone());
        }
        shape.push(columns.clone());
        Ok(tvec![(kind, shape)])
    }

    fn prepare(&mut self, stored: Slots<'_, Arc<Tensor>>) -> TractResult<()> {
        let present = |place: usize| self.present.get(place).copied().unwrap_or(false);
        let Some(weight) = stored.at(self.places.weight) else { return Ok(()) };
        let zero = stored.at(self.places.weight_zero);
        if zero.is_some() || !present(self.places.weight_zero) {
            self.weights = Some(Arc::new(Weights::of(weight, zero.map(|zero| &**zero), self.is_turned)?));
        }
        if let (Some(weights), false) = (&self.weights, self.is_dynamic)
            && self.places.are_in(stored, present)
        {
            self.finish = Some(self.finish(stored, weights.columns, None)?);
        }
        Ok(())
    }

    fn compute(&self, inputs: Slots<'_, TValue>) -> TractResult<TVec<TValue>> {
        let weights = match &self.weights {
            Some(weights) => Arc::clone(weights),
            None => Arc::new(Weights::of(
                inputs.need(self.places.weight)?,
                inputs.at(self.places.weight_zero).map(|zero| &**zero),
                self.is_turned,
            )?),
        };
        let data = inputs.need(self.places.data)?;
        let Some((depth, before)) = data.shape().split_last() else { bail!("a product of a single number") };
        ensure!(*depth == weights.depth && *depth > 0, "a product of {:?} with {} rows", data.shape(), weights.depth);
        let kind = self.places.kind(inputs, self.is_dynamic, |value| value.datum_type())?;
        let product = Product { kind, before, depth: *depth, weights: &weights };
        let view = data.try_as_plain_ram()?;
        let finish = |scale: Option<f32>| -> TractResult<Arc<Finish>> {
            match &self.finish {
                Some(finish) => Ok(Arc::clone(finish)),
                None => self.finish(inputs, weights.columns, scale),
            }
        };
        let output = if self.is_dynamic {
            let numbers = view.as_slice::<f32>()?;
            let (scale, zero) = dynamic(numbers);
            let zero = i32::from(zero);
            // As bytes less their zero point.
            let target = Target { zero: 0, low: -zero as f32, high: (255 - zero) as f32 };
            product.of(numbers, &*finish(Some(scale))?, |from, to| quantise(from, scale, target, to))?
        } else {
            let zero = only(&zeros(inputs.at(self.places.data_zero).map(|zero| &**zero))?)?;
            let zero = i16::try_from(zero.clamp(-128, 255))?;
            with_type!(data.datum_type(), Q => {
                product.of(view.as_slice::<Q>()?, &*finish(None)?, |from, to| centre(from, zero, to))?
            })
        };
        Ok(tvec![output.into_tvalue()])
    }
}

/// Lays some rows, their numbers less the zero point.
type Lay<'a> = dyn Fn(Range<usize>, &mut [i16]) + 'a;

/// A product to compute.
struct Product<'a> {
    /// The type that comes out.
    kind: DatumType,
    /// Sizes of the data before its last.
    before: &'a [usize],
    depth: usize,
    weights: &'a Weights,
}

impl Product<'_> {
    /// Of rows that `centre` makes numbers of 16 bits.
    fn of<A>(&self, data: &[A], finish: &Finish, centre: impl Fn(&[A], &mut [i16])) -> TractResult<Tensor> {
        let (depth, pitch) = (self.depth, pitch(self.depth));
        let lay = |rows: Range<usize>, to: &mut [i16]| {
            let from = data.get(rows.start * depth..rows.end * depth).unwrap_or_default();
            if depth == pitch {
                return centre(from, to);
            }
            from.chunks_exact(depth).zip(to.chunks_exact_mut(pitch)).for_each(|(from, to)| centre(from, to));
        };
        if self.kind == DatumType::F32 {
            self.tensor::<f32>(&lay, finish)
        } else if self.kind == DatumType::I8 {
            self.tensor::<i8>(&lay, finish)
        } else if self.kind == DatumType::U8 {
            self.tensor::<u8>(&lay, finish)
        } else {
            self.tensor::<i32>(&lay, finish)
        }
    }

    fn tensor<T: Kept + Datum>(&self, lay: &Lay<'_>, finish: &Finish) -> TractResult<Tensor> {
        let columns = self.weights.columns;
        if self.weights.many.iter().all(|size| *size == 1) && self.weights.many.len() < self.before.len().max(1) {
            let mut shape = self.before.to_vec();
            let rows = shape.iter().product();
            shape.push(columns);
            return filled::<T>(&shape, |out| {
                self.weights.matrix(0)?.multiply(rows, &mut |rows, to| lay(rows, to), finish, out, (columns, 0));
                Ok(())
            });
        }
        let Some((height, many)) = self.before.split_last() else { bail!("a row where matrices are needed") };
        let joint = multi_broadcast(&[many, &self.weights.many])?;
        let (left, right) = (places(many, &joint), places(&self.weights.many, &joint));
        let mut shape = joint.to_vec();
        shape.extend([*height, columns]);
        filled::<T>(&shape, |out| {
            for ((out, left), right) in out.chunks_mut(height * columns).zip(left).zip(right) {
                let first = left * height;
                let mut write = |rows: Range<usize>, to: &mut [i16]| lay(first + rows.start..first + rows.end, to);
                self.weights.matrix(right)?.multiply(*height, &mut write, finish, out, (columns, 0));
            }
            Ok(())
        })
    }
}

/// For each matrix of the joint shape, which of a smaller shape it takes.
fn places(shape: &[usize], joint: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    let missing = joint.len().saturating_sub(shape.len());
    for (axis, size) in joint.iter().enumerate() {
        let own = axis.checked_sub(missing).and_then(|axis| shape.get(axis)).copied().unwrap_or(1);
        let step = |place: usize, at: usize| if own == 1 { place } else { place * own + at };
        places = places.iter().flat_map(|place| (0..*size).map(move |at| step(*place, at))).collect();
    }
    places
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the numbers of the tests are small")]
mod tests {
    use tract_onnx::prelude::IntoArcTensor;

    use super::super::finish::{DYNAMIC, GEMM, INTEGER, LINEAR};
    use super::*;

    fn value<T: Datum + Copy>(shape: &[usize], numbers: &[T]) -> Option<TValue> {
        Some(Tensor::from_shape(shape, numbers).unwrap().into_tvalue())
    }

    fn dense(name: &'static str, places: Places, inputs: &[Option<TValue>], is_dynamic: bool) -> Dense {
        let input = inputs.iter().map(|input| input.as_ref().map_or(String::new(), |_| "x".to_owned()));
        let node = NodeProto { input: input.collect(), ..NodeProto::default() };
        Dense::read(&node, name, places, is_dynamic).unwrap()
    }

    fn numbers<T: Datum + Copy>(value: &TValue) -> Vec<T> {
        value.try_as_plain_ram().unwrap().as_slice::<T>().unwrap().to_vec()
    }

    fn bytes(count: usize, factor: usize) -> Vec<u8> {
        (0..count).map(|index| u8::try_from(index * factor % 256).unwrap()).collect()
    }

    /// Sums by the definition: `a` is `[rows, depth]`, `b` is `[depth, columns]`.
    fn sums(a: &[u8], za: i32, b: &[i8], zb: &[i32], (depth, columns): (usize, usize)) -> Vec<i32> {
        let one = |row: &[u8], column: usize| {
            let terms = row
                .iter()
                .enumerate()
                .map(|(at, number)| (i32::from(*number) - za) * (i32::from(b[at * columns + column]) - zb[column]));
            terms.sum::<i32>()
        };
        a.chunks(depth).flat_map(|row| (0..columns).map(move |column| one(row, column))).collect()
    }

    #[test]
    fn sums_and_their_quantised_form_follow_the_definition() {
        for (rows, depth, columns) in [(1, 5, 3), (7, 64, 33), (4, 9, 16)] {
            let a = bytes(rows * depth, 37);
            let b: Vec<i8> = bytes(depth * columns, 59).iter().map(|byte| byte.cast_signed()).collect();
            let zb: Vec<i32> = (0..columns).map(|column| i32::try_from(column % 5).unwrap() - 2).collect();
            let want = sums(&a, 7, &b, &zb, (depth, columns));
            let zeros: Vec<i8> = zb.iter().map(|zero| i8::try_from(*zero).unwrap()).collect();
            let (a, b) = (value(&[rows, depth], &a), value(&[depth, columns], &b));
            let inputs = [a.clone(), b.clone(), value(&[], &[7_u8]), value(&[columns], &zeros)];
            let out = dense("MatMulInteger", INTEGER, &inputs, false).compute(Slots(&inputs)).unwrap();
            assert_eq!(numbers::<i32>(&out[0]), want);

            let scales: Vec<f32> = (0..columns).map(|column| 0.001 * (column + 1) as f32).collect();
            let (half, zero) = (value(&[], &[0.5_f32]), value(&[], &[7_u8]));
            let linear = [
                a,
                half,
                zero,
                b,
                value(&[columns], &scales),
                value(&[columns], &zeros),
                value(&[], &[0.25_f32]),
                value(&[], &[-3_i8]),
            ];
            let out = dense("QLinearMatMul", LINEAR, &linear, false).compute(Slots(&linear)).unwrap();
            let scaled = want.iter().enumerate().map(|(at, sum)| {
                let scaled = *sum as f32 * (scales[at % columns] * 0.5 / 0.25);
                (scaled.clamp(-200.0, 200.0).round_ties_even() as i32 - 3).clamp(-128, 127)
            });
            let got: Vec<i32> = numbers::<i8>(&out[0]).into_iter().map(i32::from).collect();
            assert_eq!(got, scaled.collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_prepared_computes_the_same() {
        let inputs = [
            value(&[2, 3], &[1_u8, 2, 3, 4, 5, 6]),
            value(&[], &[0.5_f32]),
            value(&[], &[1_u8]),
            value(&[2, 3], &[1_i8, -1, 2, 0, 3, -2]),
            value(&[2], &[1.0_f32, 2.0]),
            None,
            value(&[2], &[10_i32, -10]),
        ];
        let mut gemm = dense("QGemm", GEMM, &inputs, false);
        gemm.is_turned = true;
        let once = gemm.compute(Slots(&inputs)).unwrap();
        // Rows less 1: [0, 1, 2] and [3, 4, 5].
        assert_eq!(numbers::<f32>(&once[0]), [6.5, -11.0, 9.5, -8.0]);
        let stored: Vec<_> = inputs.iter().map(|input| input.clone().map(IntoArcTensor::into_arc_tensor)).collect();
        gemm.prepare(Slots(&stored)).unwrap();
        assert!(gemm.weights.is_some() && gemm.finish.is_some());
        assert_eq!(gemm.compute(Slots(&inputs)).unwrap(), once);
    }

    #[test]
    fn many_matrices_are_multiplied_one_by_one() {
        let inputs = [value(&[2, 1, 1, 2], &[1_u8, 2, 3, 4]), value(&[3, 2, 1], &[1_i8, 2, 3, 4, 5, 6])];
        let out = dense("MatMulInteger", INTEGER, &inputs, false).compute(Slots(&inputs)).unwrap();
        assert_eq!(out[0].shape(), [2, 3, 1, 1]);
        assert_eq!(numbers::<i32>(&out[0]), [5, 11, 17, 11, 25, 39]);
    }

    #[test]
    fn floats_are_quantised_on_the_way_in() {
        let data = [-1.0_f32, 0.0, 0.5, 1.0];
        let inputs = [
            value(&[2, 2], &data),
            value(&[2, 1], &[100_i8, 50]),
            value(&[1], &[0.01_f32]),
            None,
            value(&[1], &[1.0_f32]),
        ];
        let out = dense("DynamicQuantizeMatMul", DYNAMIC, &inputs, true).compute(Slots(&inputs)).unwrap();
        let got = numbers::<f32>(&out[0]);
        assert!((got[0] - 0.0).abs() < 0.02 && (got[1] - 2.0).abs() < 0.02, "{got:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let inputs = [value(&[2, 3], &[0_u8; 6]), value(&[2, 2], &[0_i8; 4])];
        assert!(dense("MatMulInteger", INTEGER, &inputs, false).compute(Slots(&inputs)).is_err());
        let inputs = [value(&[2, 2], &[0_i32; 4]), value(&[2, 2], &[0_i8; 4])];
        assert!(dense("MatMulInteger", INTEGER, &inputs, false).compute(Slots(&inputs)).is_err());
    }
}
