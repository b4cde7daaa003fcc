//! The only reader of time in the hub.

use std::time::{SystemTime, UNIX_EPOCH};

use bellwether_protocol::time::Millis;

/// Milliseconds since 1970; zero if the machine's clock stands before that.
#[must_use]
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
