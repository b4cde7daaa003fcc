//! The engine as part of the processor's own memory: in a SoC, through UIO. Never tried on hardware.
//!
//! ```text
//!   byte address   bit 19    18:17   16:3   2:0
//!                  run       space   word   0
//! ```
//!
//! A window of a mebibyte, of 64-bit words: the four spaces one behind the other, and the same again, where a
//! write also begins the job. Nothing is sent twice and there is no CRC, as these wires are on the chip.
//! `rtl/generic/bw_over_axi.v` is at the other end. A processor of 32 bits moves a word in two halves, the lower one
//! first, as the upper one is what writes it.

#![expect(unsafe_code, reason = "mapped memory is the one thing here that has no safe form")]

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};

use super::{Bus, BusFault, whole};
use crate::frame::Place;
use crate::layer::WORD_BYTES;

/// Bytes of a space.
const SPACE_BYTES: usize = 1 << 17;
/// Where a write begins the job.
const RUN_BYTES: usize = 1 << 19;
/// Bytes of the window.
pub const WINDOW_BYTES: usize = 2 * RUN_BYTES;

/// An engine in a window of memory.
#[derive(Debug)]
pub struct MappedBus {
    window: MmapRaw,
    /// Whether this processor moves a word in two halves.
    halves: bool,
}

impl MappedBus {
    /// Maps the window: the first mapping of a UIO device such as `/dev/uio0`, or the beginning of a file.
    ///
    /// # Errors
    ///
    /// The operating system's; also for a file that is shorter than the window.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let meta = file.metadata()?;
        // A device tells its length elsewhere, and refuses to map more.
        if meta.is_file() && meta.len() < WINDOW_BYTES as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let window = MmapOptions::new().len(WINDOW_BYTES).map_raw(&file)?;
        Ok(Self { window, halves: cfg!(target_pointer_width = "32") })
    }

    fn word(&self, place: Place, index: usize, run: bool) -> Result<*mut u64, BusFault> {
        // In bounds, and in step: a page begins the window, and words follow.
        Ok(self.window.as_mut_ptr().wrapping_add(offset(place, index, run)?).cast())
    }

    fn put(&mut self, place: Place, index: usize, word: &[u8], run: bool) -> Result<(), BusFault> {
        let bytes: [u8; WORD_BYTES] = word.try_into().map_err(|_| BusFault::Length(word.len()))?;
        let at = self.word(place, index, run)?;
        if self.halves {
            let lower: *mut u32 = at.cast();
            let [a, b, c, d, e, f, g, h] = bytes;
            for (at, half) in [(lower, [a, b, c, d]), (lower.wrapping_add(1), [e, f, g, h])] {
                // SAFETY: as below; both halves are of that word.
                unsafe { at.write_volatile(u32::from_ne_bytes(half)) };
            }
        } else {
            // SAFETY: `word` gives places within the mapping, which lives as long as `self`, aligned to eight bytes.
            // Nothing in this process refers to it; volatile, as a device is behind it.
            unsafe { at.write_volatile(u64::from_ne_bytes(bytes)) };
        }
        Ok(())
    }
}

/// Where a word is in the window, in bytes: the one `index` words behind `place`, to be written plainly or so
/// that it begins the job.
///
/// # Errors
///
/// [`BusFault::Length`] if it is beyond its space.
pub fn offset(place: Place, index: usize, run: bool) -> Result<usize, BusFault> {
    let at = (usize::from(place.word) + index) * WORD_BYTES;
    if at >= SPACE_BYTES {
        return Err(BusFault::Length(at));
    }
    Ok(place.space as usize * SPACE_BYTES + if run { RUN_BYTES } else { 0 } + at)
}

impl Bus for MappedBus {
    fn read(&mut self, place: Place, words: &mut [u8]) -> Result<(), BusFault> {
        whole(words)?;
        for (index, word) in words.chunks_exact_mut(WORD_BYTES).enumerate() {
            let at = self.word(place, index, false)?;
            // SAFETY: as in `put`.
            word.copy_from_slice(&unsafe { at.read_volatile() }.to_ne_bytes());
        }
        Ok(())
    }

    fn write(&mut self, place: Place, words: &[u8]) -> Result<(), BusFault> {
        whole(words)?;
        words.chunks_exact(WORD_BYTES).enumerate().try_for_each(|(index, word)| self.put(place, index, word, false))
    }

    fn run(&mut self, place: Place, words: &[u8]) -> Result<(), BusFault> {
        whole(words)?;
        let last = words.len() / WORD_BYTES - 1;
        words
            .chunks_exact(WORD_BYTES)
            .enumerate()
            .try_for_each(|(index, word)| self.put(place, index, word, index == last))
    }

    fn garbled(&self) -> u32 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, EngineFault};
    use crate::registers::{ID, Register, Space};
    use std::vec::Vec;

    struct Window {
        file: tempfile::NamedTempFile,
        engine: Engine<MappedBus>,
    }

    impl Window {
        fn new() -> Self {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(WINDOW_BYTES as u64).unwrap();
            let engine = Engine::new(MappedBus::open(file.path()).unwrap());
            Self { file, engine }
        }

        fn bytes(&self) -> Vec<u8> {
            std::fs::read(self.file.path()).unwrap()
        }
    }

    fn place(space: Space, word: u16) -> Place {
        Place { space, word }
    }

    #[test]
    fn words_lie_where_the_picture_says() {
        for halves in [false, true] {
            let mut window = Window::new();
            window.engine.bus().halves = halves;
            words_lie_in(&mut window);
        }
    }

    fn words_lie_in(window: &mut Window) {
        window.engine.load(place(Space::Weights, 16_383), &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        assert_eq!(window.bytes()[2 * SPACE_BYTES - 8..2 * SPACE_BYTES], [1, 2, 3, 4, 5, 6, 7, 8]);
        let many: Vec<u8> = (0..80).collect();
        window.engine.load(place(Space::Activations, 1024), &many).unwrap();
        let mut back = [0; 80];
        window.engine.fetch(place(Space::Activations, 1024), &mut back).unwrap();
        assert_eq!(many, back);
        window.engine.choose(7, 1000).unwrap();
        let job = Register::Job as usize * WORD_BYTES;
        assert_eq!(window.bytes()[job..job + 8], (7_u64 | 1000 << 32).to_le_bytes());
    }

    #[test]
    fn the_last_word_of_an_input_begins_the_job() {
        let mut window = Window::new();
        window.engine.begin(place(Space::Activations, 2), &[9; 24]).unwrap();
        let (bytes, first) = (window.bytes(), 2 * SPACE_BYTES + 16);
        assert_eq!((&bytes[first..first + 16], &bytes[first + 16..first + 24]), (&[9; 16][..], &[0; 8][..]));
        assert_eq!(bytes[RUN_BYTES + first + 16..RUN_BYTES + first + 24], [9; 8]);
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 24);
    }

    #[test]
    fn an_engine_is_known_by_its_registers_and_nothing_reaches_beyond() {
        let mut window = Window::new();
        assert_eq!(window.engine.identify(), Err(EngineFault::Stranger(0)));
        let mut bus = MappedBus::open(window.file.path()).unwrap();
        for (register, value) in [(Register::Id, ID), (Register::Build, 0x1234_abcd)] {
            bus.write(place(Space::Registers, register as u16), &u64::from(value).to_le_bytes()).unwrap();
        }
        assert_eq!(window.engine.identify().unwrap().build, 0x1234_abcd);
        assert!(bus.write(place(Space::Table, 16_383), &[0; 16]).is_err());
        assert!(bus.read(place(Space::Table, u16::MAX), &mut [0; 8]).is_err());
        assert!(bus.write(place(Space::Table, 0), &[0; 7]).is_err());
        let short = tempfile::NamedTempFile::new().unwrap();
        assert!(MappedBus::open(short.path()).is_err());
    }
}
