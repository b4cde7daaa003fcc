//! Columns: which numbers of a row are counted, on the publisher's machine and on the device alike.

use bellwether_protocol::limit::{COLUMNS_MAX, ELEMENTS_MAX};
use bellwether_protocol::manifest::{TensorSignature, TensorSpec};
use bellwether_protocol::profile::{Of, Side, Source};

use crate::tensor::{Data, Tensor};

/// The columns of a model: each element of every tensor of up to [`ELEMENTS_MAX`] elements a row, or
/// else its mean and variance; for an output of several classes also which one is the greatest.
/// Names are the tensor's with an index, `image[12]`.
#[must_use]
pub fn columns(signature: &TensorSignature) -> Vec<(String, Source)> {
    let of_side = |side, specs: &[TensorSpec]| -> Vec<(String, Source)> {
        (0..).zip(specs).flat_map(|(tensor, spec)| of_tensor(side, tensor, spec)).collect()
    };
    let mut outputs = of_side(Side::Output, &signature.outputs);
    outputs.truncate(COLUMNS_MAX);
    let mut columns = of_side(Side::Input, &signature.inputs);
    // What a model answers is watched before the last of what it takes.
    columns.truncate(COLUMNS_MAX - outputs.len());
    columns.extend(outputs);
    columns
}

fn of_tensor(side: Side, tensor: u8, spec: &TensorSpec) -> Vec<(String, Source)> {
    let source = |of| Source { side, tensor, of };
    let name = &spec.name;
    let wide = || vec![(format!("{name}.mean"), source(Of::Mean)), (format!("{name}.variance"), source(Of::Variance))];
    let mut columns = match elements(spec) {
        Some(1) => vec![(name.to_string(), source(Of::Element(0)))],
        Some(elements) if elements as usize <= ELEMENTS_MAX => {
            (0..elements).map(|element| (format!("{name}[{element}]"), source(Of::Element(element)))).collect()
        }
        Some(_) | None => wide(),
    };
    if side == Side::Output && elements(spec) != Some(1) {
        columns.insert(0, (format!("{name}.greatest"), source(Of::Greatest)));
    }
    columns
}

/// Elements of one row; `None` where a dimension besides the first is open.
fn elements(spec: &TensorSpec) -> Option<u32> {
    spec.shape.iter().skip(1).try_fold(1u32, |product, size| product.checked_mul((*size)?))
}

/// The number of a column in one row of its tensor; `None` where the row has none.
#[must_use]
pub fn value(tensor: &Tensor, row: usize, of: Of) -> Option<f32> {
    let width = tensor.data().len().checked_div(tensor.rows())?;
    let start = row.checked_mul(width)?;
    let data = tensor.data();
    match of {
        Of::Element(element) => {
            let element = element as usize;
            if element < width { number(data, start + element) } else { None }
        }
        Of::Mean => moments(data, start, width).map(|(mean, _)| mean),
        Of::Variance => moments(data, start, width).map(|(_, variance)| variance),
        Of::Greatest => greatest(data, start, width),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "profiles count in single precision")]
fn number(data: &Data, index: usize) -> Option<f32> {
    if let Data::Fp32(values) = data {
        return values.get(index).copied();
    }
    data.number(index).map(|number| number as f32)
}

#[expect(clippy::cast_precision_loss, reason = "elements of one row")]
fn moments(data: &Data, start: usize, width: usize) -> Option<(f32, f32)> {
    let (mut mean, mut m2) = (0.0f32, 0.0f32);
    for index in 0..width {
        let value = number(data, start + index)?;
        let apart = value - mean;
        mean += apart / (index + 1) as f32;
        m2 += apart * (value - mean);
    }
    (width > 0).then(|| (mean, m2 / width as f32))
}

#[expect(clippy::cast_precision_loss, reason = "numbers of classes are small")]
fn greatest(data: &Data, start: usize, width: usize) -> Option<f32> {
    let mut best: Option<(usize, f32)> = None;
    for index in 0..width {
        let value = number(data, start + index)?;
        if best.is_none_or(|(_, most)| value > most) {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index as f32)
}

#[cfg(test)]
mod tests {
    use bellwether_protocol::manifest::DataType;

    use super::*;

    fn spec(name: &str, shape: &[Option<u32>]) -> TensorSpec {
        TensorSpec { name: name.parse().unwrap(), datatype: DataType::Fp32, shape: shape.iter().copied().collect() }
    }

    #[test]
    fn small_tensors_are_counted_by_element_and_large_ones_by_moments() {
        let signature = TensorSignature {
            inputs: [spec("x", &[None, Some(2)]), spec("photo", &[None, Some(96), Some(96)])].into_iter().collect(),
            outputs: [spec("label", &[None]), spec("p", &[None, Some(2)])].into_iter().collect(),
        };
        let names: Vec<String> = columns(&signature).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["x[0]", "x[1]", "photo.mean", "photo.variance", "label", "p.greatest", "p[0]", "p[1]"]);
    }

    #[test]
    fn a_row_gives_its_numbers() {
        let tensor = Tensor::new("p".parse().unwrap(), vec![2, 3], Data::Fp32(vec![0.0, 0.0, 0.0, 1.0, 4.0, 1.0]));
        let tensor = tensor.unwrap();
        let of = |of| value(&tensor, 1, of);
        let all = [of(Of::Element(1)), of(Of::Element(3)), of(Of::Mean), of(Of::Variance), of(Of::Greatest)];
        assert_eq!(all, [Some(4.0), None, Some(2.0), Some(2.0), Some(1.0)]);
        assert_eq!(value(&tensor, 2, Of::Mean), None);
    }
}
