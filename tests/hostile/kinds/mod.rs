//! The corpus: families of models, each with something in it that a runtime may stumble over.

mod bytes;
mod layers;
mod operators;
mod own;
mod sizes;
mod structure;
mod trees;
mod windows;

use std::collections::BTreeSet;

use crate::onnx::{Model, node, weights};

/// One model.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    /// Family and what is wrong: unique.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// Whether nothing is wrong with it, so that it must be scored: what the others derive from.
    pub(crate) is_sound: bool,
}

/// Where families put what they make.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    pub(crate) all: Vec<Kind>,
}

impl Kinds {
    pub(crate) fn add(&mut self, name: impl Into<String>, model: &Model) {
        self.raw(name, model.bytes());
    }

    pub(crate) fn raw(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        self.all.push(Kind { name: name.into(), bytes, is_sound: false });
    }

    /// A model from which others are derived.
    pub(crate) fn sound(&mut self, name: impl Into<String>, model: &Model) {
        self.all.push(Kind { name: name.into(), bytes: model.bytes(), is_sound: true });
    }
}

/// Every kind; names are unique, and so are files.
pub(crate) fn all() -> Vec<Kind> {
    let mut kinds = Kinds::default();
    sizes::add(&mut kinds);
    structure::add(&mut kinds);
    windows::add(&mut kinds);
    layers::add(&mut kinds);
    trees::add(&mut kinds);
    operators::add(&mut kinds);
    own::add(&mut kinds);
    bytes::add(&mut kinds);
    let mut names = BTreeSet::new();
    for kind in &kinds.all {
        assert!(names.insert(kind.name.clone()), "two kinds are named {}", kind.name);
    }
    let mut files = BTreeSet::new();
    kinds.all.retain(|kind| files.insert(kind.bytes.clone()));
    kinds.all
}

/// Numbers at which code that counts goes wrong.
pub(crate) const SHARP: [i64; 9] = [0, -1, -9, 1 << 20, 1 << 31, (1 << 32) + 1, 1 << 40, i64::MAX, i64::MIN];

/// A small network: a matrix and an activation.
pub(crate) fn dense() -> Model {
    let nodes = vec![node("MatMul", "x w", "h"), node("Relu", "h", "y")];
    Model::new(nodes, vec![weights("w", &[4, 3])], &[-1, 4], &[-1, 3])
}
