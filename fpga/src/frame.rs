//! What goes over the wires: frames of bytes, each part with its CRC-16.
//!
//! ```text
//!  write  57 tag space address count-1 crc | words crc | 2 idle | status tag crc
//!  run    58 tag space address count-1 crc | words crc | 2 idle | status tag crc
//!  read   52 tag space address count-1 crc | 2 idle | status tag words crc
//! ```
//!
//! A word is eight bytes; numbers are little-endian, the CRC is not. One transaction, one frame: the answer
//! is clocked out behind the question. `rtl/bw_host.v` is the other end.

use crate::layer::WORD_BYTES;
pub use crate::registers::Space;

/// Words of a frame at most.
pub const WORDS_MAX: usize = 256;
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 8;
/// Idle bytes between question and answer, in which the engine decides.
const TURN_BYTES: usize = 2;
/// Status and tag.
const STATUS_BYTES: usize = 2;
const CRC_BYTES: usize = 2;
/// Bytes of the longest frame.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + WORDS_MAX * WORD_BYTES + CRC_BYTES + ANSWER_BYTES;
/// Idle bytes, status, tag and CRC: what follows the words of a write.
const ANSWER_BYTES: usize = TURN_BYTES + STATUS_BYTES + CRC_BYTES;

/// What a frame asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Words from the engine.
    Read = 0x52,
    /// Words to the engine.
    Write = 0x57,
    /// Words to the engine, then the job whose first layer the register names.
    Run = 0x58,
}

/// First word, and which memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which memory.
    pub space: Space,
    /// Its first word.
    pub word: u16,
}

/// What the engine says of a frame that arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// A job is running.
    pub busy: bool,
    /// What became of the frame.
    pub said: Said,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Done.
    Done,
    /// The words did not arrive whole: send them again.
    Broken,
    /// There is no such memory, or it cannot do this.
    Senseless,
    /// A job is running and another cannot begin.
    Busy,
    /// The job with this tag was begun before.
    Repeated,
}

/// Why an answer cannot be believed: lost or changed on the wires, or nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    /// All bytes are the same: nobody drives the wire.
    #[error("no answer: {0:#04x} only")]
    Silent(u8),
    /// The CRC is another.
    #[error("the answer's CRC is {got:#06x} and should be {expected:#06x}")]
    Crc {
        /// As computed.
        expected: u16,
        /// As received.
        got: u16,
    },
    /// The answer is to another frame.
    #[error("an answer to frame {got} came for frame {expected}")]
    Tag {
        /// What was sent.
        expected: u8,
        /// What came.
        got: u8,
    },
    /// The CRC is right and the status is none.
    #[error("{0:#04x} is no status")]
    Status(u8),
}

/// CRC-16/CCITT-FALSE.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        let x = (crc >> 8) ^ u16::from(*byte);
        let y = x ^ (x >> 4);
        (crc << 8) ^ (y << 12) ^ (y << 5) ^ y
    })
}

/// The header of a frame for `words` words.
#[must_use]
pub fn header(ask: Ask, tag: u8, place: Place, words: usize) -> [u8; HEADER_BYTES] {
    let [low, high] = place.word.to_le_bytes();
    let count = u8::try_from(words.wrapping_sub(1)).unwrap_or(u8::MAX);
    let fields = [ask as u8, tag, place.space as u8, low, high, count];
    let [crc_high, crc_low] = crc16(&fields).to_be_bytes();
    let [a, b, c, d, e, f] = fields;
    [a, b, c, d, e, f, crc_high, crc_low]
}

/// Bytes of a whole frame.
#[must_use]
pub const fn frame_bytes(ask: Ask, words: usize) -> usize {
    let payload = words * WORD_BYTES;
    match ask {
        Ask::Read => HEADER_BYTES + TURN_BYTES + STATUS_BYTES + payload + CRC_BYTES,
        Ask::Write | Ask::Run => HEADER_BYTES + payload + CRC_BYTES + ANSWER_BYTES,
    }
}

/// Writes a frame that carries `payload`, whole words, to the engine. Returns its length, which is
/// [`frame_bytes`], or `None` if it does not fit.
pub fn write(ask: Ask, tag: u8, place: Place, payload: &[u8], frame: &mut [u8]) -> Option<usize> {
    let words = payload.len() / WORD_BYTES;
    let length = frame_bytes(ask, words);
    let frame = frame.get_mut(..length)?;
    frame.fill(0);
    let (head, rest) = frame.split_first_chunk_mut::<HEADER_BYTES>()?;
    *head = header(ask, tag, place, words);
    rest.get_mut(..payload.len())?.copy_from_slice(payload);
    let crc = crc16(payload).to_be_bytes();
    rest.get_mut(payload.len()..payload.len() + CRC_BYTES)?.copy_from_slice(&crc);
    Some(length)
}

/// What the engine says to a frame that carried words: the end of what was clocked in.
///
/// # Errors
///
/// [`Garbled`] if that cannot be believed.
pub fn answer(tag: u8, clocked: &[u8]) -> Result<Status, Garbled> {
    let tail = clocked.last_chunk::<{ STATUS_BYTES + CRC_BYTES }>().ok_or(Garbled::Silent(0))?;
    sealed(tag, tail).map(|(status, _)| status)
}

/// What was read, and what the engine says.
///
/// # Errors
///
/// [`Garbled`] if that cannot be believed.
pub fn words(tag: u8, clocked: &[u8]) -> Result<(Status, &[u8]), Garbled> {
    let reply = clocked.get(HEADER_BYTES + TURN_BYTES..).unwrap_or_default();
    match sealed(tag, reply) {
        // A refusal has no words.
        Err(garbled) => match reply.first_chunk::<{ STATUS_BYTES + CRC_BYTES }>().map(|short| sealed(tag, short)) {
            Some(Ok((status, _))) if status.said != Said::Done => Ok((status, &[])),
            Some(_) | None => Err(garbled),
        },
        whole => whole,
    }
}

/// Status, tag, something and its CRC.
fn sealed(tag: u8, reply: &[u8]) -> Result<(Status, &[u8]), Garbled> {
    let (said, crc) = reply.split_last_chunk::<CRC_BYTES>().ok_or(Garbled::Silent(0))?;
    let (got, expected) = (u16::from_be_bytes(*crc), crc16(said));
    if let Some(first) = reply.first().filter(|first| reply.iter().all(|byte| byte == *first)) {
        return Err(Garbled::Silent(*first));
    }
    if got != expected {
        return Err(Garbled::Crc { expected, got });
    }
    let (start, words) = said.split_first_chunk::<STATUS_BYTES>().ok_or(Garbled::Silent(0))?;
    let [status, for_tag] = *start;
    if for_tag != tag {
        return Err(Garbled::Tag { expected: tag, got: for_tag });
    }
    let said = match status & 0xf7 {
        0xa0 => Said::Done,
        0xa1 => Said::Broken,
        0xa2 => Said::Senseless,
        0xa3 => Said::Busy,
        0xa4 => Said::Repeated,
        _ => return Err(Garbled::Status(status)),
    };
    Ok((Status { busy: status & 8 != 0, said }, words))
}
