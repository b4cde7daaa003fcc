//! Looks at values inside a model while it scores rows, block by block.

use std::ops::Range;

use super::QuantizeError;
use crate::cpu::{Cpu, Reals};
use crate::{LoadError, Scorer as _, Tensor, inspect};

/// Most rows of a block.
const BLOCK_ROWS_MAX: usize = 256;
/// Most elements of all values of a block: 16 MiB of floats, and a few times that while a model scores.
const BLOCK_ELEMENTS_MAX: usize = 1 << 22;

/// Where a value is found.
enum From {
    Input(usize),
    /// Among the outputs, those inside last.
    Output(usize),
}

/// A model with some of its values open.
pub(super) struct Probe {
    cpu: Cpu,
    values: Vec<From>,
}

impl Probe {
    /// Opens these values of a model.
    pub(super) fn new(model: &[u8], values: &[String]) -> Result<Self, QuantizeError> {
        let signature = inspect::read(model).map_err(LoadError::from)?.1.signature;
        let inside: Vec<String> = values
            .iter()
            .filter(|value| {
                let is_it = |name: &str| name == value.as_str();
                !signature.inputs.iter().chain(&signature.outputs).any(|spec| is_it(spec.name.as_str()))
            })
            .cloned()
            .collect();
        let place = |value: &String| {
            let input = signature.inputs.iter().position(|spec| spec.name.as_str() == value);
            let output = signature.outputs.iter().position(|spec| spec.name.as_str() == value);
            let further = || inside.iter().position(|name| name == value).map(|at| at + signature.outputs.len());
            input.map(From::Input).or_else(|| output.or_else(further).map(From::Output))
        };
        let places = values.iter().filter_map(place).collect();
        Ok(Self { cpu: Cpu::load_open(model, &inside)?, values: places })
    }

    /// What the values hold for some rows, in the order in which they were asked for.
    pub(super) fn values(&mut self, rows: &[Tensor]) -> Result<Vec<Reals>, QuantizeError> {
        let outputs = self.cpu.reals(rows)?;
        let signature = self.cpu.signature();
        let input = |at: usize| {
            let name = &signature.inputs.get(at)?.name;
            let tensor = rows.iter().find(|tensor| tensor.name == *name)?;
            let crate::Data::Fp32(numbers) = tensor.data() else { return None };
            Some(Reals { shape: tensor.shape().to_vec(), numbers: numbers.clone() })
        };
        let found = self.values.iter().map(|from| match from {
            From::Input(at) => input(*at),
            From::Output(at) => outputs.get(*at).cloned(),
        });
        found.collect::<Option<_>>().ok_or(QuantizeError::NotSingle)
    }

    /// Ranges of so many rows, as many at once as the model takes and memory allows.
    pub(super) fn blocks(&mut self, rows: &[Tensor]) -> Result<Vec<Range<usize>>, QuantizeError> {
        let all = rows.first().map_or(0, Tensor::rows);
        let fixed = self.cpu.signature().inputs.first().and_then(|spec| spec.shape.first().copied().flatten());
        let block = match fixed {
            Some(rows) => (rows as usize).max(1),
            None => {
                let elements: usize =
                    self.values(&cut(rows, 0..1))?.iter().map(|value| value.numbers.len()).sum::<usize>();
                (BLOCK_ELEMENTS_MAX / elements.max(1)).clamp(1, BLOCK_ROWS_MAX)
            }
        };
        if fixed.is_some() && all < block {
            return Err(QuantizeError::Block { block, rows: all });
        }
        // Rows that do not fill the last block of a fixed size are left out.
        let end = if fixed.is_some() { all / block * block } else { all };
        Ok((0..end).step_by(block).map(|start| start..(start + block).min(end)).collect())
    }
}

/// These rows of every tensor.
pub(super) fn cut(rows: &[Tensor], range: Range<usize>) -> Vec<Tensor> {
    rows.iter().filter_map(|tensor| tensor.row_range(range.clone())).collect()
}
