//! Crash points: places where a test can have this process end as by `kill -9`.
//!
//! In builds with debug assertions the environment variable `BELLWETHER_CRASH_AT=NAME` ends the
//! process when it passes the point of that name, `NAME:3` when it passes it for the third time.
//! Release builds contain no such point.
//!
//! | point | where the process is |
//! |---|---|
//! | `agent.fetch.midway` | half of the chunks of a download have come |
//! | `agent.hashed` | the whole package was hashed and is right, the brain does not know yet |
//! | `agent.activate.pointed` | the pointer names the new slot, the brain does not know yet |
//! | `agent.probation` | a model is on probation, and that is on disk |
//! | `agent.batch.sent` | a batch was handed to the link and is not acknowledged |
//! | `hub.register.stored` | a package and its version are on disk, the publisher has no answer yet |
//! | `hub.rollout.started` | a rollout is on disk, no device was told |
//! | `hub.batch.committed` | the records of a batch are on disk, the acknowledgement is not sent |
//! | `hub.rollback.begun` | a roll-back is on disk; at the first passing no device was told |
//! | `hub.rows.filed` | collected rows are in a file and still in the store |
//! | `hub.webhook.sent` | a webhook was delivered, which is not on disk yet |

/// Ends the process here if the environment says so.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}

#[cfg(debug_assertions)]
pub use armed::point;

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, raise};

    /// Ends the process here if the environment says so.
    pub fn point(name: &str) {
        static CRASH: OnceLock<Option<Crash>> = OnceLock::new();
        let crash = CRASH.get_or_init(|| std::env::var("BELLWETHER_CRASH_AT").ok().map(|text| Crash::read(&text)));
        if crash.as_ref().is_some_and(|crash| crash.is_due(name)) {
            let _never_returns = raise(Signal::SIGKILL);
        }
    }

    /// Where to end, and at which passing.
    pub(super) struct Crash {
        name: String,
        left: AtomicU32,
    }

    impl Crash {
        pub(super) fn read(text: &str) -> Self {
            let (name, times) = match text.rsplit_once(':') {
                Some((name, times)) => (name, times.parse().unwrap_or(1)),
                None => (text, 1),
            };
            Self { name: name.to_owned(), left: AtomicU32::new(times) }
        }

        pub(super) fn is_due(&self, name: &str) -> bool {
            name == self.name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::armed::Crash;

    #[test]
    fn a_point_is_due_at_the_passing_that_was_named() {
        let crash = Crash::read("agent.hashed");
        assert!(!crash.is_due("agent.probation"));
        assert!(crash.is_due("agent.hashed") && !crash.is_due("agent.hashed"));
        let third = Crash::read("agent.hashed:3");
        assert_eq!([(); 4].map(|()| third.is_due("agent.hashed")), [false, false, true, false]);
    }
}
