//! Marks: 64 bits by which two states of a disk or of the world are told apart, faster than a digest
//! and good for nothing else. Of a million states, two that differ share one once in thirty million
//! runs.

/// A mark in the making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

const ODD: [u64; 4] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0xff51_afd7_ed55_8ccd];

impl Default for Mark {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }
}

impl Mark {
    /// A number comes next.
    pub(crate) const fn number(self, number: u64) -> Self {
        Self(mixed(self.0.rotate_left(23) ^ number, 0x9e37_79b9_7f4a_7c15))
    }

    /// These bytes come next, in four lanes so that a block takes less than a microsecond.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut lanes = ODD;
        let word = |eight: &[u8]| eight.try_into().map_or(0, u64::from_le_bytes);
        let mut wide = bytes.chunks_exact(32);
        for chunk in &mut wide {
            for ((lane, odd), eight) in lanes.iter_mut().zip(ODD).zip(chunk.chunks_exact(8)) {
                *lane = mixed(*lane ^ word(eight), odd);
            }
        }
        let rest = wide
            .remainder()
            .iter()
            .fold(bytes.len() as u64, |rest, byte| (rest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
        lanes.into_iter().fold(self.number(rest), Self::number)
    }

    pub(crate) const fn end(self) -> u64 {
        mixed(self.0, 0xff51_afd7_ed55_8ccd)
    }
}

/// Both halves of the product, one upon the other: each bit of `number` bears on nearly all of them.
#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
const fn mixed(number: u64, odd: u64) -> u64 {
    let product = number as u128 * odd as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_differs_in_one_bit_or_in_length_has_another_mark() {
        let mut bytes = vec![0u8; 200];
        let mut seen = BTreeSet::new();
        assert!(seen.insert(Mark::default().bytes(&bytes).end()));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(Mark::default().bytes(&bytes).end()), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..200 {
            assert!(seen.insert(Mark::default().bytes(&bytes[..length]).end()), "length {length}");
        }
        let swapped = [Mark::default().number(1).number(2), Mark::default().number(2).number(1)];
        assert_ne!(swapped[0].end(), swapped[1].end());
    }
}
