//! Whether this runtime computes what models mean: ONNX's node suite against a committed list of what
//! becomes of each case, each model read, checked and loaded as at registration.
//!
//! The cases are made by Python (`BELLWETHER_MODELS_PYTHON`, with what `requirements.txt` names);
//! `BELLWETHER_CONFORMANCE` names a folder that has them already, `BELLWETHER_BLESS=1` writes lists anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says where; what became of each case is printed"
)]

mod cases;
mod classical_ops;
mod fpga;
mod node_suite;
mod quantised_here;
mod quantised_set;
mod sklearn_set;
