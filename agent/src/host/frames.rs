//! What agent and child say to each other over their socket: lengths first, tensors as raw bytes.
//!
//! ```text
//!  agent ──> child   length u64 · package                                       once
//!  child ──> agent   frame: the verdict, a line of JSON                          once
//!  agent ──> child   frame: answers u8 · inputs, in the order of the signature   each call
//!  child ──> agent   frame: kind u8 · outputs, in the order of the signature, or why not
//!
//!  frame    length u32 · so many bytes             tensors   count u8 · tensor · tensor …
//!  tensor   rank u8 · sizes u32 … · elements       numbers and elements are little-endian
//! ```
//! `answers` is 1 where callers get what comes, 0 in the shadow. Names and types are not sent: they are those of the signature that people signed. Nothing that
//! the child sends is believed: every length is held against what has come, every shape against the
//! signature.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bellwether_protocol::limit::RANK_MAX;
use bellwether_protocol::manifest::TensorSpec;
use bellwether_runtime::{Data, ScoreError, Tensor};

use crate::score::http::BODY_BYTES_MAX;

/// Largest frame either way: the largest body over HTTP, where two characters may stand for eight
/// bytes, and room for shapes.
pub(super) const FRAME_BYTES_MAX: usize = 4 * BODY_BYTES_MAX + 64 * 1024;
/// Room that a buffer has at first: rows of a camera fit, so that a call is one read.
const BUFFER_BYTES: usize = 64 * 1024;
/// Room that a buffer keeps after a large frame.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;
/// Characters of a child's reason that are shown.
const REASON_CHARS_MAX: usize = 400;
const LENGTH_BYTES: usize = 4;

const OUTPUTS: u8 = 0;
const FAILED: u8 = 1;
const CRASHED: u8 = 2;

/// Why nothing more is to be had from the other side.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("it said nothing in time")]
    Silent,
    #[error("it hung up")]
    HungUp,
    #[error("its socket failed: {0}")]
    Socket(io::Error),
    #[error("it sent {0}")]
    Garbled(&'static str),
}

/// A socket and what has come through it of the frame under way.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES], filled: 0 }
    }

    /// Lets [`Connection::receive`] look at its time at least so often.
    pub(super) fn look_every(&self, pause: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(pause))
    }

    /// Sends all of it, by `until` at the latest.
    pub(super) fn send(&mut self, mut bytes: &[u8], until: Option<Instant>) -> Result<(), Broken> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(Broken::HungUp),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(why) => later(why, until)?,
            }
        }
        Ok(())
    }

    /// The length of the next frame, once [`Connection::frame`] has it, by `until` at the latest; a call
    /// after [`Broken::Silent`] goes on waiting for it.
    pub(super) fn receive(&mut self, until: Option<Instant>) -> Result<usize, Broken> {
        let length = loop {
            if let Some(length) = self.length()? {
                let end = LENGTH_BYTES + length;
                match self.filled {
                    filled if filled == end => break length,
                    filled if filled > end => return Err(Broken::Garbled("more than was asked for")),
                    _ => {}
                }
            }
            if self.filled == self.buffer.len() {
                // Room grows with what has come, not with what was announced.
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            match self.stream.read(self.buffer.get_mut(self.filled..).unwrap_or_default()) {
                Ok(0) => return Err(Broken::HungUp),
                Ok(count) => self.filled += count,
                Err(why) => later(why, until)?,
            }
        };
        self.filled = 0;
        Ok(length)
    }

    /// The frame received last, of this length.
    pub(super) fn frame(&self, length: usize) -> &[u8] {
        self.buffer.get(LENGTH_BYTES..LENGTH_BYTES + length).unwrap_or_default()
    }

    /// The length of the frame that is coming, once it is there.
    fn length(&self) -> Result<Option<usize>, Broken> {
        let Some((length, _)) = self.buffer.get(..self.filled).and_then(<[u8]>::split_first_chunk) else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX { Err(Broken::Garbled("a frame that is too large")) } else { Ok(Some(length)) }
    }

    /// Gives back what a large frame took.
    pub(super) fn settle(&mut self) {
        if self.buffer.len() > BUFFER_BYTES_KEPT {
            self.buffer = vec![0; BUFFER_BYTES];
        }
    }
}

/// Whether to try again after this.
fn later(why: io::Error, until: Option<Instant>) -> Result<(), Broken> {
    let kind = why.kind();
    if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        let is_early = until.is_none_or(|until| Instant::now() < until);
        return if is_early { Ok(()) } else { Err(Broken::Silent) };
    }
    if matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
        return Err(Broken::HungUp);
    }
    if kind == ErrorKind::Interrupted { Ok(()) } else { Err(Broken::Socket(why)) }
}

/// Puts a frame around what `fill` appends; false if it is too large, and nothing is there then.
pub(super) fn framed(frame: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
    frame.clear();
    if frame.capacity() > BUFFER_BYTES_KEPT {
        *frame = Vec::new();
    }
    frame.extend([0; LENGTH_BYTES]);
    fill(frame);
    let length = frame.len().saturating_sub(LENGTH_BYTES);
    let (Ok(size), Some(head), true) =
        (u32::try_from(length), frame.first_chunk_mut::<LENGTH_BYTES>(), length <= FRAME_BYTES_MAX)
    else {
        frame.clear();
        return false;
    };
    *head = size.to_le_bytes();
    true
}

/// The inputs of a call, and whether the model answers those who call.
pub(super) fn request(frame: &mut Vec<u8>, answers: bool, inputs: &[&Tensor]) -> Result<(), ScoreError> {
    let fill = |frame: &mut Vec<u8>| {
        frame.push(u8::from(answers));
        put(frame, inputs.iter().copied());
    };
    if framed(frame, fill) {
        return Ok(());
    }
    Err(ScoreError::Failed(format!("the inputs take more than {FRAME_BYTES_MAX} bytes: send fewer rows at once")))
}

/// Reads a call; the error says what is wrong with it.
pub(super) fn call(frame: &[u8], inputs: &[TensorSpec]) -> (bool, Result<Vec<Tensor>, &'static str>) {
    match frame.split_first() {
        Some((answers, rest)) => (*answers != 0, tensors(rest, inputs)),
        None => (false, Err("an empty call")),
    }
}

/// What came of a call.
pub(super) fn response(frame: &mut Vec<u8>, result: &Result<Vec<Tensor>, ScoreError>) {
    let reason = |frame: &mut Vec<u8>, kind, text: &str| {
        let text: String = text.chars().take(REASON_CHARS_MAX).collect();
        framed(frame, |frame| {
            frame.push(kind);
            frame.extend(text.bytes());
        })
    };
    let fits = match result {
        Ok(outputs) => framed(frame, |frame| {
            frame.push(OUTPUTS);
            put(frame, outputs.iter());
        }),
        Err(ScoreError::Crashed(text)) => reason(frame, CRASHED, text),
        Err(ScoreError::Failed(text)) => reason(frame, FAILED, text),
        Err(why) => reason(frame, FAILED, &why.to_string()),
    };
    if !fits {
        reason(frame, FAILED, "the outputs are too large: send fewer rows at once");
    }
}

/// Reads what came of a call: the outputs, or why there are none. The error says what is wrong with
/// the answer itself.
pub(super) fn answer(frame: &[u8], outputs: &[TensorSpec]) -> Result<Result<Vec<Tensor>, ScoreError>, &'static str> {
    let (kind, rest) = frame.split_first().ok_or("an empty answer")?;
    let reason = || {
        let text = String::from_utf8_lossy(rest);
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect()
    };
    match *kind {
        OUTPUTS => tensors(rest, outputs).map(Ok),
        FAILED => Ok(Err(ScoreError::Failed(reason()))),
        CRASHED => Ok(Err(ScoreError::Crashed(reason()))),
        _ => Err("an answer of no known kind"),
    }
}

fn put<'t>(frame: &mut Vec<u8>, tensors: impl ExactSizeIterator<Item = &'t Tensor>) {
    // A signature has at most eight tensors of at most six dimensions; a size beyond 32 bits has no
    // room in a frame, and is told apart by the elements that it lacks.
    frame.push(u8::try_from(tensors.len()).unwrap_or(u8::MAX));
    for tensor in tensors {
        frame.push(u8::try_from(tensor.shape().len()).unwrap_or(u8::MAX));
        for size in tensor.shape() {
            frame.extend(u32::try_from(*size).unwrap_or(u32::MAX).to_le_bytes());
        }
        tensor.data().extend_le_bytes(frame);
    }
}

/// Reads tensors that must be these, and nothing behind them.
fn tensors(mut bytes: &[u8], specs: &[TensorSpec]) -> Result<Vec<Tensor>, &'static str> {
    const SHORT: &str = "tensors that end too early";
    let mut take = |count: usize| {
        let (taken, rest) = bytes.split_at_checked(count).ok_or(SHORT)?;
        bytes = rest;
        Ok::<&[u8], &'static str>(taken)
    };
    if take(1)?.first().map(|count| usize::from(*count)) != Some(specs.len()) {
        return Err("another number of tensors than the model has");
    }
    let mut all = Vec::with_capacity(specs.len());
    for spec in specs {
        let rank = take(1)?.first().map_or(0, |rank| usize::from(*rank));
        if rank != spec.shape.len() || rank > RANK_MAX {
            return Err("a tensor of another rank than the model's");
        }
        let mut shape = Vec::with_capacity(rank);
        for wanted in &spec.shape {
            let size = take(4)?.first_chunk().map_or(0, |size| u32::from_le_bytes(*size));
            if wanted.is_some_and(|wanted| wanted != size) {
                return Err("a tensor of another shape than the model's");
            }
            shape.push(usize::try_from(size).unwrap_or(usize::MAX));
        }
        let elements = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let length = elements.and_then(|count| count.checked_mul(spec.datatype.bytes())).ok_or(SHORT)?;
        let data = Data::from_le_bytes(spec.datatype, take(length)?).ok_or(SHORT)?;
        all.push(Tensor::new(spec.name.clone(), shape, data).map_err(|_| SHORT)?);
    }
    if bytes.is_empty() { Ok(all) } else { Err("more than its tensors") }
}

#[cfg(test)]
mod tests {
    use bellwether_protocol::heapless;
    use bellwether_protocol::manifest::DataType;

    use super::*;

    fn spec(name: &str, datatype: DataType, shape: &[Option<u32>]) -> TensorSpec {
        TensorSpec {
            name: name.parse().unwrap(),
            datatype,
            shape: shape.iter().copied().collect::<heapless::Vec<_, 6>>(),
        }
    }

    fn specs() -> [TensorSpec; 2] {
        [spec("y", DataType::Fp32, &[None, Some(2)]), spec("n", DataType::Int64, &[])]
    }

    fn outputs() -> Vec<Tensor> {
        let y = Tensor::new("y".parse().unwrap(), vec![1, 2], Data::Fp32(vec![0.5, f32::INFINITY])).unwrap();
        vec![y, Tensor::new("n".parse().unwrap(), vec![], Data::Int64(vec![-1])).unwrap()]
    }

    fn pair() -> (UnixStream, Connection) {
        let (one, other) = UnixStream::pair().unwrap();
        other.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        (one, Connection::new(other))
    }

    #[test]
    fn outputs_and_reasons_read_back() {
        let mut frame = Vec::new();
        response(&mut frame, &Ok(outputs()));
        assert_eq!(answer(&frame[4..], &specs()), Ok(Ok(outputs())));
        for why in [ScoreError::Failed("no\tnumber".into()), ScoreError::Crashed("x".repeat(9000))] {
            response(&mut frame, &Err(why.clone()));
            let text = answer(&frame[4..], &specs()).unwrap().unwrap_err().to_string();
            assert!(text.len() < 500 && !text.contains('\t'), "{text}");
            assert_eq!(matches!(why, ScoreError::Crashed(_)), text.contains("crashed"));
        }
    }

    #[test]
    fn an_answer_that_is_not_what_people_signed_is_refused_wherever_it_lies() {
        let mut frame = Vec::new();
        response(&mut frame, &Ok(outputs()));
        let good = frame[4..].to_vec();
        for cut in 0..good.len() {
            assert!(answer(&good[..cut], &specs()).is_err(), "{cut}");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            answer(&bytes, &specs()).map(|_| ())
        };
        assert_eq!(with(0, 9), Err("an answer of no known kind"));
        assert_eq!(with(1, 3), Err("another number of tensors than the model has"));
        assert_eq!(with(2, 200), Err("a tensor of another rank than the model's"));
        // Two billion rows, then two rows, then a width that the model does not have.
        assert_eq!(with(6, 127), Err("tensors that end too early"));
        assert!(with(3, 2).is_err());
        assert_eq!(with(7, 3), Err("a tensor of another shape than the model's"));
        let long = [good, vec![0]].concat();
        assert_eq!(answer(&long, &specs()), Err("more than its tensors"));
    }

    #[test]
    fn a_frame_may_come_in_pieces_and_large_ones_grow_with_what_comes() {
        let (mut child, mut agent) = pair();
        let large = vec![7; 3 * BUFFER_BYTES];
        let length = u32::try_from(large.len()).unwrap().to_le_bytes();
        child.write_all(&length[..2]).unwrap();
        assert!(matches!(agent.receive(Some(Instant::now())), Err(Broken::Silent)));
        child.write_all(&length[2..]).unwrap();
        let sent = large.clone();
        let writer = std::thread::spawn(move || child.write_all(&sent).map(|()| child));
        let length = agent.receive(Some(Instant::now() + Duration::from_secs(9))).unwrap();
        assert_eq!(agent.frame(length), large);
        let mut child = writer.join().unwrap().unwrap();
        child.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(agent.receive(None), Err(Broken::Garbled("a frame that is too large"))));
        assert_eq!(agent.buffer.len(), 4 * BUFFER_BYTES);
    }

    #[test]
    fn whoever_says_more_than_was_asked_for_is_broken_and_so_is_who_hangs_up() {
        let (mut child, mut agent) = pair();
        child.write_all(&[1, 0, 0, 0, 5, 5]).unwrap();
        assert!(matches!(agent.receive(None), Err(Broken::Garbled("more than was asked for"))));
        let (child, mut agent) = pair();
        drop(child);
        assert!(matches!(agent.receive(None), Err(Broken::HungUp)));
        assert!(matches!(agent.send(&[1], None), Err(Broken::HungUp)));
    }
}
