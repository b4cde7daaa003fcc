//! How the engine's memories are reached: over SPI, or as part of the host's own.

#[cfg(feature = "linux")]
pub mod mapped;

use embedded_hal::spi::{Error as _, ErrorKind, SpiDevice};

use crate::frame::{self, Ask, FRAME_BYTES_MAX, Garbled, Place, Said, WORDS_MAX};
use crate::layer::WORD_BYTES;
use crate::registers::{Register, Space};

/// How often a frame is sent until its answer is believed.
pub const TRIES_MAX: u8 = 4;

/// Words to and from an engine; nothing else touches the hardware.
pub trait Bus {
    /// Reads whole words.
    ///
    /// # Errors
    ///
    /// [`BusFault`] if they cannot be had.
    fn read(&mut self, place: Place, words: &mut [u8]) -> Result<(), BusFault>;

    /// Writes whole words.
    ///
    /// # Errors
    ///
    /// [`BusFault`] if they have not arrived; some may have.
    fn write(&mut self, place: Place, words: &[u8]) -> Result<(), BusFault>;

    /// Writes whole words, at most [`WORDS_MAX`], and begins the job: once, however often it is sent.
    ///
    /// # Errors
    ///
    /// [`BusFault`] if that is not certain.
    fn run(&mut self, place: Place, words: &[u8]) -> Result<(), BusFault>;

    /// Answers so far that could not be believed.
    fn garbled(&self) -> u32;
}

/// Why words did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusFault {
    /// The host's own SPI failed.
    #[error("the host's SPI fails: {0:?}")]
    Spi(ErrorKind),
    /// No answer in [`TRIES_MAX`] tries could be believed.
    #[error("no answer to be believed in {TRIES_MAX} tries: {0}. Check the wiring, or clock it slower")]
    Garbled(Garbled),
    /// The words arrived broken in each of [`TRIES_MAX`] tries.
    #[error("the engine got broken words in {TRIES_MAX} tries. Check the wiring, or clock it slower")]
    Broken,
    /// The engine refuses.
    #[error("the engine refuses: {0:?}")]
    Refused(Said),
    /// Not whole words, or too many.
    #[error("{0} bytes are not whole words, or too many")]
    Length(usize),
}

/// An engine behind SPI: mode 0, most significant bit first, SCK at most as fast as the engine's clock.
pub struct SpiBus<D> {
    device: D,
    /// Of the last frame that was no run.
    tag: u8,
    /// Of the job begun last, by whomever: the next must have another.
    job: Option<u8>,
    frame: [u8; FRAME_BYTES_MAX],
    garbled: u32,
}

impl<D> core::fmt::Debug for SpiBus<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SpiBus").field("tag", &self.tag).field("garbled", &self.garbled).finish_non_exhaustive()
    }
}

impl<D: SpiDevice> SpiBus<D> {
    /// An engine behind `device`.
    pub const fn new(device: D) -> Self {
        Self { device, tag: 0, job: None, frame: [0; FRAME_BYTES_MAX], garbled: 0 }
    }

    /// The device, alone.
    pub fn into_device(self) -> D {
        self.device
    }

    /// The device.
    pub const fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// Sends a frame until its answer is believed. A frame that is sent again has the same tag.
    fn carry(&mut self, ask: Ask, tag: u8, place: Place, words: &[u8]) -> Result<(), BusFault> {
        let mut last = BusFault::Broken;
        for _ in 0..TRIES_MAX {
            let length = frame::write(ask, tag, place, words, &mut self.frame).ok_or(BusFault::Length(words.len()))?;
            let frame = self.frame.get_mut(..length).ok_or(BusFault::Length(words.len()))?;
            self.device.transfer_in_place(frame).map_err(|error| BusFault::Spi(error.kind()))?;
            last = match frame::answer(tag, frame) {
                Ok(status) => match status.said {
                    Said::Done | Said::Repeated => return Ok(()),
                    Said::Broken => BusFault::Broken,
                    Said::Senseless | Said::Busy => return Err(BusFault::Refused(status.said)),
                },
                Err(garbled) => BusFault::Garbled(garbled),
            };
            self.garbled = self.garbled.saturating_add(1);
        }
        Err(last)
    }

    fn fetch(&mut self, place: Place, words: &mut [u8]) -> Result<(), BusFault> {
        let count = words.len() / WORD_BYTES;
        let mut last = BusFault::Broken;
        for _ in 0..TRIES_MAX {
            self.tag = self.tag.wrapping_add(1);
            let length = frame::frame_bytes(Ask::Read, count);
            let frame = self.frame.get_mut(..length).ok_or(BusFault::Length(words.len()))?;
            frame.fill(0);
            if let Some(head) = frame.first_chunk_mut() {
                *head = frame::header(Ask::Read, self.tag, place, count);
            }
            self.device.transfer_in_place(frame).map_err(|error| BusFault::Spi(error.kind()))?;
            last = match frame::words(self.tag, frame) {
                Ok((status, got)) if status.said == Said::Done && got.len() == words.len() => {
                    words.copy_from_slice(got);
                    return Ok(());
                }
                Ok((status, _)) => return Err(BusFault::Refused(status.said)),
                Err(garbled) => BusFault::Garbled(garbled),
            };
            self.garbled = self.garbled.saturating_add(1);
        }
        Err(last)
    }
}

impl<D: SpiDevice> Bus for SpiBus<D> {
    fn read(&mut self, place: Place, words: &mut [u8]) -> Result<(), BusFault> {
        whole(words)?;
        let mut at = place.word;
        for part in words.chunks_mut(WORDS_MAX * WORD_BYTES) {
            self.fetch(Place { word: at, ..place }, part)?;
            at = after(at, part);
        }
        Ok(())
    }

    fn write(&mut self, place: Place, words: &[u8]) -> Result<(), BusFault> {
        whole(words)?;
        let mut at = place.word;
        for part in words.chunks(WORDS_MAX * WORD_BYTES) {
            self.tag = self.tag.wrapping_add(1);
            self.carry(Ask::Write, self.tag, Place { word: at, ..place }, part)?;
            at = after(at, part);
        }
        Ok(())
    }

    fn run(&mut self, place: Place, words: &[u8]) -> Result<(), BusFault> {
        whole(words)?;
        let before = match self.job {
            Some(tag) => tag,
            None => {
                let mut status = [0; WORD_BYTES];
                self.fetch(Place { space: Space::Registers, word: Register::Status as u16 }, &mut status)?;
                status[1]
            }
        };
        let tag = before.wrapping_add(1);
        self.job = Some(tag);
        self.carry(Ask::Run, tag, place, words)
    }

    fn garbled(&self) -> u32 {
        self.garbled
    }
}

fn whole(words: &[u8]) -> Result<(), BusFault> {
    if words.is_empty() || !words.len().is_multiple_of(WORD_BYTES) {
        return Err(BusFault::Length(words.len()));
    }
    Ok(())
}

fn after(at: u16, part: &[u8]) -> u16 {
    at.wrapping_add(u16::try_from(part.len() / WORD_BYTES).unwrap_or(u16::MAX))
}
