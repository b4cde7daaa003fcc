//! LSTM, GRU and RNN: weights of the shapes that the format gives, since tract slices them unseen.

use tract_onnx::pb::NodeProto;

use super::attributes::{int, text};
use super::shapes::{Computed, Fact, Inputs, Shape, elements, shown};
use super::{Fault, STEPS_MAX};

/// Checks the weights and gives the shapes of the sequence and of the last state.
pub(super) fn check<'m>(node: &NodeProto, inputs: Inputs<'_, 'm>) -> Result<Computed<'m>, Fault> {
    let gates: u64 = match node.op_type.as_str() {
        "LSTM" | "DynamicQuantizeLSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let directions: u64 = match text(node, "direction") {
        "" | "forward" | "reverse" => 1,
        "bidirectional" => 2,
        other => return Err(Fault::broken(format!("direction `{}` is none", super::shown(other)))),
    };
    let (Some(input), Some(weight), Some(recurrence)) = (inputs.shape(0), inputs.shape(1), inputs.shape(2)) else {
        return Ok(Computed::one(None));
    };
    let [first, second, width] = input else {
        return Err(Fault::broken(format!("its input {} has not three dimensions", shown(input))));
    };
    let hidden = recurrence.get(2).copied().flatten();
    let said = int(node, "hidden_size").and_then(|said| u64::try_from(said).ok());
    if let Some((said, _)) = said.zip(hidden).filter(|(said, hidden)| said != hidden) {
        let shape = shown(recurrence);
        return Err(Fault::broken(format!("`hidden_size` is {said}, its recurrence has shape {shape}")));
    }
    let Some(hidden) = hidden.filter(|hidden| *hidden > 0) else {
        return Err(Fault::broken(format!("its recurrence has shape {}", shown(recurrence))));
    };
    let rows = gates.saturating_mul(hidden);
    fits(inputs, 1, &[Some(directions), Some(rows), *width])?;
    fits(inputs, 2, &[Some(directions), Some(rows), Some(hidden)])?;
    fits(inputs, 3, &[Some(directions), Some(rows.saturating_mul(2))])?;
    let is_batch_first = int(node, "layout").unwrap_or(0) == 1;
    let batch = if is_batch_first { *first } else { *second };
    let state: Shape = if is_batch_first {
        vec![batch, Some(directions), Some(hidden)]
    } else {
        vec![Some(directions), batch, Some(hidden)]
    };
    fits(inputs, 5, &state)?;
    if gates == 4 {
        fits(inputs, 6, &state)?;
        fits(inputs, 7, &[Some(directions), Some(hidden.saturating_mul(3))])?;
    }
    let sequence = if is_batch_first { *second } else { *first };
    if let Some(steps) = sequence.filter(|steps| *steps > STEPS_MAX) {
        return Err(Fault::large(format!("a sequence of {steps} steps: at most {STEPS_MAX}")));
    }
    let steps = elements(&[*first, *second]);
    let work = steps.saturating_mul(elements(weight).saturating_add(elements(recurrence)));
    let (one, all) = (Some(directions), Some(hidden));
    let whole = if is_batch_first { vec![*first, *second, one, all] } else { vec![*first, one, *second, all] };
    let last = Fact::of(state);
    Ok(Computed { outputs: vec![Fact::of(whole), last.clone(), last], work, ..Computed::default() })
}

/// An input, if it is given, has this shape.
fn fits(inputs: Inputs<'_, '_>, index: usize, expected: &[Option<u64>]) -> Result<(), Fault> {
    let Some(shape) = inputs.shape(index) else { return Ok(()) };
    let is_equal = |(got, want): (&Option<u64>, &Option<u64>)| got.zip(*want).is_none_or(|(got, want)| got == want);
    if shape.len() == expected.len() && shape.iter().zip(expected).all(is_equal) {
        return Ok(());
    }
    Err(Fault::broken(format!("input {index} has shape {}, {} is needed", shown(shape), shown(expected))))
}
