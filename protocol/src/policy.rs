//! What a package asks of the devices that run it; part of the package, so that people approve it.

use serde::{Deserialize, Serialize};

use crate::error::Reject;
use crate::frame;

/// Most bytes of a policy's frame.
pub const POLICY_BYTES_MAX: usize = 32;

/// What a package asks of the devices that run it; its default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// A new version whose calls take longer than this at the 95th percentile in probation goes
    /// back; in microseconds.
    pub p95_us_max: Option<u32>,
    /// Which rows may be collected.
    pub collect: Collect,
}

/// Which rows a package would have collected. A device's own configuration caps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// One row in so many; none if 0.
    pub one_in: u32,
    /// Also rows whose most probable answer is below this, per mille; none if 0.
    pub uncertain_below: u16,
    /// At most so many rows a minute on each device.
    pub rows_per_minute_max: u16,
}

impl Collect {
    /// Whether it asks for any row.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.rows_per_minute_max > 0 && (self.one_in > 0 || self.uncertain_below > 0)
    }
}

impl Policy {
    /// Reads the file of a package.
    ///
    /// # Errors
    ///
    /// As [`frame::decode`]; [`Reject::Malformed`] for more than 1000 per mille.
    pub fn read(bytes: &[u8]) -> Result<Self, Reject> {
        let policy: Self = frame::decode(bytes)?;
        if policy.collect.uncertain_below > 1000 { Err(Reject::Malformed) } else { Ok(policy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_policy_fits_and_reads_back() {
        let collect = Collect { one_in: u32::MAX, uncertain_below: 1000, rows_per_minute_max: u16::MAX };
        let policy = Policy { p95_us_max: Some(u32::MAX), collect };
        let mut buffer = [0; POLICY_BYTES_MAX];
        assert_eq!(Policy::read(frame::encode(&policy, &mut buffer).unwrap()), Ok(policy));
        let beyond = Policy { collect: Collect { uncertain_below: 1001, ..collect }, ..policy };
        assert_eq!(Policy::read(frame::encode(&beyond, &mut buffer).unwrap()), Err(Reject::Malformed));
    }
}
