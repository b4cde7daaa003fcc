//! Frames: a version byte and a postcard body. Decoding never panics and is exact: unknown
//! versions, trailing bytes and encodings that are not the shortest are refused.

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crate::error::Reject;

/// The format of frames and statement bodies that this crate writes and reads.
pub const FORMAT: u8 = 1;

/// Writes `value` as a frame into `buffer` and returns what was written.
///
/// # Errors
///
/// [`Reject::TooLarge`] if it does not fit.
pub fn encode<'b, T: Serialize + ?Sized>(value: &T, buffer: &'b mut [u8]) -> Result<&'b mut [u8], Reject> {
    let (first, body) = buffer.split_first_mut().ok_or(Reject::TooLarge)?;
    *first = FORMAT;
    let length = postcard::to_slice(value, body).map_err(|_| Reject::TooLarge)?.len();
    buffer.get_mut(..=length).ok_or(Reject::TooLarge)
}

/// Reads exactly one frame.
///
/// # Errors
///
/// [`Reject::UnknownFormat`], [`Reject::Malformed`], [`Reject::TrailingBytes`], or
/// [`Reject::NotCanonical`] if writing the value again gives other bytes.
pub fn decode<'b, T: Serialize + Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, Reject> {
    let (&format, body) = bytes.split_first().ok_or(Reject::Malformed)?;
    if format != FORMAT {
        return Err(Reject::UnknownFormat);
    }
    let (value, rest) = postcard::take_from_bytes::<T>(body).map_err(|_| Reject::Malformed)?;
    if !rest.is_empty() {
        return Err(Reject::TrailingBytes);
    }
    postcard::serialize_with_flavor(&value, Same { expected: body }).map_err(|_| Reject::NotCanonical)?;
    Ok(value)
}

/// A sink that accepts only the bytes it expects: compares an encoding without storing it.
struct Same<'b> {
    expected: &'b [u8],
}

impl Flavor for Same<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.expected = self.expected.strip_prefix(bytes).ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        if self.expected.is_empty() { Ok(()) } else { Err(postcard::Error::SerializeBufferFull) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_and_nothing_else_does() {
        let mut buffer = [0; 16];
        let frame: &[u8] = encode(&(300u32, 7u8), &mut buffer).unwrap();
        assert_eq!(frame, [1, 0xac, 0x02, 7]);
        assert_eq!(decode::<(u32, u8)>(frame), Ok((300, 7)));
        assert_eq!(decode::<(u32, u8)>(&[]), Err(Reject::Malformed));
        assert_eq!(decode::<(u32, u8)>(&[2, 0, 0]), Err(Reject::UnknownFormat));
        assert_eq!(decode::<(u32, u8)>(&[1, 0xac]), Err(Reject::Malformed));
        assert_eq!(decode::<(u32, u8)>(&[1, 0xac, 2, 7, 0]), Err(Reject::TrailingBytes));
        assert_eq!(decode::<(u32, u8)>(&[1, 0x80, 0x00, 7]), Err(Reject::NotCanonical));
        assert_eq!(encode(&(300u32, 7u8), &mut [0; 3]).err(), Some(Reject::TooLarge));
    }
}
