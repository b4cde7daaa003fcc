//! Fleets of the real device code.
