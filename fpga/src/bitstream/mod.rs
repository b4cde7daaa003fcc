//! Bitstreams, walked from the first byte to the last before anything is loaded.

pub mod ice40;
