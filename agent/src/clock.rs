//! The only reader of time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bellwether_protocol::time::Millis;

/// Time since the agent started, which never jumps, and the wall clock, which may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Milliseconds since the agent started.
    pub(crate) fn now(self) -> Millis {
        Millis(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The instant of a time given by [`Clock::now`].
    pub(crate) fn instant(self, at: Millis) -> Instant {
        self.start + std::time::Duration::from_millis(at.0)
    }
}

/// Milliseconds since 1970 by the device's clock, which may be wrong.
pub(crate) fn wall() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
