//! The only reader of time in the hub.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bellwether_protocol::time::Millis;

/// Between two looks a clock may run apart by this much; more means that it was set.
const SET_MS: u64 = 2_000;

/// Milliseconds since 1970; zero if the machine's clock stands before that.
#[must_use]
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Notices that the machine's clock was set, against one that only runs. Time in which the machine
/// slept counts as set forward: nothing was watched then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    wall: Millis,
    at: Instant,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { wall: now(), at: Instant::now() }
    }

    /// By how many milliseconds the clock was set since the last look, forward or back.
    pub(crate) fn set_by(&mut self) -> Option<i64> {
        self.look(now(), Instant::now())
    }

    fn look(&mut self, wall: Millis, at: Instant) -> Option<i64> {
        let ran = u64::try_from(at.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        let expected = self.wall.saturating_add(Millis(ran));
        *self = Self { wall, at };
        let apart = i64::try_from(wall.apart(expected).0).unwrap_or(i64::MAX);
        (wall.apart(expected).0 > SET_MS).then_some(if wall < expected { -apart } else { apart })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_was_set_is_noticed_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let wall = |seconds: u64| Millis(1_000_000_000 + seconds * 1000);
        let mut watch = Watch { wall: wall(0), at: start };
        assert_eq!(watch.look(wall(60), at(60)), None);
        assert_eq!(watch.look(wall(62), at(61)), None, "it runs a little fast");
        assert_eq!(watch.look(wall(3_662), at(61)), Some(3_600_000));
        assert_eq!(watch.look(wall(3_663), at(62)), None);
        assert_eq!(watch.look(wall(63), at(62)), Some(-3_600_000));
    }
}
