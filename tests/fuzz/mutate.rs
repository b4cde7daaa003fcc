//! Bytes made from other bytes, by a generator that a seed decides.

/// Values at which readers of lengths and variable-length numbers go wrong.
const SHARP: [u8; 8] = [0, 1, 0x7f, 0x80, 0x81, 0xfe, 0xff, b'/'];
/// Random numbers by SplitMix64 (G. Steele and others, 2014): the same for the same seed.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// One of the corpus, changed in one to four ways, of at most `bytes_max`.
pub(crate) fn mutated(random: &mut Random, corpus: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        change(random, corpus, &mut bytes);
    }
    bytes.truncate(bytes_max);
    bytes
}

fn change(random: &mut Random, corpus: &[Vec<u8>], bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(random.byte());
        return;
    }
    let place = random.below(bytes.len());
    // A run of bytes from that place on, short more often than long.
    let most = [4, 16, 64, bytes.len()][random.below(4)];
    let end = bytes.len().min(place + 1 + random.below(most));
    match random.below(9) {
        0 => bytes[place] ^= 1u8 << random.below(8),
        1 => bytes[place] = random.byte(),
        2 => bytes[place] = SHARP[random.below(SHARP.len())],
        3 => bytes.insert(place, SHARP[random.below(SHARP.len())]),
        4 => drop(bytes.drain(place..end)),
        5 => bytes.truncate(place),
        6 => {
            let run = bytes[place..end].to_vec();
            drop(bytes.splice(place..place, run));
        }
        7 => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len());
            let to = other.len().min(from + 1 + random.below(most));
            drop(bytes.splice(place..end, other.get(from..to).unwrap_or_default().iter().copied()));
        }
        _ => {
            let other = &corpus[random.below(corpus.len())];
            let to = random.below(other.len());
            bytes.truncate(place);
            bytes.extend_from_slice(other.get(to..).unwrap_or_default());
        }
    }
}
