//! The bytes of a slot in blocks of 4 KiB: what was written, what of it is on disk for good, and the
//! table of chunks beside it.

use std::collections::BTreeSet;
use std::rc::Rc;

use bellwether_protocol::digest::{Digest, Hasher};

use super::mark::Mark;

pub(super) const BLOCK: usize = 4096;

/// A block, whose bytes never change once they are made, and their mark.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    mark: u64,
}

impl Block {
    fn new(bytes: Vec<u8>) -> Rc<Self> {
        let mark = Mark::default().bytes(&bytes).end();
        Rc::new(Self { bytes, mark })
    }
}

/// Bytes in blocks; a clone shares every one. All blocks are full but the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Bytes {
    blocks: Vec<Rc<Block>>,
    length: usize,
}

impl Bytes {
    pub(super) const fn length(&self) -> usize {
        self.length
    }

    /// Makes it so long; what is new is zero.
    pub(super) fn resize(&mut self, length: usize) {
        if length == self.length {
            return;
        }
        let (count, last) = (length.div_ceil(BLOCK), self.blocks.len().checked_sub(1));
        self.blocks.truncate(count);
        for n in last.into_iter().chain(count.checked_sub(1)).collect::<BTreeSet<_>>() {
            let wanted = BLOCK.min(length.saturating_sub(n * BLOCK));
            if let Some(block) = self.blocks.get_mut(n).filter(|block| block.bytes.len() != wanted) {
                let mut bytes = block.bytes.clone();
                bytes.resize(wanted, 0);
                *block = Block::new(bytes);
            }
        }
        if self.blocks.len() < count {
            let zero = Block::new(vec![0; BLOCK]);
            while self.blocks.len() + 1 < count {
                self.blocks.push(zero.clone());
            }
            self.blocks.push(Block::new(vec![0; length - (count - 1) * BLOCK]));
        }
        self.length = length;
    }

    /// Writes bytes at `from`; `None` beyond the end, and then nothing is written.
    pub(super) fn write(&mut self, bytes: &[u8], from: usize) -> Option<()> {
        if from.checked_add(bytes.len())? > self.length {
            return None;
        }
        let mut at = from;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at % BLOCK;
            let (now, later) = rest.split_at(rest.len().min(BLOCK - within));
            let block = self.blocks.get_mut(at / BLOCK)?;
            let mut changed = block.bytes.clone();
            changed.get_mut(within..within + now.len())?.copy_from_slice(now);
            *block = Block::new(changed);
            at += now.len();
            rest = later;
        }
        Some(())
    }

    /// Fills the buffer from `from` on; `None` if there is less.
    pub(super) fn read(&self, buffer: &mut [u8], from: usize) -> Option<()> {
        if from.checked_add(buffer.len())? > self.length {
            return None;
        }
        let mut at = from;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = at % BLOCK;
            let length = rest.len().min(BLOCK - within);
            let (now, later) = rest.split_at_mut(length);
            now.copy_from_slice(self.blocks.get(at / BLOCK)?.bytes.get(within..within + length)?);
            at += length;
            rest = later;
        }
        Some(())
    }

    /// Turns one bit; false beyond the end.
    fn turn(&mut self, at: usize) -> bool {
        let mut byte = [0];
        if self.read(&mut byte, at).is_none() {
            return false;
        }
        self.write(&[byte.map(|byte| byte ^ 1)].concat(), at).is_some()
    }

    pub(super) fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        for block in &self.blocks {
            hasher.update(&block.bytes);
        }
        hasher.finish()
    }

    pub(super) fn mark(&self) -> u64 {
        self.blocks.iter().fold(Mark::default().number(self.length as u64), |mark, block| mark.number(block.mark)).end()
    }
}

/// A slot: what reads see, what a power cut cannot take any more, and which blocks are on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) live: Bytes,
    pub(super) durable: Bytes,
    pub(super) dirty: BTreeSet<usize>,
    /// The table of chunks beside it; nobody syncs it, for it is checked whenever it is read.
    pub(super) table: Option<Rc<Vec<u8>>>,
    pub(super) durable_table: Option<Rc<Vec<u8>>>,
    /// A bit turned here by itself since it was last written anew.
    pub(super) rotten: bool,
}

impl File {
    /// Makes it so long; what is there stays.
    pub(super) fn open(&mut self, size: usize) {
        self.live.resize(size);
        self.dirty.retain(|block| block * BLOCK < size);
    }

    /// Writes bytes at `from`; `None` beyond the end.
    pub(super) fn write(&mut self, bytes: &[u8], from: usize) -> Option<()> {
        self.live.write(bytes, from)?;
        self.dirty.extend(from / BLOCK..(from + bytes.len()).div_ceil(BLOCK));
        Some(())
    }

    /// Brings one block to disk.
    pub(super) fn settle(&mut self, n: usize) {
        let Some(block) = self.live.blocks.get(n) else { return };
        let end = n * BLOCK + block.bytes.len();
        if self.durable.length < end {
            self.durable.resize(end);
        }
        match self.durable.blocks.get_mut(n) {
            Some(old) if old.bytes.len() == block.bytes.len() => *old = block.clone(),
            _ => drop(self.durable.write(&block.bytes, n * BLOCK)),
        }
    }

    /// Brings all of it to disk.
    pub(super) fn sync(&mut self) {
        self.dirty.clear();
        self.durable = self.live.clone();
    }

    /// There is no power: what is not on disk is gone.
    pub(super) fn cut(&mut self) {
        self.dirty.clear();
        self.live = self.durable.clone();
    }

    /// A bit turns by itself; false if there is none.
    pub(super) fn rot(&mut self, at: usize) -> bool {
        let is_there = self.live.turn(at);
        self.durable.turn(at);
        self.rotten = true;
        is_there
    }

    /// What tells it from others after a power cut.
    pub(super) fn mark(&self) -> u64 {
        let mark = Mark::default().number(self.durable.mark()).number(u64::from(self.rotten));
        self.durable_table.as_ref().map_or(mark, |table| mark.bytes(table)).end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same in one piece.
    fn all(bytes: &Bytes) -> Vec<u8> {
        let mut buffer = vec![0; bytes.length()];
        bytes.read(&mut buffer, 0).unwrap();
        buffer
    }

    #[test]
    fn blocks_hold_what_one_piece_would_hold() {
        let (mut blocks, mut piece) = (Bytes::default(), Vec::new());
        let steps =
            [(9000, 0, 9000), (4096, 100, 3000), (4096, 0, 4096), (12_345, 4000, 8345), (5, 1, 4), (8192, 8191, 1)];
        for (n, (length, from, count)) in steps.into_iter().enumerate() {
            blocks.resize(length);
            piece.resize(length, 0);
            let written = vec![u8::try_from(n + 1).unwrap(); count];
            blocks.write(&written, from).unwrap();
            piece[from..from + count].copy_from_slice(&written);
            assert_eq!(all(&blocks), piece);
            assert_eq!(blocks.digest(), Digest::of(&piece));
            assert_eq!(blocks.write(&[0; 2], length - 1), None);
        }
        assert_eq!(blocks.read(&mut [0; 2], 8191), None);
    }

    #[test]
    fn equal_bytes_have_equal_marks_and_others_have_not() {
        let mut file = File::default();
        file.open(10_000);
        file.write(&[7; 10_000], 0).unwrap();
        let empty = file.mark();
        file.settle(1);
        let half = file.mark();
        file.sync();
        let whole = file.mark();
        assert!(empty != half && half != whole && empty != whole);
        assert!(file.rot(9_999));
        file.rotten = false;
        assert_ne!(file.mark(), whole);
        file.rot(9_999);
        file.rotten = false;
        assert_eq!(file.mark(), whole);
    }

    #[test]
    fn what_was_not_synced_comes_block_by_block() {
        let mut file = File::default();
        file.open(3 * BLOCK);
        file.write(&[1; 3 * BLOCK], 0).unwrap();
        file.settle(2);
        file.cut();
        let mut bytes = vec![0; 2 * BLOCK];
        bytes.resize(3 * BLOCK, 1);
        assert_eq!(all(&file.live), bytes);
        // Cut short, the rest of the block that was there stays as it was.
        file.open(2 * BLOCK + 10);
        file.write(&[2; 20], 2 * BLOCK - 10).unwrap();
        file.settle(2);
        let mut byte = [0];
        file.durable.read(&mut byte, 2 * BLOCK + 9).unwrap();
        assert_eq!(byte, [2]);
        file.durable.read(&mut byte, 2 * BLOCK + 10).unwrap();
        assert_eq!(byte, [1]);
    }
}
