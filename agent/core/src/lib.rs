//! The device's brain: rules without clock, socket or disk.
