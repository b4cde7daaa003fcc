//! Which chunks of a download are still missing.

use crate::limit::{CHUNK_BYTES, CHUNKS_MAX, PACKAGE_BYTES_MAX};
use crate::message::Need;

const WORDS: usize = CHUNKS_MAX / 64;

/// A set of chunks, one bit each: set means present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    count: u16,
    present: [u64; WORDS],
}

/// How many chunks a package of `size` bytes has; `None` above the limit.
#[must_use]
pub fn chunk_count(size: u64) -> Option<u16> {
    if size > PACKAGE_BYTES_MAX { None } else { u16::try_from(size.div_ceil(CHUNK_BYTES as u64)).ok() }
}

impl Chunks {
    /// No chunk of a package of `size` bytes is present; `None` above the limit.
    #[must_use]
    pub fn none_of(size: u64) -> Option<Self> {
        Some(Self { count: chunk_count(size)?, present: [0; WORDS] })
    }

    /// Notes that chunk `n` is present; a number beyond the last is ignored.
    pub fn insert(&mut self, n: u16) {
        if n < self.count
            && let Some(word) = self.present.get_mut(usize::from(n / 64))
        {
            *word |= 1 << (n % 64);
        }
    }

    /// Whether chunk `n` is present.
    #[must_use]
    pub fn contains(&self, n: u16) -> bool {
        self.present.get(usize::from(n / 64)).is_some_and(|word| word >> (n % 64) & 1 == 1)
    }

    /// How many chunks there are in all.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// How many are present.
    #[must_use]
    pub fn present(&self) -> u16 {
        self.present.iter().map(|word| word.count_ones()).sum::<u32>().try_into().unwrap_or(u16::MAX)
    }

    /// Whether all are present.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.present() == self.count
    }

    /// Asks for the first missing chunks, at most `limit`; `None` when nothing is missing.
    #[must_use]
    pub fn need(&self, limit: u32) -> Option<Need> {
        let base = (0..self.count).find(|n| !self.contains(*n))?;
        let mut mask = 0;
        for n in (base..self.count.min(base.saturating_add(64))).filter(|n| !self.contains(*n)).take(limit as usize) {
            mask |= 1 << (n - base);
        }
        Some(Need { table: false, base, mask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_asks_only_for_what_it_lacks() {
        let mut chunks = Chunks::none_of(10 * CHUNK_BYTES as u64 + 1).unwrap();
        assert_eq!(chunks.count(), 11);
        for n in [0, 1, 3] {
            chunks.insert(n);
        }
        let need = chunks.need(4).unwrap();
        assert!(need.chunks(8).eq([2, 4, 5, 6]));
        for n in 0..20 {
            chunks.insert(n);
        }
        assert!(chunks.is_complete());
        assert_eq!(chunks.need(4), None);
    }

    #[test]
    fn a_package_above_the_limit_has_no_chunks() {
        assert_eq!(chunk_count(PACKAGE_BYTES_MAX), Some(2048));
        assert_eq!(chunk_count(PACKAGE_BYTES_MAX + 1), None);
        assert!(Chunks::none_of(u64::MAX).is_none());
    }
}
