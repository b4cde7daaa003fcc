//! Two slots per model and a pointer: where packages are on disk.

mod fs;

pub(crate) use fs::{ModelDir, SlotFile, Slots, read_approved};
