//! The operator that runs all steps.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked where `eval` begins; vectors must not cross calls"
)]

use std::sync::Arc;

use fearless_simd::{Level, Simd, dispatch};
use tract_onnx::prelude::{Datum as _, TValue, TVec, Tensor, TractResult, TypedFact, tvec};
use tract_onnx::tract_core::internal::{
    DatumExt as _, EvalContext, EvalOp, IntoTValue as _, Op, StaticName, TDim, TypedOp, anyhow, as_op, ensure,
    op_as_typed_op, op_out_of_plan,
};

use super::Kind;
use super::cell::{self, Curve, Rules};
use crate::ops::image::first;
use crate::ops::kernels::{Clamp, Linear, Source, Starts, count};

/// Numbers of gates that are computed in advance: they stay near.
const AHEAD: usize = 1 << 16;

/// Weights of one direction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Direction {
    is_backward: bool,
    curves: Vec<Curve>,
    input: Linear,
    /// All gates; z and r of a GRU that resets before the product, whose h is `inner`.
    recurrent: Linear,
    inner: Option<Linear>,
    peepholes: Option<Vec<f32>>,
}

impl Direction {
    /// `weights` are `[gates × hidden, width]` and `[gates × hidden, hidden]`, `more` are the biases of
    /// both, `[2 × gates × hidden]`, and peepholes.
    pub(super) fn new(
        kind: Kind,
        [width, hidden]: [usize; 2],
        is_reset_after: bool,
        (is_backward, curves): (bool, Vec<Curve>),
        (weights, recurrence): (Vec<f32>, Vec<f32>),
        (bias, peepholes): (Option<Vec<f32>>, Option<Vec<f32>>),
    ) -> TractResult<Self> {
        let rows = count(&[kind.gates(), hidden])?;
        ensure!(hidden > 0 && weights.len() == count(&[rows, width])?, "weights of another size");
        ensure!(recurrence.len() == count(&[rows, hidden])?, "a recurrence of another size");
        ensure!(bias.as_ref().is_none_or(|bias| bias.len() == 2 * rows), "a bias of another size");
        ensure!(peepholes.as_ref().is_none_or(|list| list.len() == 3 * hidden), "peepholes of another size");
        let mut bias = bias.unwrap_or_else(|| vec![0.0; 2 * rows]);
        let mut late = bias.split_off(rows);
        // What is added to h of a GRU after the reset stays with the recurrence.
        let merged = if kind == Kind::Gru && is_reset_after { 2 * hidden } else { rows };
        for (bias, late) in bias.iter_mut().zip(&mut late).take(merged) {
            *bias += std::mem::take(late);
        }
        let linear = |rows: usize, weights: &[f32], bias: &[f32]| {
            Linear::new(&turned(weights, rows), rows, Some(bias), Clamp::default())
        };
        let is_split = kind == Kind::Gru && !is_reset_after;
        let early = if is_split { 2 * hidden } else { rows };
        let (outer, inner) = recurrence.split_at(early * hidden);
        Ok(Self {
            is_backward,
            curves,
            input: linear(rows, &weights, &bias)?,
            recurrent: linear(early, outer, &late[..early])?,
            inner: if is_split { Some(linear(hidden, inner, &late[early..])?) } else { None },
            peepholes,
        })
    }
}

/// `[rows, columns]` as `[columns, rows]`.
fn turned(weights: &[f32], rows: usize) -> Vec<f32> {
    let columns = weights.len() / rows;
    (0..columns).flat_map(|column| (0..rows).map(move |row| weights[row * columns + column])).collect()
}

/// All steps of all directions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unrolled {
    pub(super) kind: Kind,
    pub(super) directions: Arc<Vec<Direction>>,
    pub(super) hidden: usize,
    pub(super) clip: f32,
    pub(super) is_reset_after: bool,
    pub(super) is_forget_coupled: bool,
    pub(super) is_batch_first: bool,
    /// Which input is the lengths, the first h, the first c.
    pub(super) given: [Option<usize>; 3],
    /// Which output is the sequence, the last h, the last c.
    pub(super) made: [Option<usize>; 3],
}

impl Eq for Unrolled {}

/// What one direction works on.
struct Run<'a> {
    x: &'a [f32],
    steps: usize,
    batch: usize,
    lengths: &'a [usize],
    index: usize,
}

/// What is kept from step to step, `[batch, hidden]`, and room for a step.
struct State {
    h: Vec<f32>,
    c: Vec<f32>,
    room: Vec<f32>,
}

impl Unrolled {
    /// Where the numbers of a row are at a step, in numbers of `width`.
    fn place(&self, run: &Run<'_>, step: usize, row: usize) -> usize {
        if self.is_batch_first { row * run.steps + step } else { step * run.batch + row }
    }

    /// Where a state of a row is in the tensor of all directions.
    fn state(&self, run: &Run<'_>, row: usize) -> usize {
        let count = self.directions.len();
        (if self.is_batch_first { row * count + run.index } else { run.index * run.batch + row }) * self.hidden
    }

    fn direction(&self, run: &Run<'_>, state: &mut State, sequence: &mut [f32]) -> TractResult<()> {
        let direction = &self.directions[run.index];
        let (width, wide) = (direction.input.depth(), direction.input.width());
        let ahead = (AHEAD / (run.batch * wide).max(1)).clamp(1, run.steps.max(1));
        let mut gates = vec![0.0; count(&[ahead, run.batch, wide])?];
        let rules = Rules {
            curves: &direction.curves,
            clip: self.clip,
            is_forget_coupled: self.is_forget_coupled,
            peepholes: direction.peepholes.as_deref(),
        };
        let time = |step: usize, row: usize| {
            let length = run.lengths[row];
            let step = step.min(length.saturating_sub(1));
            if direction.is_backward { length.saturating_sub(1) - step } else { step }
        };
        let mut starts = Vec::new();
        for from in (0..run.steps).step_by(ahead) {
            let many = ahead.min(run.steps - from);
            starts.clear();
            for step in from..from + many {
                starts.extend((0..run.batch).map(|row| self.place(run, time(step, row), row) * width));
            }
            let rows = many * run.batch;
            let source = Source { data: run.x, rows, starts: Starts::At(&starts), offsets: None };
            direction.input.apply(&source, false, &mut gates[..rows * wide])?;
            for (step, gates) in (from..from + many).zip(gates.chunks_exact_mut(run.batch * wide)) {
                self.step(direction, rules, run, step, gates, state)?;
                if sequence.is_empty() {
                    continue;
                }
                for (row, h) in
                    state.h.chunks_exact(self.hidden).enumerate().filter(|(row, _)| step < run.lengths[*row])
                {
                    let place = if self.is_batch_first {
                        self.place(run, time(step, row), row) * self.directions.len() + run.index
                    } else {
                        (time(step, row) * self.directions.len() + run.index) * run.batch + row
                    };
                    sequence[place * self.hidden..][..self.hidden].copy_from_slice(h);
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what a step works on")]
    fn step(
        &self,
        direction: &Direction,
        rules: Rules<'_>,
        run: &Run<'_>,
        step: usize,
        gates: &mut [f32],
        state: &mut State,
    ) -> TractResult<()> {
        let (hidden, batch) = (self.hidden, run.batch);
        let wide = direction.input.width();
        let State { h, c, room } = state;
        if self.kind != Kind::Gru {
            direction.recurrent.apply(&Source::rows(h, batch, hidden), true, gates)?;
        } else if self.is_reset_after {
            room.resize(batch * wide, 0.0);
            direction.recurrent.apply(&Source::rows(h, batch, hidden), false, room)?;
        } else if let Some(inner) = &direction.inner {
            // z and r, then h of what r lets through.
            room.resize(batch * wide, 0.0);
            let (outer, rest) = room.split_at_mut(2 * batch * hidden);
            direction.recurrent.apply(&Source::rows(h, batch, hidden), false, outer)?;
            for (gates, outer) in gates.chunks_exact_mut(wide).zip(outer.chunks_exact(2 * hidden)) {
                gates.iter_mut().zip(outer).for_each(|(gate, outer)| *gate += outer);
            }
            let (reset, new) = (rest, outer);
            dispatch!(Level::new(), simd => resets(simd, rules, hidden, gates, h, reset));
            let new = &mut new[..batch * hidden];
            for (new, gates) in new.chunks_exact_mut(hidden).zip(gates.chunks_exact(wide)) {
                new.copy_from_slice(&gates[2 * hidden..]);
            }
            inner.apply(&Source::rows(reset, batch, hidden), true, new)?;
        }
        let rows =
            Rows { kind: self.kind, is_reset_after: self.is_reset_after, hidden, wide, step, lengths: run.lengths };
        dispatch!(Level::new(), simd => cells(simd, rules, &rows, gates, room, (h, c)));
        Ok(())
    }
}

#[inline(always)]
fn resets<S: Simd>(simd: S, rules: Rules<'_>, hidden: usize, gates: &mut [f32], h: &[f32], reset: &mut [f32]) {
    for ((gates, h), reset) in
        gates.chunks_exact_mut(3 * hidden).zip(h.chunks_exact(hidden)).zip(reset.chunks_exact_mut(hidden))
    {
        cell::gru_reset(simd, rules, gates, h, reset);
    }
}

/// How rows lie, and which of them go on at this step.
struct Rows<'a> {
    kind: Kind,
    is_reset_after: bool,
    hidden: usize,
    wide: usize,
    step: usize,
    lengths: &'a [usize],
}

#[inline(always)]
fn cells<S: Simd>(
    simd: S,
    rules: Rules<'_>,
    rows: &Rows<'_>,
    gates: &[f32],
    room: &[f32],
    (h, c): (&mut [f32], &mut [f32]),
) {
    let hidden = rows.hidden;
    for (row, (gates, h)) in gates.chunks_exact(rows.wide).zip(h.chunks_exact_mut(hidden)).enumerate() {
        if rows.step >= rows.lengths[row] {
            continue;
        }
        match rows.kind {
            Kind::Lstm => cell::lstm(simd, rules, gates, h, &mut c[row * hidden..][..hidden]),
            Kind::Gru if rows.is_reset_after => cell::gru(simd, rules, gates, &room[row * rows.wide..][..rows.wide], h),
            Kind::Gru => cell::gru_update(simd, rules, gates, &room[row * hidden..][..hidden], h),
            Kind::Rnn => cell::rnn(simd, rules, gates, h),
        }
    }
}

impl Op for Unrolled {
    fn name(&self) -> StaticName {
        format!("{:?}", self.kind).to_uppercase().into()
    }

    op_as_typed_op!();
}

impl Unrolled {
    /// Shapes of the sequence and of a state.
    fn shapes<D: Clone + From<usize>>(&self, steps: &D, batch: &D) -> [TVec<D>; 2] {
        let (count, hidden) = (D::from(self.directions.len()), D::from(self.hidden));
        let (steps, batch) = (steps.clone(), batch.clone());
        if self.is_batch_first {
            [tvec![batch.clone(), steps, count.clone(), hidden.clone()], tvec![batch, count, hidden]]
        } else {
            [tvec![steps, count.clone(), batch.clone(), hidden.clone()], tvec![count, batch, hidden]]
        }
    }
}

impl EvalOp for Unrolled {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = first(&inputs)?;
        let [one, two, width] = x.shape() else { return Err(anyhow!("no sequence")) };
        let (steps, batch) = if self.is_batch_first { (*two, *one) } else { (*one, *two) };
        let [whole, single] = self.shapes(&steps, &batch);
        let at = |index: Option<usize>| index.and_then(|index| inputs.get(index));
        let lengths: Vec<usize> = match at(self.given[0]) {
            Some(lengths) => {
                let cast = lengths.cast_to::<i64>()?;
                let view = cast.try_as_plain_ram()?;
                let limited = |length: &i64| usize::try_from(*length).unwrap_or(0).min(steps);
                view.as_slice::<i64>()?.iter().map(limited).collect()
            }
            None => vec![steps; batch],
        };
        ensure!(lengths.len() == batch, "{} lengths for {batch} rows", lengths.len());
        let begin = |index: Option<usize>| -> TractResult<Vec<f32>> {
            match at(index) {
                Some(value) => Ok(value.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()),
                None => Ok(vec![0.0; count(&single)?]),
            }
        };
        let (mut all_h, mut all_c) = (begin(self.given[1])?, begin(self.given[2])?);
        ensure!(all_h.len() == count(&single)? && all_c.len() == all_h.len(), "a state of another size");
        let mut sequence =
            if self.made[0].is_some() { Tensor::zero::<f32>(&whole)? } else { Tensor::zero::<f32>(&[0])? };
        {
            let mut view = sequence.try_as_plain_ram_mut()?;
            let sequence = view.as_slice_mut::<f32>()?;
            let plain = x.try_as_plain_ram()?;
            let x = plain.as_slice::<f32>()?;
            for (index, direction) in self.directions.iter().enumerate() {
                ensure!(direction.input.depth() == *width, "{width} numbers a step");
                let run = Run { x, steps, batch, lengths: &lengths, index };
                let pick = |all: &[f32]| -> Vec<f32> {
                    (0..batch).flat_map(|row| &all[self.state(&run, row)..][..self.hidden]).copied().collect()
                };
                let mut state = State { h: pick(&all_h), c: pick(&all_c), room: Vec::new() };
                self.direction(&run, &mut state, sequence)?;
                for row in 0..batch {
                    let (to, from) = (self.state(&run, row), row * self.hidden);
                    all_h[to..][..self.hidden].copy_from_slice(&state.h[from..][..self.hidden]);
                    all_c[to..][..self.hidden].copy_from_slice(&state.c[from..][..self.hidden]);
                }
            }
        }
        let made = [sequence, Tensor::from_shape(&single, &all_h)?, Tensor::from_shape(&single, &all_c)?];
        let mut outputs: Vec<_> =
            self.made.iter().zip(made).filter_map(|(slot, made)| Some(((*slot)?, made))).collect();
        outputs.sort_by_key(|(slot, _)| *slot);
        Ok(outputs.into_iter().map(|(_, made)| made.into_tvalue()).collect())
    }
}

impl TypedOp for Unrolled {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let x = *first(inputs)?;
        ensure!(x.datum_type == f32::datum_type() && x.rank() == 3);
        let axis = |index: usize| x.shape[index].clone();
        let (steps, batch) = if self.is_batch_first { (axis(1), axis(0)) } else { (axis(0), axis(1)) };
        let [whole, single] = self.shapes::<TDim>(&steps, &batch);
        let mut facts: Vec<_> = self
            .made
            .iter()
            .zip([whole, single.clone(), single])
            .filter_map(|(slot, shape)| Some(((*slot)?, f32::fact(shape))))
            .collect();
        facts.sort_by_key(|(slot, _)| *slot);
        Ok(facts.into_iter().map(|(_, fact)| fact).collect())
    }
}
