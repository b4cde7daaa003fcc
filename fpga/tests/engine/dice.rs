//! The same numbers in every run.

/// xorshift64* by Vigna.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    pub(crate) const fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(crate) const fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Any byte, or one of those at the edges.
    pub(crate) fn byte(&mut self, extreme: bool) -> u8 {
        if extreme { [0x80, 0x7f, 0x81, 0, 0xff, 1][self.below(6) as usize] } else { self.next() as u8 }
    }
}
