//! The hub's rules: registry, fleet, rollout; without clock, socket or disk.
