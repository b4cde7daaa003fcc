//! Several operators on images as one, a few images at a time.
//!
//! A batch of images is larger than a processor's caches, and every operator would read all of it from
//! far away and write it back. Here a few images pass through all operators before the next ones
//! begin, and what is handed on stays near:
//!
//! ```text
//!  [batch, ...] ─┬─ first images ── turn ── convolution ── convolution ── pool ─┬─ [batch, ...]
//!                └─ next images ─── ...                                         ┘
//! ```

use std::cell::Cell;
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use tract_onnx::prelude::{
    Datum as _, OutletId, TDim, TValue, TVec, TractResult, TypedFact, TypedModel, TypedNode, tvec,
};
use tract_onnx::tract_core::internal::{
    DatumExt as _, DimLike as _, EvalContext, EvalOp, Op, SpecialOps as _, StaticName, TypedOp, anyhow, as_op, ensure,
    op_as_typed_op, op_out_of_plan,
};

use super::image::{Dense, OnImages, Turn, filled, first};
use super::kernels::{Source, count, space};
use crate::profile::Parts;

/// Numbers that are handed on together: a quarter of a small second-level cache, twice.
const NEAR: usize = 16_384;
/// Images that are worked on together at most.
const TOGETHER_MAX: usize = 16;
/// Rows of an image from which on a product is worth while for a few images: weights are read again for
/// each few.
const ROWS_MIN: usize = 4;
/// Numbers that a thread keeps room for between two runs.
const KEPT_MAX: usize = 1 << 20;

thread_local! {
    /// Room for what is handed on: asking for it anew costs more than small models do.
    static ROOM: Cell<Room> = const { Cell::new(Room { from: Vec::new(), to: Vec::new(), frame: Vec::new() }) };
}

/// What an operator reads and what it writes, and an image in its frame.
#[derive(Default)]
struct Room {
    from: Vec<f32>,
    to: Vec<f32>,
    frame: Vec<f32>,
}

/// Work on one image after another.
#[derive(Clone, Debug, PartialEq)]
enum Work {
    Images(OnImages),
    /// The same, of images whose channels are planes yet.
    Planes(OnImages),
    /// So many rows of an image are multiplied.
    Dense(Dense, usize),
    /// A matrix is turned.
    Turn([usize; 2]),
}

/// One operator of a chain.
#[derive(Clone, Debug, PartialEq)]
struct Link {
    name: String,
    operator: StaticName,
    work: Work,
    /// How many numbers of an image come and go.
    taken: usize,
    made: usize,
}

impl Link {
    /// A node, if it works on each image by itself.
    fn of(model: &TypedModel, node: &TypedNode) -> TractResult<Option<Self>> {
        let ([input], [output]) = (node.inputs.as_slice(), node.outputs.as_slice()) else { return Ok(None) };
        let (input, output) = (model.outlet_fact(*input)?, &output.fact);
        let sizes = |fact: &TypedFact| -> Option<Vec<usize>> {
            fact.shape.iter().skip(1).map(|size| size.to_usize().ok()).collect()
        };
        let (Some(taken), Some(made)) = (sizes(input), sizes(output)) else { return Ok(None) };
        let is_batched = input.rank() > 1 && output.rank() > 1 && input.shape.first() == output.shape.first();
        if !is_batched {
            return Ok(None);
        }
        let work = if let Some(images) = node.op.downcast_ref::<OnImages>() {
            Work::Images(images.clone())
        } else if let Some(dense) = node.op.downcast_ref::<Dense>() {
            let rows = count(made.split_last().map_or(&[], |(_, rows)| rows))?;
            if rows < ROWS_MIN || dense.taken >= input.rank() {
                return Ok(None);
            }
            Work::Dense(dense.clone(), rows)
        } else if let (Some(turn), [first, .., last]) = (node.op.downcast_ref::<Turn>(), taken.as_slice()) {
            let channels = if turn.to_last { *first } else { *last };
            let space = count(&taken)? / channels.max(1);
            Work::Turn(if turn.to_last { [channels, space] } else { [space, channels] })
        } else {
            return Ok(None);
        };
        let (taken, made) = (count(&taken)?, count(&made)?);
        let (name, operator) = (node.name.clone(), node.op.name());
        Ok((taken > 0 && made > 0).then_some(Self { name, operator, work, taken, made }))
    }

    fn apply(&self, data: &[f32], out: &mut [f32], frame: &mut Vec<f32>) -> TractResult<()> {
        match &self.work {
            Work::Images(images) => images.each(data, false, out, frame),
            Work::Planes(images) => images.each(data, true, out, frame),
            Work::Dense(dense, rows) => {
                let rows = rows * (data.len() / self.taken);
                dense.linear.apply(&Source::rows(data, rows, dense.linear.depth()), false, out)
            }
            Work::Turn([rows, columns]) => space::turn(data, *rows, *columns, out),
        }
    }
}

/// Operators of which each takes what the one before it made.
#[derive(Clone, Debug, PartialEq)]
struct Chain {
    links: Arc<Vec<Link>>,
    /// The shape of an image that comes out.
    made: TVec<usize>,
    /// How many images are worked on at a time.
    together: usize,
}

impl Eq for Chain {}

impl Chain {
    fn new(mut links: Vec<Link>, made: TVec<usize>) -> Self {
        // A convolution that frames its image turns it on the way.
        if let [Link { work: Work::Turn([planes, _]), .. }, Link { work, .. }, ..] = links.as_mut_slice()
            && let Work::Images(images) = work
            && images.takes_planes(*planes)
        {
            *work = Work::Planes(images.clone());
            links.remove(0);
        }
        let most = links.iter().map(|link| link.taken.max(link.made)).max().unwrap_or(1);
        Self { links: Arc::new(links), made, together: (NEAR / most).clamp(1, TOGETHER_MAX) }
    }

    fn run(&self, data: &[f32], out: &mut [f32]) -> TractResult<()> {
        let (Some(start), Some(end)) = (self.links.first(), self.links.last()) else { return Ok(()) };
        ensure!(
            data.len().is_multiple_of(start.taken) && data.len() / start.taken == out.len() / end.made,
            "images of other sizes"
        );
        let mut room = ROOM.take();
        let many = self.together.min(data.len() / start.taken);
        let handed = self.links.iter().skip(1).map(|link| link.taken).max().unwrap_or(0);
        let size = count(&[many, handed])?;
        for room in [&mut room.from, &mut room.to] {
            if room.len() < size {
                room.resize(size, 0.0);
            }
        }
        let mut parts = Parts::watched(self.links.len());
        let images = data.chunks(start.taken * self.together).zip(out.chunks_mut(end.made * self.together));
        for (data, out) in images {
            self.some(data, out, &mut room, &mut parts)?;
        }
        parts.tell(self.links.iter().map(|link| {
            let bytes = (out.len() / end.made).saturating_mul(link.made * size_of::<f32>());
            (link.name.as_str(), link.operator.as_ref(), bytes)
        }));
        if room.from.len() + room.to.len() + room.frame.len() <= KEPT_MAX {
            ROOM.set(room);
        }
        Ok(())
    }

    /// A few images.
    fn some(&self, data: &[f32], out: &mut [f32], room: &mut Room, parts: &mut Parts) -> TractResult<()> {
        let Room { from, to, frame } = room;
        let last = self.links.len() - 1;
        let many = data.len() / self.links.first().map_or(1, |link| link.taken);
        for (index, link) in self.links.iter().enumerate() {
            let data = if index == 0 { data } else { from.get(..many * link.taken).unwrap_or(from) };
            let made = if index == last { Some(&mut *out) } else { to.get_mut(..many * link.made) };
            ensure!(made.is_some(), "no room for {}", link.name);
            parts.part(index, || made.map_or(Ok(()), |made| link.apply(data, made, frame)))?;
            mem::swap(from, to);
        }
        Ok(())
    }
}

impl Op for Chain {
    fn name(&self) -> StaticName {
        "Chain".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Chain {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = first(&inputs)?;
        let batch = input.shape().first().copied().unwrap_or(1);
        let shape: TVec<usize> = [batch].into_iter().chain(self.made.iter().copied()).collect();
        filled(&shape, |out| self.run(input.try_as_plain_ram()?.as_slice()?, out))
    }
}

impl TypedOp for Chain {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = *first(inputs)?;
        ensure!(input.datum_type == f32::datum_type() && input.rank() > 1);
        let shape: TVec<TDim> =
            input.shape.iter().take(1).cloned().chain(self.made.iter().map(|size| (*size).into())).collect();
        Ok(tvec![f32::fact(shape)])
    }
}

/// The same model with operators on images joined where nobody else looks at what they hand on.
///
/// # Errors
///
/// What tract says of a model that does not fit together any more.
pub(super) fn join(model: &TypedModel) -> TractResult<TypedModel> {
    let mut to = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
    let mut done: HashMap<OutletId, OutletId> = HashMap::new();
    for outlet in model.input_outlets()? {
        let made = to.add_source(&model.node(outlet.node).name, model.outlet_fact(*outlet)?.clone())?;
        done.insert(*outlet, made);
    }
    // Chains that are not ended yet, by what they make, and what they begin with.
    let mut open: HashMap<OutletId, (OutletId, Vec<Link>)> = HashMap::new();
    for id in model.eval_order()? {
        let node = model.node(id);
        if done.contains_key(&id.into()) {
            continue;
        }
        let Some(link) = Link::of(model, node)? else {
            let inputs: TVec<OutletId> =
                node.inputs.iter().map(|outlet| made_of(&done, *outlet)).collect::<TractResult<_>>()?;
            let made = to.wire_node(&node.name, node.op.clone(), &inputs)?;
            done.extend(made.into_iter().enumerate().map(|(slot, made)| (OutletId::new(id, slot), made)));
            continue;
        };
        let input = *first(&node.inputs)?;
        let (begin, mut links) = open.remove(&input).unwrap_or((input, Vec::new()));
        links.push(link);
        let followers = node.outputs.first().map_or(&[][..], |output| output.successors.as_slice());
        let is_followed = match followers {
            [only] => Link::of(model, model.node(only.node))?.is_some(),
            _ => false,
        };
        if is_followed && !model.output_outlets()?.contains(&id.into()) {
            open.insert(id.into(), (begin, links));
            continue;
        }
        let inputs = [made_of(&done, begin)?];
        let made = if links.len() == 1 {
            to.wire_node(&node.name, node.op.clone(), &inputs)?
        } else {
            let shape = model.outlet_fact(id.into())?.shape.iter().skip(1);
            let shape = shape.map(|size| Ok(size.to_usize()?)).collect::<TractResult<_>>()?;
            to.wire_node(&node.name, Chain::new(links, shape), &inputs)?
        };
        done.extend(made.into_iter().map(|made| (id.into(), made)));
    }
    let outputs: Vec<OutletId> =
        model.output_outlets()?.iter().map(|outlet| made_of(&done, *outlet)).collect::<TractResult<_>>()?;
    to.select_output_outlets(&outputs)?;
    Ok(to)
}

/// What stands for a value of the model.
fn made_of(done: &HashMap<OutletId, OutletId>, outlet: OutletId) -> TractResult<OutletId> {
    done.get(&outlet).copied().ok_or_else(|| anyhow!("a value that nobody made"))
}
