//! An int8 engine in gateware, what drives it, and its twin in software.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may"))]

#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod bitstream;
pub mod bus;
pub mod engine;
pub mod frame;
pub mod layer;
pub mod loader;
pub mod registers;
pub mod requant;
pub mod twin;

#[cfg(feature = "std")]
pub mod accelerator;
#[cfg(feature = "std")]
pub mod board;
#[cfg(feature = "std")]
pub mod compile;
#[cfg(feature = "std")]
pub mod cosim;
#[cfg(feature = "std")]
pub mod score;
