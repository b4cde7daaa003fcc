//! What travels: one enum up, one enum down. Append variants, never reorder them: their position
//! is their number on the wire.

mod down;
mod up;

pub use down::{Chunk, Desired, Down, Evidence, Table};
pub use up::{Gone, Hello, Need, Up};
