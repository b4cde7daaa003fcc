//! Bitstreams, walked from the first byte to the last before anything is loaded.
//!
//! | | what | checked |
//! |---|---|---|
//! | [`ice40`] | `.bin` of a UP5K, in pieces of any size | structure, part, CRC, every block once, nothing behind |
//! | [`xilinx`] | `.bit` or `.bin` of a 7-series part, whole in memory | structure, part, CRCs, nothing behind |
//!
//! Both refuse more than a part would: what is made otherwise than by the tools is not worth a
//! board. Neither says who made a bitstream: that, and what no CRC covers, is for the signature
//! of its release.

pub mod ice40;
pub mod xilinx;
