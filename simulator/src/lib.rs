//! Fleets of the real device code: every simulated device is the agent itself as a library, with
//! its own key, slots, outbox and MQTT session, fed with real images.
//!
//! What is simulated: where the images come from, and that many devices share one process. What is
//! not: brain, runtime, link, signatures, storage, hub.
//!
//! Rooms: [`data`] the images; [`fleet`] the devices; [`demo`] the story that `cargo demo` tells;
//! [`seeds`] many runs of the deterministic simulator, and [`cuts`] its power cuts at every operation
//! of a disk; it is a crate of its own ([`bellwether_world`]).

pub mod cuts;
pub mod data;
pub mod demo;
pub mod fleet;
pub mod seeds;
