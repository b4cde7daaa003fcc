//! ArrayFeatureExtractor and FeatureVectorizer: columns chosen, and columns side by side.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::{Datum, DatumType, TVec, Tensor, TractResult};
use tract_onnx::tract_core::internal::{ToDim as _, bail, format_err, tvec};
use tract_onnx::tract_hir::infer::InferenceOp;

use super::attributes::ints;
use super::kernel::{Fact, Kernel, operator};

/// What an operator of this module is built of.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

#[derive(Debug)]
struct Extractor;

/// Builds an ArrayFeatureExtractor.
pub(super) fn extractor(_context: &ParsingContext, _node: &NodeProto) -> Built {
    Ok(operator(Extractor))
}

impl Kernel for Extractor {
    fn name(&self) -> &'static str {
        "ArrayFeatureExtractor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [(datum_type, data), (_, places)] = inputs else {
            bail!("{} inputs: two are needed", inputs.len());
        };
        let [before @ .., _] = &data[..] else {
            bail!("its data has no dimension");
        };
        let mut shape: TVec<_> = before.iter().cloned().collect();
        if shape.is_empty() {
            shape.push(1.into());
        }
        shape.push(places.iter().cloned().fold(1.into(), |product, size| product * size));
        Ok(tvec!((*datum_type, shape)))
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [data, places] = inputs else {
            bail!("{} inputs: two are needed", inputs.len());
        };
        let places = places.cast_to::<i64>()?;
        let places = places.try_as_plain_ram()?.as_slice::<i64>()?;
        Ok(tvec!(match data.datum_type() {
            DatumType::F32 => extracted::<f32>(data, places)?,
            DatumType::F64 => extracted::<f64>(data, places)?,
            DatumType::I64 => extracted::<i64>(data, places)?,
            DatumType::I32 => extracted::<i32>(data, places)?,
            DatumType::I16 => extracted::<i16>(data, places)?,
            DatumType::I8 => extracted::<i8>(data, places)?,
            DatumType::U64 => extracted::<u64>(data, places)?,
            DatumType::U32 => extracted::<u32>(data, places)?,
            DatumType::U16 => extracted::<u16>(data, places)?,
            DatumType::U8 => extracted::<u8>(data, places)?,
            DatumType::Bool => extracted::<bool>(data, places)?,
            other => bail!("no columns are taken of {other:?}"),
        }))
    }
}

/// The columns of these numbers, of every row.
fn extracted<T: Datum + Copy>(data: &Tensor, places: &[i64]) -> TractResult<Tensor> {
    let [before @ .., width] = data.shape() else {
        bail!("its data has no dimension");
    };
    let columns: Vec<usize> = places
        .iter()
        .map(|place| usize::try_from(*place).ok().filter(|place| place < width))
        .collect::<Option<_>>()
        .ok_or_else(|| format_err!("a column that is not among {width}"))?;
    let values = data.try_as_plain_ram()?.as_slice::<T>()?;
    let chosen: Vec<T> = values
        .chunks_exact((*width).max(1))
        .flat_map(|row| columns.iter().filter_map(|column| row.get(*column).copied()))
        .collect();
    let mut shape: TVec<usize> = before.iter().copied().collect();
    if shape.is_empty() {
        shape.push(1);
    }
    shape.push(columns.len());
    Tensor::from_shape(&shape, &chosen)
}

#[derive(Debug)]
struct Vectorizer {
    /// How wide each input is made.
    widths: Vec<usize>,
}

/// Builds a FeatureVectorizer.
pub(super) fn vectorizer(_context: &ParsingContext, node: &NodeProto) -> Built {
    let widths = ints(node, "inputdimensions").into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>()?;
    if widths.len() != node.input.len() {
        bail!("{} widths for {} inputs", widths.len(), node.input.len());
    }
    Ok(operator(Vectorizer { widths }))
}

impl Kernel for Vectorizer {
    fn name(&self) -> &'static str {
        "FeatureVectorizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let count = match inputs.first().map(|(_, shape)| &shape[..]) {
            Some([_]) => 1.into(),
            Some([count, ..]) => count.clone(),
            _ => bail!("its first input has no dimension"),
        };
        Ok(tvec!((DatumType::F32, tvec!(count, self.widths.iter().sum::<usize>().to_dim()))))
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let total: usize = self.widths.iter().sum();
        let count = match inputs.first().map(|input| input.shape()) {
            Some([_]) => 1,
            Some([count, ..]) => *count,
            _ => bail!("its first input has no dimension"),
        };
        let mut data = vec![0.0_f32; count * total];
        let mut start = 0;
        for (input, width) in inputs.iter().zip(&self.widths) {
            let given = if input.rank() == 1 { 1 } else { input.shape().first().copied().unwrap_or(0) };
            if given != count {
                bail!("{given} rows in one input, {count} in another");
            }
            let numbers = input.cast_to::<f32>()?;
            let numbers = numbers.try_as_plain_ram()?.as_slice::<f32>()?;
            let wide = (numbers.len() / count.max(1)).max(1);
            // What is wider is cut, what is narrower is followed by zeros.
            for (to, from) in data.chunks_exact_mut(total.max(1)).zip(numbers.chunks_exact(wide)) {
                let to = to.get_mut(start..start + width).unwrap_or_default();
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
            start += width;
        }
        Ok(tvec!(Tensor::from_shape(&[count, total], &data)?))
    }
}

/// What stands at these places of a vector.
///
/// # Errors
///
/// If one is outside.
pub(super) fn chosen(values: &Tensor, places: &Tensor) -> TractResult<Tensor> {
    let mut found = Extractor.run(&[values, places])?;
    found.pop().ok_or_else(|| format_err!("nothing was chosen"))
}
