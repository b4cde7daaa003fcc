//! From a quantised network to what the engine's memories must hold.

pub mod network;
