//! Where the time of a model goes: each node of its plan, timed on these inputs.
//!
//! The one part of this crate that looks at a clock. Nodes are those that run, after ours and tract's
//! rewriting; their names are the ones of the model where one node of it became one of the plan.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::{Cpu, LoadError, ScoreError, Tensor};

/// Most repeats: more tell nothing new.
pub const REPEATS_MAX: usize = 10_000;

/// The time of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTime {
    /// Its name.
    pub name: String,
    /// What it computes.
    pub operator: String,
    /// Median over the repeats.
    pub time: Duration,
    /// Size of all its outputs.
    pub output_bytes: usize,
}

/// Why a model was not timed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// It cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It cannot score the inputs.
    #[error(transparent)]
    Score(#[from] ScoreError),
}

/// Scores `inputs` some times after a first one that does not count, 1 to [`REPEATS_MAX`]; the nodes in
/// the order in which they run.
///
/// # Errors
///
/// [`ProfileError`].
pub fn profile(model: &[u8], inputs: &[Tensor], repeats: usize) -> Result<Vec<NodeTime>, ProfileError> {
    let mut cpu = Cpu::load(model)?;
    let mut nodes: Vec<(NodeTime, Vec<Duration>)> = Vec::new();
    for repeat in 0..=repeats.clamp(1, REPEATS_MAX) {
        let mut place = 0;
        cpu.observe(inputs, &mut |seen| {
            match nodes.get_mut(place) {
                Some((_, times)) => times.push(seen.time),
                // Nodes run in the same order each time.
                None if repeat == 0 => nodes.push((seen, Vec::new())),
                None => {}
            }
            place += 1;
        })?;
    }
    let median = |(node, mut times): (NodeTime, Vec<Duration>)| {
        times.sort_unstable();
        NodeTime { time: times.get(times.len() / 2).copied().unwrap_or_default(), ..node }
    };
    Ok(nodes.into_iter().map(median).collect())
}

thread_local! {
    /// Parts of the node that runs, where somebody watches.
    static PARTS: RefCell<Option<Vec<NodeTime>>> = const { RefCell::new(None) };
}

/// Runs a node, and gives the parts that it told of beside its results.
pub(crate) fn parts_of<T>(node: impl FnOnce() -> T) -> (T, Vec<NodeTime>) {
    PARTS.set(Some(Vec::new()));
    let result = node();
    (result, PARTS.take().unwrap_or_default())
}

/// Times of the parts of a node that is several operators in one; costs nothing where nobody watches.
#[derive(Debug)]
pub(crate) struct Parts(Option<Vec<Duration>>);

impl Parts {
    /// So many parts.
    pub(crate) fn watched(count: usize) -> Self {
        Self(PARTS.with_borrow(|parts| parts.is_some().then(|| vec![Duration::ZERO; count])))
    }

    /// Runs a part; it may run more than once.
    pub(crate) fn part<T>(&mut self, index: usize, run: impl FnOnce() -> T) -> T {
        let Some(time) = self.0.as_mut().and_then(|times| times.get_mut(index)) else { return run() };
        let start = Instant::now();
        let result = run();
        *time += start.elapsed();
        result
    }

    /// Tells of all parts: the name, the operator and the size of the outputs of each.
    pub(crate) fn tell<'a>(self, parts: impl Iterator<Item = (&'a str, &'a str, usize)>) {
        let Some(times) = self.0 else { return };
        PARTS.with_borrow_mut(|told| {
            let told = told.get_or_insert_default();
            told.extend(times.into_iter().zip(parts).map(|(time, (name, operator, output_bytes))| NodeTime {
                name: name.to_owned(),
                operator: operator.to_owned(),
                time,
                output_bytes,
            }));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Data;

    #[test]
    fn every_node_that_runs_has_a_time_and_a_size() {
        let image = Tensor::new("image".parse().unwrap(), vec![3, 64], Data::Fp32(vec![0.5; 192])).unwrap();
        let model = include_bytes!("../../../tests/data/digits-cnn.onnx");
        let nodes = profile(model, std::slice::from_ref(&image), 3).unwrap();
        let conv = nodes.iter().find(|node| node.operator.contains("Conv")).unwrap();
        assert_eq!(conv.output_bytes, 3 * 64 * 8 * 8 * 4);
        assert!(nodes.iter().any(|node| node.operator == "Softmax" && node.time > Duration::ZERO));
        assert!(matches!(profile(model, &[], 3), Err(ProfileError::Score(_))));
    }
}
