//! An int8 engine in gateware, what drives it, and its twin in software.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may"))]

pub mod bitstream;
