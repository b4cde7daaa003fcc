//! Matrix products of quantised numbers: MatMulInteger, QLinearMatMul, and of `com.microsoft` QGemm,
//! MatMulIntegerToFloat and DynamicQuantizeMatMul.

use std::sync::Arc;

use fearless_simd::{Level, dispatch};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{DatumType, IntoTValue as _, TDim, TValue, TVec, Tensor, TractResult, tvec};
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::internal::{Datum, bail, ensure, format_err};

use super::finish::{Cut, Parameters, Places};
use super::kernel::{Finish, Kept, LANES, Pairs, multiply, paired, pairs, panels};
use super::linear::{dynamic, quantise};
use super::node::{Fact, Kernel, Slots};
use super::number::{Target, centred, only, spread, zeros};

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

/// Matrices in panels, one after another.
#[derive(Clone, Debug)]
struct Weights {
    /// Sizes before the last two.
    many: Vec<usize>,
    depth: usize,
    columns: usize,
    panels: Vec<Pairs>,
}

impl Weights {
    fn of(tensor: &Tensor, zero: Option<&Tensor>, is_turned: bool) -> TractResult<Self> {
        let [many @ .., first, second] = tensor.shape() else { bail!("weights of shape {:?}", tensor.shape()) };
        let (depth, columns) = if is_turned { (*second, *first) } else { (*first, *second) };
        let zeros = spread(&zeros(zero)?, columns)?;
        let numbers = centred(tensor, 0)?;
        let mut all = Vec::new();
        for matrix in numbers.chunks_exact((depth * columns).max(1)) {
            all.extend(panels(depth, columns, |row, column| {
                let at = if is_turned { column * depth + row } else { row * columns + column };
                let zero = zeros.get(column).copied().unwrap_or(0).clamp(-128, 255);
                let zero = i16::try_from(zero).unwrap_or(0);
                matrix.get(at).copied().unwrap_or(0) - zero
            }));
        }
        Ok(Self { many: many.to_vec(), depth, columns, panels: all })
    }

    /// Panels of one matrix.
    fn matrix(&self, index: usize) -> TractResult<&[Pairs]> {
        let length = self.columns.div_ceil(LANES) * pairs(self.depth);
        self.panels.get(index * length..(index + 1) * length).ok_or_else(|| format_err!("there is no matrix {index}"))
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

    fn parameters<'a, T>(&self, inputs: Slots<'a, T>, columns: usize, data_scale: Option<f32>) -> Parameters<'a, T> {
        Parameters {
            places: self.places,
            data_scale,
            alpha: self.alpha,
            cut: self.cut,
            channels: columns,
            padded: columns.next_multiple_of(LANES),
            is_by_row: false,
            inputs,
        }
    }

    /// Rows in pairs, with the scale where it was found just now.
    fn rows(&self, inputs: Slots<'_, TValue>, depth: usize) -> TractResult<(Vec<i32>, Option<f32>)> {
        let data = inputs.need(self.places.data)?;
        if self.is_dynamic {
            let view = data.try_as_plain_ram()?;
            let numbers = view.as_slice::<f32>()?;
            let (scale, zero) = dynamic(numbers);
            let mut wide = vec![0_i16; numbers.len()];
            let zero = i32::from(zero);
            // As bytes less their zero point.
            let target = Target { zero: 0, low: -zero as f32, high: (255 - zero) as f32 };
            quantise(numbers, scale, target, &mut wide);
            return Ok((paired(&wide, depth), Some(scale)));
        }
        let zero = only(&zeros(inputs.at(self.places.data_zero).map(|zero| &**zero))?)?;
        Ok((paired(&centred(data, zero)?, depth), None))
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
            self.finish = Some(Arc::new(self.parameters(stored, weights.columns, None).finish()?));
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
        let (rows, scale) = self.rows(inputs, *depth)?;
        let finish = match &self.finish {
            Some(finish) => Arc::clone(finish),
            None => Arc::new(self.parameters(inputs, weights.columns, scale).finish()?),
        };
        let product = Product { rows: &rows, before, weights: &weights, finish: &finish };
        let kind = self.places.kind(inputs, self.is_dynamic, |value| value.datum_type())?;
        let output = if kind == DatumType::F32 {
            product.tensor::<f32>()?
        } else if kind == DatumType::I8 {
            product.tensor::<i8>()?
        } else if kind == DatumType::U8 {
            product.tensor::<u8>()?
        } else {
            product.tensor::<i32>()?
        };
        Ok(tvec![output.into_tvalue()])
    }
}

/// A product to compute.
struct Product<'a> {
    rows: &'a [i32],
    /// Sizes of the data before its last.
    before: &'a [usize],
    weights: &'a Weights,
    finish: &'a Finish,
}

impl Product<'_> {
    fn tensor<T: Kept + Datum>(&self) -> TractResult<Tensor> {
        let columns = self.weights.columns;
        if self.weights.many.iter().all(|size| *size == 1) && self.weights.many.len() < self.before.len().max(1) {
            let mut shape = self.before.to_vec();
            shape.push(columns);
            let mut out = vec![T::default(); shape.iter().product()];
            self.matrix(self.rows, self.weights.matrix(0)?, &mut out);
            return Tensor::from_shape(&shape, &out);
        }
        let Some((height, many)) = self.before.split_last() else { bail!("a row where matrices are needed") };
        let joint = multi_broadcast(&[many, &self.weights.many])?;
        let (left, right) = (places(many, &joint), places(&self.weights.many, &joint));
        let mut shape = joint.to_vec();
        shape.extend([*height, columns]);
        let mut out = vec![T::default(); shape.iter().product()];
        let length = height * pairs(self.weights.depth);
        for ((out, left), right) in out.chunks_mut((height * columns).max(1)).zip(left).zip(right) {
            let rows = self.rows.get(left * length..(left + 1) * length).unwrap_or_default();
            self.matrix(rows, self.weights.matrix(right)?, out);
        }
        Tensor::from_shape(&shape, &out)
    }

    fn matrix<T: Kept>(&self, rows: &[i32], panels: &[Pairs], out: &mut [T]) {
        let (columns, finish) = (self.weights.columns, self.finish);
        let depth = pairs(self.weights.depth);
        dispatch!(Level::new(), simd => for (index, panel) in panels.chunks_exact(depth).enumerate() {
            let column = index * LANES;
            let width = LANES.min(columns - column);
            multiply(simd, rows, panel, (finish, 0, column), |row, sums: [T; LANES]| {
                let start = row * columns + column;
                if let (Some(to), Some(from)) = (out.get_mut(start..start + width), sums.get(..width)) {
                    to.copy_from_slice(from);
                }
            });
        });
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
