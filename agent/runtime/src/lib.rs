//! Scoring: named tensors in, named tensors out.
