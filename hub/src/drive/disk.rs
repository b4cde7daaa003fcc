//! The disk guard: when little is left, the hub says so and takes no new work, while it still
//! answers and the fleet keeps running.

use std::sync::PoisonError;

use bellwether_protocol::time::Millis;

use super::Hub;
use crate::api::error::Problem;
use crate::clock;

/// How long a look at the disk counts.
const FRESH: Millis = Millis::from_secs(2);

/// The latest look at the disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    looked: Option<(Millis, u64)>,
}

impl Hub {
    /// Refuses new work while the disk is nearly full.
    pub(super) fn room(&self) -> Result<(), Problem> {
        match self.refusing_because() {
            None => Ok(()),
            Some(why) => Err(Problem::new(axum::http::StatusCode::INSUFFICIENT_STORAGE, "disk_full", why)
                .hint("free space for the hub's data directory, or lower `disk_free_mib`")),
        }
    }

    /// Why new work is refused, if it is.
    pub(super) fn refusing_because(&self) -> Option<String> {
        let free = self.free_mib()?;
        let least = self.0.config.disk_free_mib;
        (free < least).then(|| format!("the hub's disk has {free} MiB left and needs {least}: no new work is taken"))
    }

    fn free_mib(&self) -> Option<u64> {
        let mut disk = self.0.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        match disk.looked {
            Some((at, free)) if now.since(at) < FRESH => Some(free),
            _ => {
                let facts = rustix::fs::statvfs(&self.0.data).ok()?;
                let free = facts.f_bavail.saturating_mul(facts.f_frsize) / (1024 * 1024);
                disk.looked = Some((now, free));
                Some(free)
            }
        }
    }
}
