//! The hub's rules through their public face: what is refused, a whole rollout told as a story,
//! outboxes that stutter, and random inputs under which the invariants must hold.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails says where, and that is what it is for")]

mod approvals;
mod chain;
mod intake;
mod keyring;
mod modes;
mod offload;
mod outboxes;
mod random;
mod registry;
mod rollback;
mod rollouts;
mod world;
