//! Frames between device and hub over a socket: four bytes of length, big endian, then the frame.

use std::io::{Read, Result, Write};

/// Longest frame: a signed statement and what goes around it.
const FRAME_BYTES_MAX: usize = 16 * 1024;

/// Writes one.
pub(crate) fn send(mut to: impl Write, frame: &[u8]) -> Result<()> {
    let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
    to.write_all(&[&length, frame].concat())
}

/// Reads one; an error is also the end of the connection.
pub(crate) fn receive(mut from: impl Read) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    assert!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    Ok(frame)
}
